import { setTimeout as sleep } from 'node:timers/promises';
import { openPool } from '@app/database';
import { eventId, eventStoreMigrations, type RecordedEvent } from '@app/event-store';
import { Logger, Module, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload, type MicroserviceOptions } from '@nestjs/microservices';
import { Kafka, logLevel, type Producer } from 'kafkajs';
import type { Pool } from 'pg';
import {
  kafkaClientsOfRun,
  kafkaIsInstalled,
  sharedKafka,
  uniqueName,
  type SharedKafka,
} from '../../test/support/kafka';
import { sample } from '../../test/support/sample';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { arrivalsOf } from '../../test/support/topic';
import { toCloudEvent } from './cloud-event';
import { checkDelivery, type Known } from '../../test/support/delivery-checker';
import { EventConsumer } from './event-consumer';
import { KafkaClient } from './kafka-client';
import { KafkaAway } from './kafka-errors';
import { KafkaTransport, type KafkaTransportOptions } from './kafka-transport';
import { partitioner } from './kafkajs-driver';
import { messagingMigrations } from './migrations';
import { ParkedMessages } from './parked-messages';

type Handler = (event: RecordedEvent) => Promise<void> | void;

const partitions = 4;
const partitionOf = partitioner(partitions);
const schemaVersions = { DomainAdded: 1, DomainDeleted: 1 };

