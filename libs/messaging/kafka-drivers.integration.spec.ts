import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { ConfigResourceTypes, Kafka, logLevel } from 'kafkajs';
import { kafkaClients, kafkaIsInstalled, sharedKafka, uniqueName, type SharedKafka } from '../../test/support/kafka';
import { toCloudEvent, type CloudEvent } from './cloud-event';
import { KafkaClient } from './kafka-client';
import type { GroupMember, Reading } from './kafka-driver';
import { KafkaAway, RecordRefused } from './kafka-errors';
import type { Compression, KafkaSettings } from './kafka-settings';
import { partitioner as kafkajsPartitioner } from './kafkajs-driver';
import { partitioner as platformaticPartitioner } from './platformatic-driver';

/** Has each driver do the same on a real broker. Skipped without Java or Maven: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('the drivers', () => {
  let kafka: SharedKafka;
  const members: GroupMember[] = [];

  beforeAll(async () => {
    Logger.overrideLogger(false);
    kafka = await sharedKafka();
  });
  afterEach(() => Promise.all(members.splice(0).map((member) => member.close())));

  const client = (more: Partial<KafkaSettings>) =>
    new KafkaClient({ brokers: kafka.brokers, tls: false, ...more }, 'test');

  async function makeTopic(through: KafkaClient, partitions: number): Promise<string> {
    const topic = uniqueName('events');
    const admin = await through.admin();
    await admin.ensureTopic({ topic, partitions, replication: 1 });
    await admin.close();
    return topic;
  }

  async function alterTopic(topic: string, settings: Readonly<Record<string, string>>): Promise<void> {
    const admin = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
    });
    await admin.disconnect();
  }

  /** Joins a group; joins again while its coordinator is loading. */
  async function join(through: KafkaClient, group: string, topic: string, reading: Partial<Reading>): Promise<void> {
    const nothing = () => undefined;
    for (;;)
      try {
        const whole = { assigned: nothing, records: nothing, rebalancing: nothing, crashed: nothing, ...reading };
        members.push(await through.member(group, topic, whole));
        return;
      } catch {
        await sleep(200);
      }
  }

  async function until(condition: () => boolean): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (!condition()) {
      if (Date.now() > deadline) throw new Error(`Not within 30 s: ${condition.toString()}`);
      await sleep(20);
    }
  }

  /** Asks again while the brokers load the coordinator of a group, which the first question has them make. */
  async function loaded<T>(ask: () => Promise<T>): Promise<T> {
    for (const deadline = Date.now() + 30_000; ;) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof KafkaAway) || Date.now() > deadline) throw error;
        await sleep(50);
      }
    }
  }

  describe.each(kafkaClients)('%s', (library) => {
    it('makes a topic once, and reads and replaces its settings', async () => {
      const through = client({ client: library });
      const topic = await makeTopic(through, 3);
      const admin = await through.admin();
      expect(await admin.hasTopic(topic)).toBe(true);
      expect(await admin.hasTopic('nowhere')).toBe(false);
      expect(await admin.ensureTopic({ topic, partitions: 7, replication: 1 })).toBe(3);
      expect((await admin.topicSettings(topic)).get('retention.ms')).toEqual({ value: '-1', isOwn: true });
      await admin.setTopicSettings(topic, new Map([['retention.bytes', '1000000']]));
      // A broker answers before it has applied what the controller has written.
      let settings = await admin.topicSettings(topic);
      for (const deadline = Date.now() + 30_000; !settings.get('retention.bytes')!.isOwn && Date.now() < deadline;) {
        await sleep(50);
        settings = await admin.topicSettings(topic);
      }
      expect(settings.get('retention.bytes')).toEqual({ value: '1000000', isOwn: true });
      expect(settings.get('retention.ms')).toMatchObject({ isOwn: false });
      expect(await admin.ends(topic)).toEqual(
        new Map([
          [0, 0],
          [1, 0],
          [2, 0],
        ]),
      );
      expect(await loaded(() => admin.committed('nobody', topic))).toEqual(new Map());
      await admin.close();
    });

    it('names the reason for which the brokers refuse a record for good', async () => {
      const through = client({ client: library });
      const topic = await makeTopic(through, 2);
      const refusal = async (settings: Record<string, string>, event: CloudEvent, timestamps = true) => {
        await alterTopic(topic, settings);
        const publisher = await through.publisher(topic, 2);
        const refused = await publisher.send([event], timestamps).catch((error: unknown) => error);
        await publisher.close();
        return refused instanceof RecordRefused ? refused.reason : refused;
      };
      const narrow = { 'message.timestamp.before.max.ms': '1000' };
      const old = { ...anEvent('a', 1), timestamp: Date.now() - 60_000 };
      expect(await refusal({ 'max.message.bytes': '2000' }, anEvent('a', 1, 'x'.repeat(5_000)))).toBe(
        'MESSAGE_TOO_LARGE',
      );
      expect(await refusal(narrow, old)).toBe('INVALID_TIMESTAMP');
      expect(await refusal(narrow, old, false)).toBeUndefined();
    });

    it('goes on where its group has committed, and from the beginning where it has not', async () => {
      const through = client({ client: library });
      const topic = await makeTopic(through, 2);
      const publisher = await through.publisher(topic, 2);
      await publisher.send(Array.from({ length: 20 }, (_, index) => anEvent(`s${index}`, 1)));
      const read = new Map<number, number[]>([
        [0, []],
        [1, []],
      ]);
      const reading: Partial<Reading> = {
        records: (partition, messages) => read.get(partition)!.push(...messages.map(({ offset }) => offset)),
      };
      await join(through, 'continuing', topic, reading);
      await until(() => read.get(0)!.length + read.get(1)!.length === 20);
      const half = Math.floor(read.get(0)!.length / 2);
      await members[0]!.commit(new Map([[0, half]]));
      await members.pop()!.close();
      const [first, second] = [read.get(0)!.length, read.get(1)!.length];
      for (const offsets of read.values()) offsets.length = 0;
      await join(through, 'continuing', topic, reading);
      await until(() => read.get(0)!.length + read.get(1)!.length === 20 - half);
      expect(read.get(0)).toEqual(Array.from({ length: first - half }, (_, index) => half + index));
      expect(read.get(1)).toEqual(Array.from({ length: second }, (_, index) => index));
      await publisher.close();
    });

    it('reads on in other partitions while one is paused', async () => {
      const through = client({ client: library });
      const topic = await makeTopic(through, 2);
      const read = [0, 0];
      await join(through, 'pausing', topic, {
        records: (partition, messages) => {
          read[partition]! += messages.length;
          if (partition === 0) members[0]?.pause(0);
        },
      });
      const publisher = await through.publisher(topic, 2);
      const inPartition = (partition: number) =>
        Array.from({ length: 50 }, (_, index) => `k${index}`)
          .filter((key) => kafkajsPartitioner(2)(key) === partition)
          .slice(0, 5)
          .map((key) => anEvent(key, 1));
      await publisher.send([...inPartition(0), ...inPartition(1)]);
      await until(() => read[0] === 5 && read[1] === 5);
      for (let round = 0; round < 3; round++) await publisher.send([...inPartition(0), ...inPartition(1)]);
      await until(() => read[1] === 20);
      await sleep(500);
      expect(read[0]).toBe(5);
      members[0]!.resume(0);
      await until(() => read[0]! > 5);
      await publisher.close();
    });
  });

  const written: [NonNullable<KafkaSettings['client']>, Compression][] = [
    ['kafkajs', 'gzip'],
    ['kafkajs', 'zstd'],
    ['platformatic', 'gzip'],
    ['platformatic', 'zstd'],
  ];
  const text = 'mail.acme.com '.repeat(1_000);
  async function publishCompressed(topic: string, library: (typeof written)[0][0], compression: Compression) {
    const publisher = await client({ client: library, compression }).publisher(topic, 1);
    await publisher.send([anEvent(`${library}-${compression}`, 1, text)]);
    await publisher.close();
  }

  it('read what the other has compressed', async () => {
    const topic = await makeTopic(client({}), 1);
    for (const [library, compression] of written) await publishCompressed(topic, library, compression);
    expect(await sizeOf(topic)).toBeLessThan((written.length * text.length) / 2);
    for (const library of kafkaClients) {
      const read: string[] = [];
      await join(client({ client: library }), `compressed-${library}`, topic, {
        records: (_partition, messages) => {
          for (const { headers, value } of messages) if (value!.includes(text)) read.push(headers.ce_subject!);
        },
      });
      await until(() => read.length >= written.length);
      expect(read).toEqual(written.map((each) => each.join('-')));
    }
  });

  it('end with an error that is for good at what they cannot decompress', async () => {
    const topic = await makeTopic(client({}), 1);
    await publishCompressed(topic, 'platformatic', 'lz4');
    const read: string[] = [];
    await join(client({ client: 'platformatic' }), 'lz4', topic, {
      records: (_partition, messages) => read.push(...messages.map(({ headers }) => headers.ce_subject!)),
    });
    await until(() => read.length > 0);
    const crashes: Error[] = [];
    await join(client({ client: 'kafkajs' }), 'no-lz4', topic, { crashed: (error) => crashes.push(error) });
    await until(() => crashes.length > 0);
    expect(crashes[0]).not.toBeInstanceOf(KafkaAway);
    expect(crashes[0]!.message).toBe('LZ4 compression not implemented');
  });

  it('share a group while an installation goes from one to the other', async () => {
    const topic = await makeTopic(client({}), 4);
    const assigned = new Map<number, readonly number[]>();
    const read: string[] = [];
    for (const [index, library] of (['kafkajs', 'platformatic', 'kafkajs', 'platformatic'] as const).entries())
      await join(client({ client: library }), 'changing', topic, {
        assigned: (partitions) => assigned.set(index, partitions),
        records: (_partition, messages) => read.push(...messages.map(({ headers }) => headers.ce_id!)),
      });
    const isShared = () => [...assigned.values()].flat().sort().join() === '0,1,2,3' && assigned.size === 4;
    await until(isShared);
    expect([...assigned.values()].map(({ length }) => length)).toEqual([1, 1, 1, 1]);
    const publisher = await client({}).publisher(topic, 4);
    const events = Array.from({ length: 40 }, (_, index) => anEvent(`s${index}`, 1));
    await publisher.send(events);
    await until(() => read.length >= 40);
    expect(new Set(read)).toEqual(new Set(events.map(({ headers }) => headers.ce_id)));
    await publisher.close();
  });

  async function sizeOf(topic: string): Promise<number> {
    const { Admin } = await import('@platformatic/kafka');
    const admin = new Admin({ clientId: 'test', bootstrapBrokers: [...kafka.brokers] });
    const [described] = await admin.describeLogDirs({ topics: [{ name: topic, partitions: [0] }] });
    await admin.close();
    return Number(described!.results[0]!.topics[0]!.partitions[0]!.partitionSize);
  }
});

it('both put a key into the partition that the Java client would', () => {
  const keys = Array.from(
    { length: 2_000 },
    (_, index) => `mdom_cl0${'mvxnscic7xv9szgamnw47l4p'.slice(index % 24)}${index}é`,
  );
  for (const partitions of [1, 6, 12]) {
    expect(keys.map(platformaticPartitioner(partitions))).toEqual(keys.map(kafkajsPartitioner(partitions)));
    // Utils.toPositive(Utils.murmur2("21".getBytes())) is 1973573792 - 2^31 without its sign, by Kafka's UtilsTest.
    expect(kafkajsPartitioner(partitions)('21')).toBe((-973932308 & 0x7fffffff) % partitions);
  }
});

const anEvent = (stream: string, version: number, text = ''): CloudEvent =>
  toCloudEvent({
    position: version,
    stream,
    version,
    type: 'DomainAdded',
    schemaVersion: 1,
    data: { name: 'mail.acme.com', text },
    time: new Date().toISOString(),
    metadata: { actor: 'test', correlationId: 'c' },
  });
