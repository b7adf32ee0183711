import { setTimeout as sleep } from 'node:timers/promises';
import { migrate, openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations } from '@app/event-store';
import { KafkaAway, KafkaClient, type Publisher } from '@app/messaging';
import { HealthProbes } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { Kafka, logLevel } from 'kafkajs';
import type { Pool } from 'pg';
import { checkDelivery, type Known } from '../../test/support/delivery-checker';
import type { KafkaCluster } from '../../local/embedded-kafka';
import { kafkaIsInstalled, testKafka } from '../../test/support/kafka';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { arrivalsOf } from '../../test/support/topic';
import { EventRelay } from './event-relay';

const well = { lost: 0, duplicated: 0, reordered: 0, scattered: 0, invented: 0 };

/** From a real log to a real broker. Skipped where Java or Maven is missing: tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('the event relay', () => {
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;
  let store: EventStore;
  let kafka: KafkaCluster;
  let client: KafkaClient;
  let relays: EventRelay[];
  let topic: string;
  let topics = 0;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    kafka = await testKafka();
    client = new KafkaClient({ brokers: kafka.brokers, tls: false }, 'test');
  }, 120_000);
  afterAll(() => kafka?.destroy());

  beforeEach(async () => {
    database = await testDatabase();
    await migrate(database.url, eventStoreMigrations);
    pool = openPool(database.url, 20);
    log = new EventLog(pool);
    store = new EventStore(pool);
    relays = [];
    topic = `events-${(topics += 1)}`;
  });
  afterEach(async () => {
    await Promise.all(relays.map((relay) => relay.beforeApplicationShutdown()));
    await log.close();
    await pool.end();
    await database.drop();
  }, 30_000);

  /** As a process runs it. */
  function relay(through: Pick<KafkaClient, 'admin' | 'publisher'> = client): EventRelay {
    const settings = { topic, partitions: 6, replication: 1 };
    const made = new EventRelay(pool, log, new HealthProbes(), through as KafkaClient, settings);
    made.onApplicationBootstrap();
    relays.push(made);
    return made;
  }

  /** A client whose publishers tell of each send. */
  const watched = (sent: (publisher: Publisher, ...args: Parameters<Publisher['send']>) => Promise<void>) => ({
    admin: () => client.admin(),
    publisher: async (name: string, partitions: number) => {
      const publisher = await client.publisher(name, partitions);
      const send = publisher.send.bind(publisher);
      const inner = { send, close: () => publisher.close() } as Publisher;
      publisher.send = (...args) => sent(inner, ...args);
      return publisher;
    },
  });

  const versions = new Map<string, number>();
  async function append(stream: string, count = 1): Promise<Known[]> {
    const expectedVersion = versions.get(`${topic} ${stream}`) ?? 0;
    const events = Array.from({ length: count }, () => ({
      ...{ type: 'DomainAdded', schemaVersion: 1, data: { name: 'mail.acme.com' } },
      time: new Date().toISOString(),
    }));
    await store.append({ stream, expectedVersion, events, metadata: { actor: 'test', correlationId: 'c' } });
    versions.set(`${topic} ${stream}`, expectedVersion + count);
    return events.map((_, index) => {
      const version = expectedVersion + index + 1;
      return { id: `${stream}/${version}`, stream, version };
    });
  }

  async function checkpoint(): Promise<number> {
    const { rows } = await pool.query<{ position: string }>('SELECT position FROM checkpoints WHERE name = $1', [
      `event-relay ${topic}`,
    ]);
    return Number(rows[0]?.position ?? 0);
  }
  const caughtUp = (withinMs = 20_000) => until(async () => (await checkpoint()) === (await log.head()), withinMs);

  const arrivals = () => arrivalsOf(kafka.brokers, topic);

  it('publishes each event once, in the order of its stream, and goes on from its checkpoint', async () => {
    const committed: Known[] = [];
    for (let stream = 0; stream < 10; stream++) committed.push(...(await append(`s${stream}`, 7)));
    relay();
    await caughtUp();
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject(well);
    await relays.pop()!.beforeApplicationShutdown();
    for (let stream = 0; stream < 10; stream++) committed.push(...(await append(`s${stream}`)));
    relay();
    await caughtUp();
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject(well);
  }, 60_000);

  it('that dies between an acknowledgement and its checkpoint, at every batch, loses and reorders nothing', async () => {
    const died = new Set<string>();
    const killed = watched(async (publisher, events) => {
      await publisher.send(events);
      const batch = events.map(({ headers }) => headers.ce_id).join(' ');
      if (died.has(batch)) return;
      died.add(batch);
      // Acknowledged, and nobody will ever know.
      throw new KafkaAway('killed');
    });
    relay(killed);
    const committed: Known[] = [];
    for (let round = 0; round < 14; round++) {
      for (let stream = 0; stream < 6; stream++) committed.push(...(await append(`s${stream}`, 1 + (round % 3))));
      await caughtUp(60_000);
    }
    const faults = checkDelivery(committed, await arrivals(), committed, []);
    expect(died.size).toBeGreaterThan(20);
    // Each death costs its batch a second record, at least.
    expect(faults.duplicated).toBeGreaterThanOrEqual(died.size);
    expect(faults).toMatchObject({ ...well, duplicated: faults.duplicated });
  }, 180_000);

  it('moves its checkpoint over acknowledged events alone', async () => {
    let acknowledge = (): void => undefined;
    const held = new Promise<void>((resolve) => (acknowledge = resolve));
    const slow = watched(async (publisher, events) => {
      await publisher.send(events);
      if (events.some(({ key }) => key === 'held')) await held;
    });
    await append('first');
    relay(slow);
    await until(async () => (await checkpoint()) === 1);
    await append('held');
    await append('last');
    await sleep(400);
    expect(await checkpoint()).toBe(1);
    acknowledge();
    await caughtUp();
    expect(await checkpoint()).toBe(3);
  }, 30_000);

  it('publishes the whole log again to a topic that has been taken away', async () => {
    const committed = [...(await append('a', 3)), ...(await append('b', 2))];
    relay();
    await caughtUp();
    await relays.pop()!.beforeApplicationShutdown();
    const admin = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic] });
    while ((await admin.listTopics()).includes(topic)) await sleep(50);
    await admin.disconnect();
    committed.push(...(await append('a', 1)));
    relay();
    await until(async () => (await checkpoint()) === (await log.head()) && relays[0]!.progress().status === 'active');
    expect(checkDelivery(committed, await arrivalsOf(kafka.brokers, topic), committed, [])).toMatchObject(well);
  }, 60_000);

  it('one is active; a stand-by takes over within seconds when it dies', async () => {
    const first = relay();
    await until(() => first.progress().status === 'active');
    const second = relay();
    await until(() => second.progress().status === 'standBy');
    const committed = [...(await append('a', 3))];
    await caughtUp();
    // As a machine that vanishes: the server ends the session of its lock.
    const cut = Date.now();
    await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks
       WHERE locktype = 'advisory' AND granted AND classid = 1819242356 AND database =
         (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    await until(() => [first, second].filter((each) => each.progress().status === 'active').length === 1);
    committed.push(...(await append('a', 2)));
    await caughtUp();
    expect(Date.now() - cut).toBeLessThan(5_000);
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject({ ...well, duplicated: 0 });
  }, 60_000);

  it('waits for a broker that refuses, and then for one that says nothing, holds no more than it must, and catches up', async () => {
    let refused = 0;
    let [away, silent] = [true, true];
    let speak = (): void => undefined;
    const spoken = new Promise<void>((resolve) => (speak = resolve));
    const troubled = {
      ...watched(async (publisher, events) => {
        if (silent) await spoken;
        await publisher.send(events);
      }),
      admin: () => {
        if (!away) return client.admin();
        refused++;
        return Promise.reject(new KafkaAway('nobody listens'));
      },
    };
    let taken = 0;
    const follow = log.follow.bind(log);
    log.follow = async function* (options) {
      for await (const page of follow(options)) {
        taken += page.length;
        yield page;
      }
    };
    const waiting = relay(troubled);
    const committed: Known[] = [];
    for (let stream = 0; stream < 30; stream++) committed.push(...(await append(`s${stream}`, 1_000)));
    await until(() => refused > 2);
    expect(taken).toBe(0);
    away = false;
    await until(() => waiting.progress().status === 'active');
    await until(() => taken >= 5_000);
    await sleep(500);
    // What is in flight, and one page.
    expect(taken).toBeLessThanOrEqual(6_000);
    silent = false;
    speak();
    await caughtUp(60_000);
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject(well);
  }, 120_000);
});

async function until(condition: () => boolean | Promise<boolean>, withinMs = 10_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(10);
  }
}