/** Needs a real broker. Skipped where Java or Maven is missing: tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip).each(kafkaClientsOfRun)('the Kafka transport on %s', (library) => {
  let database: TestDatabase;
  let pool: Pool;
  let kafka: SharedKafka;
  let client: KafkaClient;
  let producer: Producer;
  let parkedMessages: ParkedMessages;
  let apps: INestMicroservice[];
  let topic: string;
  let group: string;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    database = await databaseWith([...eventStoreMigrations, ...messagingMigrations]);
    pool = openPool(database.url, 20);
    parkedMessages = new ParkedMessages((text, values) => pool.query(text, values));
    kafka = await sharedKafka();
    client = new KafkaClient({ client: library, brokers: kafka.brokers, tls: false }, 'test');
    producer = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).producer({
      createPartitioner: () => () => 0,
    });
    await producer.connect();
  });

  afterAll(async () => {
    await producer?.disconnect();
    await pool?.end();
    await database?.drop();
  });

  beforeEach(async () => {
    apps = [];
    topic = uniqueName('events');
    group = uniqueName('group');
    const admin = await client.admin();
    await admin.ensureTopic({ topic, partitions, replication: 1 });
    await admin.close();
  });

  afterEach(() => Promise.all(apps.map((app) => app.close())));

  let position = 0;
  const event = (stream: string, version: number, more: Partial<RecordedEvent> = {}): RecordedEvent => ({
    position: ++position,
    stream,
    version,
    type: 'DomainAdded',
    schemaVersion: 1,
    data: { name: stream },
    time: new Date().toISOString(),
    metadata: { actor: 'test', correlationId: 'c' },
    ...more,
  });
  /** Publishes events as the relay does. */
  async function publish(...events: RecordedEvent[]): Promise<void> {
    const messages = events.map((each) => {
      const { key, value, headers } = toCloudEvent(each);
      return { key, value, headers: { ...headers }, partition: partitionOf(key) };
    });
    await producer.send({ topic, acks: -1, messages });
  }

  /** Starts a member of the group as a process runs it. */
  async function consumer(handle: Handler, options: Partial<KafkaTransportOptions> = {}) {
    @EventConsumer()
    class Consumer {
      @EventPattern<string>('DomainAdded')
      async added(@Payload() given: RecordedEvent): Promise<void> {
        await handle(given);
      }
    }
    @Module({ controllers: [Consumer] })
    class ConsumerModule {}

    const transport = new KafkaTransport({
      pool,
      client,
      topic,
      group,
      groupId: group,
      schemaVersions,
      backOff: { baseMs: 10, capMs: 50 },
      commitMs: 50,
      endsMs: 200,
      redriveMs: 100,
      attempts: 3,
      ...options,
    });
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(ConsumerModule, { strategy: transport });
    apps.push(app);
    await app.listen();
    const close = async () => {
      apps = apps.filter((each) => each !== app);
      await app.close();
    };
    return { app, transport, close };
  }

  const committed = async () => {
    const admin = await client.admin();
    const offsets = await admin.committed(group, topic);
    await admin.close();
    return [...offsets.values()].reduce((sum, offset) => sum + offset, 0);
  };
  const parked = () => parkedMessages.list(group);

  it('hands over each event with a handler, as it was recorded, and another member goes on from there', async () => {
    const given = [event('a', 1), event('b', 1), event('a', 2, { type: 'DomainDeleted' }), event('a', 3)];
    await publish(...given);
    const seen: RecordedEvent[] = [];
    const { close } = await consumer((each) => void seen.push(each));
    await until(() => seen.length === 3);
    expect(seen.filter(({ stream }) => stream === 'a')).toEqual([given[0], given[3]]);
    expect(seen.filter(({ stream }) => stream === 'b')).toEqual([given[1]]);
    await close();
    expect(await committed()).toBe(4);
    const later: string[] = [];
    await consumer((each) => void later.push(eventId(each)));
    await publish(event('a', 4));
    await until(() => later.length === 1);
    expect(later).toEqual(['a/4']);
  });

  it('keeps the order of every stream through failures, and holds up no other', async () => {
    const streams = Array.from({ length: 20 }, (_, index) => `s${index}`);
    const given = [1, 2, 3, 4, 5].flatMap((version) => streams.map((stream) => event(stream, version)));
    await publish(...given);
    const seen: string[] = [];
    const failed = new Set<string>();
    await consumer(async (each) => {
      await sleep(Math.random() * 3);
      const id = eventId(each);
      if (each.position % 3 === 0 && !failed.has(id)) {
        failed.add(id);
        throw new Error('once');
      }
      seen.push(id);
    });
    await until(() => seen.length === given.length);
    for (const stream of streams)
      expect(seen.filter((id) => id.startsWith(`${stream}/`))).toEqual([1, 2, 3, 4, 5].map((n) => `${stream}/${n}`));
    expect(await parked()).toEqual([]);
  });

  it('commits nothing that is not done: what was being handled at a crash comes again', async () => {
    await publish(event('a', 1), event('a', 2));
    let begun = 0;
    const { close } = await consumer(
      (each) => (begun++, each.version === 1 ? undefined : new Promise<void>(() => undefined)),
      { closeWithinMs: 100 },
    );
    await until(() => begun === 2);
    // A handler that never ends looks the same as a process that died in it.
    await close();
    const seen: string[] = [];
    await consumer((each) => void seen.push(eventId(each)));
    await until(() => seen.length > 0);
    expect(seen).toEqual(['a/2']);
  });

  describe('parks, with its error, and goes on after', () => {
    const cases: [string, () => Record<string, unknown>, Partial<{ type: string | null }>, RegExp][] = [
      ['bad JSON', () => ({ value: '{"name":' }), { type: 'DomainAdded' }, /The value is not JSON/],
      ['no value', () => ({ value: null }), { type: 'DomainAdded' }, /no value/],
      ['no headers at all', () => ({ headers: {} }), { type: null }, /no header ce_specversion/],
      ['a key and a text, of whoever', () => ({ headers: {}, value: '\0\u00ff' }), { type: null }, /no header/],
    ];
    it.each(cases)('%s', async (_, change, shown, why) => {
      const { key, value, headers } = toCloudEvent(event('a', 1));
      const partition = partitionOf('a');
      await producer.send({ topic, messages: [{ key, value, headers: { ...headers }, partition, ...change() }] });
      await publish(event('a', 2));
      const seen: string[] = [];
      await consumer((each) => void seen.push(eventId(each)));
      await until(() => seen.length === 1);
      expect(seen).toEqual(['a/2']);
      const [message, ...others] = await parked();
      expect(others).toEqual([]);
      expect(message).toMatchObject({ message: `${topic}/${partition}/0`, event: null, attempts: 1, ...shown });
      expect(message!.raw).toMatchObject({ topic, partition, offset: 0 });
      expect(message!.error).toMatch(why);
      await until(async () => (await committed()) === 2);
    });

    it('whatever stands in a header, and goes on', async () => {
      const { key, value, headers } = toCloudEvent(event('a', 1));
      const odd = ['a\0b', 'x'.repeat(10_000), '', Buffer.from([0xff, 0xfe, 0x80]), 'ä'];
      const names = Object.keys(headers).filter((name) => name.startsWith('ce_'));
      const messages = names.flatMap((name) =>
        odd.map((text) => ({ key, value, headers: { ...headers, [name]: text }, partition: partitionOf('a') })),
      );
      // These ids agree with the other headers, odd as they are, and become the names of parked messages.
      for (const text of ['mdom_a\0b', `mdom_${'x'.repeat(6_000)}`])
        messages.push({
          key,
          value,
          partition: partitionOf('a'),
          headers: { ...headers, ce_subject: text, ce_id: `${text}/1`, ce_type: 'com.sendmux.DomainMoved' },
        });
      await producer.send({ topic, messages });
      await publish(event('a', 2));
      const seen: string[] = [];
      const fatal: unknown[] = [];
      await consumer((each) => void seen.push(eventId(each)), { onFatal: (error) => void fatal.push(error) });
      await until(() => seen.includes('a/2'));
      expect(fatal).toEqual([]);
      await until(async () => (await committed()) === messages.length + 1);
      // Headers that are not needed to name the event (ce_source, ce_partitionkey) may have any value.
      expect(new Set(seen)).toEqual(new Set(['a/1', 'a/2']));
      expect((await parked()).length).toBeGreaterThan(names.length);
    });

    it('an event of a type or a version that this release does not know, which a newer one redrives', async () => {
      const [unknown, newer] = [event('a', 1, { type: 'DomainMoved' }), event('b', 1, { schemaVersion: 2 })];
      await publish(unknown, newer, event('a', 2));
      const seen: string[] = [];
      const { close } = await consumer((each) => void seen.push(eventId(each)));
      await until(async () => seen.length === 1 && (await parked()).length === 2);
      const messages = await parked();
      expect(messages.map(({ message }) => message).sort()).toEqual(['a/1', 'b/1']);
      expect(messages.find(({ message }) => message === 'a/1')).toMatchObject({ event: unknown, type: 'DomainMoved' });
      expect(messages.find(({ message }) => message === 'b/1')!.error).toMatch(
        /schema version 2; this release knows up/,
      );
      await close();

      // Starts a release that knows both.
      await consumer((each) => void seen.push(eventId(each)), { schemaVersions: { DomainAdded: 2, DomainMoved: 1 } });
      expect((await parkedMessages.askToRedrive(group, 'all')).sort()).toEqual(['a/1', 'b/1']);
      await until(async () => (await parked()).length === 0);
      // No handler takes DomainMoved here. This release knows the type, so the event is for others. A group that is
      // rebalanced meanwhile delivers an event again.
      expect([...new Set(seen)]).toEqual(['a/2', 'b/1']);
    });

    it('an event whose handler throws; redriven, it stays while that lasts, and is gone when it succeeds', async () => {
      await publish(event('a', 1), event('a', 2));
      const seen: string[] = [];
      let broken = true;
      await consumer((each) => {
        if (each.version === 1 && broken) throw new Error('this one is poison');
        seen.push(eventId(each));
      });
      await until(async () => seen.length === 1 && (await parked()).length === 1);
      expect(seen).toEqual(['a/2']);
      expect(await parked()).toMatchObject([{ message: 'a/1', attempts: 3, raw: null, redriveAskedAt: null }]);

      await parkedMessages.askToRedrive(group, ['a/1']);
      await until(async () => (await parked())[0]!.attempts === 4);
      expect(await parked()).toMatchObject([{ message: 'a/1', redriveAskedAt: null }]);
      expect((await parked())[0]!.error).toMatch(/^Error: this one is poison\n/);

      broken = false;
      await parkedMessages.askToRedrive(group, ['a/1']);
      await until(async () => (await parked()).length === 0);
      expect(seen).toEqual(['a/2', 'a/1']);
    });
  });

  it('pauses a partition of which too much waits, and holds no more than it must', async () => {
    const given = Array.from({ length: 5_000 }, (_, index) => event('a', index + 1));
    for (let first = 0; first < given.length; first += 500) await publish(...given.slice(first, first + 500));
    let finish = (): void => undefined;
    const held = new Promise<void>((resolve) => (finish = resolve));
    const seen: string[] = [];
    const pauses: number[] = [];
    const counting = {
      admin: () => client.admin(),
      member: async (...args: Parameters<KafkaClient['member']>) => {
        const member = await client.member(...args);
        const pause = member.pause.bind(member);
        member.pause = (partition) => (pauses.push(partition), pause(partition));
        return member;
      },
    };
    const { transport } = await consumer(
      async (each) => {
        await held;
        seen.push(eventId(each));
      },
      { client: counting },
    );
    await until(() => pauses.length > 0);
    await sleep(1_000);
    expect(seen).toEqual([]);
    expect(() => transport.assertProgress(500)).toThrow(/stands at offset 0 of 5000 in partition \d since/);
    expect(() => transport.assertProgress()).not.toThrow();
    finish();
    await until(() => seen.length === given.length);
    expect(seen).toEqual(given.map(eventId));
    await until(async () => (await committed()) === given.length);
    expect(() => transport.assertProgress(500)).not.toThrow();
  });

  it('waits for its topic', async () => {
    const waiting = uniqueName('later');
    const seen: string[] = [];
    const { transport } = await consumer((each) => void seen.push(eventId(each)), { topic: waiting });
    await sleep(800);
    expect(() => transport.assertJoined()).toThrow(/has no place in its group/);
    expect(() => transport.assertProgress(500)).not.toThrow();
    const admin = await client.admin();
    await admin.ensureTopic({ topic: waiting, partitions, replication: 1 });
    await admin.close();
    topic = waiting;
    await publish(event('a', 1));
    await until(() => seen.length === 1);
    expect(() => transport.assertJoined()).not.toThrow();
  });

  it('reads a topic from its beginning that was deleted and created again', async () => {
    const seen: string[] = [];
    const { transport } = await consumer((each) => void seen.push(eventId(each)));
    await publish(...[1, 2, 3, 4].map((version) => event('a', version)));
    await until(async () => seen.length === 4 && (await committed()) === 4);
    const raw = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).admin();
    await raw.connect();
    await raw.deleteTopics({ topics: [topic] });
    await until(async () => !(await raw.listTopics()).includes(topic));
    await raw.disconnect();
    const admin = await client.admin();
    // A broker that has just deleted a topic may not know the new one at once.
    const isCreated = () =>
      admin.ensureTopic({ topic, partitions, replication: 1 }).then(
        () => true,
        (error: unknown) => {
          if (error instanceof KafkaAway) return false;
          throw error;
        },
      );
    await until(isCreated);
    await admin.close();
    await publish(event('a', 5), event('a', 6));
    await until(() => seen.length === 6);
    expect(seen).toEqual([1, 2, 3, 4, 5, 6].map((version) => `a/${version}`));
    expect(() => transport.assertProgress()).not.toThrow();
  });

  it('joins again after a crash of its client that passes, and ends after one that does not', async () => {
    const readings: Parameters<KafkaClient['member']>[2][] = [];
    const fatal: unknown[] = [];
    const spied = {
      admin: () => client.admin(),
      member: (...args: Parameters<KafkaClient['member']>) => (readings.push(args[2]), client.member(...args)),
    };
    const seen: string[] = [];
    const { transport } = await consumer((each) => void seen.push(eventId(each)), {
      client: spied,
      onFatal: (error: unknown) => void fatal.push(error),
    });
    await until(() => joined(transport));
    readings[0]!.crashed(new KafkaAway('the broker went away'));
    await until(() => readings.length === 2 && joined(transport));
    await publish(event('a', 1));
    await until(() => seen.length === 1);
    expect(fatal).toEqual([]);
    const refused = new Error('Not authorized to access group');
    readings[1]!.crashed(refused);
    await until(() => fatal.length === 1);
    expect(fatal).toEqual([refused]);
    await sleep(500);
    expect(readings).toHaveLength(2);
  });

  it('is not alive while it receives nothing although there are records to read', async () => {
    // A client that has stopped for good without reporting it, as kafkajs can.
    const deaf = {
      admin: () => client.admin(),
      member: (groupId: string, name: string, reading: Parameters<KafkaClient['member']>[2]) =>
        client.member(groupId, name, { ...reading, records: () => undefined }),
    };
    const { transport } = await consumer(() => undefined, { client: deaf });
    await until(() => joined(transport));
    await sleep(700);
    expect(() => transport.assertProgress(500)).not.toThrow();
    await publish(event('a', 1));
    await sleep(1_000);
    expect(() => transport.assertProgress(500)).toThrow(/stands at offset 0 of 1 in partition/);
  });

  it('is not alive when it makes no progress, although the question about offsets gets no answer', async () => {
    const mute = {
      admin: async () => Object.assign(await client.admin(), { ends: () => new Promise<never>(() => undefined) }),
      member: (...args: Parameters<KafkaClient['member']>) => client.member(...args),
    };
    await publish(event('a', 1));
    const { transport } = await consumer(() => new Promise<void>(() => undefined), {
      client: mute,
      closeWithinMs: 100,
    });
    await until(() => joined(transport));
    await sleep(1_500);
    expect(() => transport.assertProgress(1_000)).toThrow(/stands at offset 0 of 1 in partition/);
  });

  it('ends in time while messages are redriven, and tries no more of them', async () => {
    const given = Array.from({ length: 50 }, (_, index) => event('a', index + 1));
    for (const each of given) {
      const what = { message: eventId(each), type: each.type, event: each, raw: null };
      await parkedMessages.park(group, what, new Error('once'), 5);
    }
    await parkedMessages.askToRedrive(group, 'all');
    const seen: string[] = [];
    const { close } = await consumer(async (each) => {
      seen.push(eventId(each));
      await sleep(50);
    });
    await until(() => seen.length === 5);
    await close();
    expect(seen).toEqual(given.slice(0, seen.length).map(eventId));
    expect(seen.length).toBeLessThan(10);
    expect(await parked()).toHaveLength(50 - seen.length);
  });

  it('through a rebalance every two seconds loses, reorders and leaves out nothing', async () => {
    const seconds = sample(10, 60);
    const handled: Known[] = [];
    const handle: Handler = async ({ stream, version }) => {
      await sleep(Math.random() * 3);
      handled.push({ id: `${stream}/${version}`, stream, version });
    };
    const steady = await consumer(handle);
    await until(() => joined(steady.transport));
    const sent: RecordedEvent[] = [];
    const end = Date.now() + seconds * 1_000;
    const publishing = (async () => {
      for (let version = 1; Date.now() < end; version++) {
        const events = Array.from({ length: 20 }, (_, index) => event(`s${index}`, version));
        await publish(...events);
        sent.push(...events);
        await sleep(50);
      }
    })();
    let rebalances = 0;
    for (let other = await consumer(handle); Date.now() < end; other = await consumer(handle)) {
      await sleep(1_000);
      await other.close();
      rebalances += 2;
      await sleep(1_000);
    }
    await publishing;
    await until(async () => (await committed()) === sent.length);
    const known = sent.map(({ stream, version }) => ({ id: `${stream}/${version}`, stream, version }));
    expect(rebalances).toBeGreaterThan(seconds / 3);
    expect(checkDelivery(known, await arrivalsOf(kafka.brokers, topic), handled, [])).toEqual({
      lost: 0,
      duplicated: 0,
      reordered: 0,
      scattered: 0,
      invented: 0,
      unseen: 0,
      handledOutOfOrder: 0,
      repeatedEffects: 0,
    });
    expect(await parked()).toEqual([]);
  });

  const joined = (transport: KafkaTransport) => {
    try {
      transport.assertJoined();
      return true;
    } catch {
      return false;
    }
  };
});

async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(10);
  }
}
