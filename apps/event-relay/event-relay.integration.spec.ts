import { setTimeout as sleep } from 'node:timers/promises';
import { openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations } from '@app/event-store';
import { KafkaAway, KafkaClient, messagingMigrations, ParkedMessages, type Publisher } from '@app/messaging';
import { HealthProbes } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { ConfigResourceTypes, Kafka, logLevel, type Admin } from 'kafkajs';
import type { Pool } from 'pg';
import { register } from 'prom-client';
import { checkDelivery, type Known } from '../../test/support/delivery-checker';
import {
  kafkaClientsOfRun,
  kafkaIsInstalled,
  sharedKafka,
  uniqueName,
  type SharedKafka,
} from '../../test/support/kafka';
import { databaseWith, testDatabase, type TestDatabase } from '../../test/support/test-database';
import { arrivalsOf, watchTopic } from '../../test/support/topic';
import { EventRelay } from './event-relay';

const well = { lost: 0, duplicated: 0, reordered: 0, scattered: 0, invented: 0 };

/**
 * Milliseconds within which another team's events arrive while a record is refused, on a machine that does much else;
 * the test prints how long they took, which is less than a second on one that does not.
 */
const arrivesWithinMs = 60_000;

/** Relays from a real log to a real broker. Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip).each(kafkaClientsOfRun)('the event relay on %s', (library) => {
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;
  let store: EventStore;
  let kafka: SharedKafka;
  let client: KafkaClient;
  let relays: EventRelay[];
  let topic: string;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    kafka = await sharedKafka();
    client = new KafkaClient({ client: library, brokers: kafka.brokers, tls: false }, 'test');
  });

  beforeEach(async () => {
    database = await databaseWith([...eventStoreMigrations, ...messagingMigrations]);
    pool = openPool(database.url, 20);
    log = new EventLog(pool);
    store = new EventStore(pool);
    relays = [];
    topic = uniqueName('events');
  });
  afterEach(async () => {
    await Promise.all(relays.map((relay) => relay.beforeApplicationShutdown()));
    await log.close();
    await pool.end();
    await database.drop();
  });

  /** Starts a relay as the app does. */
  function relay(through: Pick<KafkaClient, 'admin' | 'publisher'> = client): EventRelay {
    const settings = { topic, partitions: 6, replication: 1 };
    const made = new EventRelay(pool, log, new HealthProbes(), through as KafkaClient, settings);
    made.onApplicationBootstrap();
    relays.push(made);
    return made;
  }

  /** Gives a client whose publishers call `sent` instead of sending. */
  const watched = (sent: (publisher: Publisher, ...args: Parameters<Publisher['send']>) => Promise<void>) => ({
    admin: () => client.admin(),
    publisher: async (name: string, partitions: number) => {
      const publisher = await client.publisher(name, partitions);
      const send = publisher.send.bind(publisher);
      const inner = { send, close: () => publisher.close() };
      publisher.send = (...args) => sent(inner, ...args);
      return publisher;
    },
  });

  const versions = new Map<string, number>();
  async function append(stream: string, count = 1, { text = '', aheadMs = 0 } = {}): Promise<Known[]> {
    const expectedVersion = versions.get(`${topic} ${stream}`) ?? 0;
    const events = Array.from({ length: count }, () => ({
      type: 'DomainAdded',
      schemaVersion: 1,
      data: { name: 'mail.acme.com', ...(text && { text }) },
      time: new Date(Date.now() + aheadMs).toISOString(),
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
  const caughtUp = (withinMs = 60_000) => until(async () => (await checkpoint()) === (await log.head()), withinMs);

  const arrivals = () => arrivalsOf(kafka.brokers, topic);

  const group = () => `event-relay/${topic}`;
  const parked = () => new ParkedMessages((text, values) => pool.query(text, values));
  const parkedIds = async () => (await parked().list(group())).map(({ message }) => message).sort();
  async function withAdmin<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    return work(admin).finally(() => admin.disconnect());
  }
  const makeTopic = (settings: Readonly<Record<string, string>>) =>
    withAdmin(async (admin) => {
      const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
      await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 6, configEntries }] });
    });
  const settingsOf = () =>
    withAdmin(async (admin) => {
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
      });
      const entries = resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue]);
      return Object.fromEntries(entries) as Record<string, string>;
    });
  /** Alters settings of the topic, beside those that it has of its own. */
  const alterTopic = (settings: Readonly<Record<string, string>>) =>
    withAdmin(async (admin) => {
      const all = { 'retention.ms': '-1', ...settings };
      const configEntries = Object.entries(all).map(([name, value]) => ({ name, value }));
      await admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
      });
    });

  it('publishes each event once, in the order of its stream, and resumes at its checkpoint', async () => {
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
  });

  it('measures how late events are published, and not those that fill an empty topic', async () => {
    const delays = async () => {
      const text = await register.getSingleMetricAsString('sendmux_relay_delay_seconds');
      return ['le="1"', 'le="600"', 'le="\\+Inf"'].map((le) => Number(new RegExp(`${le}.*\\} (\\d+)`).exec(text)?.[1]));
    };
    await append('mdom_a', 3);
    const before = await delays();
    relay();
    await caughtUp();
    expect(await delays()).toEqual(before);
    await append('mdom_a', 2, { aheadMs: -1_000_000 });
    await append('mdom_b', 4, { aheadMs: 5_000 });
    await caughtUp();
    expect(await delays()).toEqual([before[0]! + 4, before[1]! + 4, before[2]! + 4]);
    await Promise.all(relays.splice(0).map((each) => each.beforeApplicationShutdown()));
    await append('mdom_c', 2, { aheadMs: -1_000_000 });
    relay();
    await caughtUp();
    expect(await delays()).toEqual([before[0]! + 4, before[1]! + 4, before[2]! + 6]);
  });

  it('publishes nothing once its database was taken back, also where others have recorded more than was lost', async () => {
    /** Ends all that is connected to the database, runs what needs that, and connects to another one. */
    const reconnected = async (work: () => Promise<TestDatabase>) => {
      await Promise.all(relays.splice(0).map((each) => each.beforeApplicationShutdown()));
      await log.close();
      await pool.end();
      database = await work();
      pool = openPool(database.url, 20);
      log = new EventLog(pool);
      store = new EventStore(pool);
    };
    await append('mdom_a', 3);
    relay();
    await caughtUp();
    const lost = database;
    let copy: TestDatabase | undefined;
    await reconnected(async () => {
      copy = await testDatabase(new URL(database.url).pathname.slice(1));
      return database;
    });
    await append('mdom_b', 2);
    relay();
    await caughtUp();
    await reconnected(() => Promise.resolve(copy!));
    await lost.drop();
    const published = async () => (await arrivals()).map(({ id }) => id).sort();
    const before = await published();
    await append('mdom_c', 6);
    const refusing = relay();
    const faults = () => register.getSingleMetricAsString('sendmux_topic_fault');
    await until(async () => (await faults()).includes(`topic="${topic}",setting="log"} 1`));
    expect(refusing.progress().status).not.toBe('active');
    expect(await published()).toEqual(before);
    expect(await checkpoint()).toBe(3);
  });

  it('that dies between an acknowledgement and its checkpoint, at every batch, loses and reorders nothing', async () => {
    const died = new Set<string>();
    const killed = watched(async (publisher, events) => {
      await publisher.send(events);
      const batch = events.map(({ headers }) => headers.ce_id).join(' ');
      if (died.has(batch)) return;
      died.add(batch);
      // The brokers have acknowledged the batch, but the relay does not learn of it.
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
    // Each death publishes its batch at least twice.
    expect(faults.duplicated).toBeGreaterThanOrEqual(died.size);
    expect(faults).toMatchObject({ ...well, duplicated: faults.duplicated });
  });

  it('moves its checkpoint past acknowledged events only', async () => {
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
  });

  it('publishes the whole log again when the topic was deleted', async () => {
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
  });

  it('one is active; a stand-by takes over when it dies', async () => {
    const first = relay();
    await until(() => first.progress().status === 'active');
    const second = relay();
    await until(() => second.progress().status === 'standBy');
    const committed = [...(await append('a', 3))];
    await caughtUp();
    const holder = async () => {
      const { rows } = await pool.query<{ pid: number }>(
        `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1819242356
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
      return rows[0]?.pid;
    };
    // Ends the session of the lock at the server, as for a machine that vanishes.
    const ended = await holder();
    await pool.query('SELECT pg_terminate_backend($1)', [ended]);
    await until(async () => ![undefined, ended].includes(await holder()));
    await until(() => [first, second].filter((each) => each.progress().status === 'active').length === 1);
    committed.push(...(await append('a', 2)));
    await caughtUp();
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject({ ...well, duplicated: 0 });
  });

  it('N2: parks a record that is too large and the later ones of its key, while another team goes on', async () => {
    const committed = [...(await append('first team', 2)), ...(await append('other team', 2))];
    relay();
    await caughtUp();
    const watch = await watchTopic(kafka.brokers, topic);
    await until(() => committed.every(({ id }) => watch.arrivedAt.has(id)));
    await alterTopic({ 'max.message.bytes': '100000' });
    const large = await append('first team', 1, { text: 'x'.repeat(200_000) });
    const behind = await append('first team', 3);
    const tookMs: number[] = [];
    for (const count of [1, 1, 1, 2]) {
      const events = await append('other team', count);
      const committedAt = performance.now();
      await until(() => events.every(({ id }) => watch.arrivedAt.has(id)), arrivesWithinMs);
      for (const { id } of events) tookMs.push(Math.ceil(watch.arrivedAt.get(id)! - committedAt));
      committed.push(...events);
    }
    await watch.close();
    console.log(
      `N2: while a record is refused, the other team’s events arrive ${tookMs.join(', ')} ms after their commit`,
    );
    expect(Math.max(...tookMs)).toBeLessThan(arrivesWithinMs);
    committed.push(...large, ...behind);
    await caughtUp();
    // All of the other team has arrived, while the record is still refused.
    const early = await arrivals();
    expect(new Set(early.filter(({ stream }) => stream === 'other team').map(({ version }) => version)).size).toBe(7);
    expect(early.filter(({ stream }) => stream === 'first team').every(({ version }) => version <= 2)).toBe(true);
    expect(await parkedIds()).toEqual([...large, ...behind].map(({ id }) => id).sort());
    expect((await parked().find(group(), large[0]!.id))!.error).toContain('MESSAGE_TOO_LARGE');
    expect(relays[0]!.progress().status).toBe('active');

    // A redrive before the cause is mended loses nothing, and is answered.
    await parked().askToRedrive(group(), 'all');
    await until(async () => (await parked().list(group())).every(({ redriveAskedAt }) => redriveAskedAt === null));
    expect((await parked().find(group(), large[0]!.id))!.attempts).toBe(2);
    expect(await parkedIds()).toHaveLength(4);

    // One that waits is asked for: it comes after those before it, and those after it come too.
    await alterTopic({});
    await parked().askToRedrive(group(), [behind[1]!.id]);
    committed.push(...(await append('first team', 2)));
    await until(async () => (await parkedIds()).length === 0);
    committed.push(...(await append('first team', 2)));
    await caughtUp();
    const faults = checkDelivery(committed, await arrivals(), committed, []);
    expect(faults).toMatchObject({ ...well, duplicated: faults.duplicated });
  });

  it('N2: keeps what it has parked when it dies, before the redrive and in the middle of it', async () => {
    await makeTopic({ 'max.message.bytes': '100000', 'retention.ms': '-1' });
    const committed = [...(await append('a', 1)), ...(await append('b', 1, { text: 'x'.repeat(200_000) }))];
    committed.push(...(await append('b', 40)), ...(await append('a', 3)));
    relay();
    await caughtUp();
    expect(await parkedIds()).toHaveLength(41);
    await relays.pop()!.beforeApplicationShutdown();
    committed.push(...(await append('b', 5)));
    await alterTopic({});
    let deaths = 0;
    relay(
      watched(async (publisher, events) => {
        await publisher.send(events);
        // Acknowledged, and not yet noted.
        if (events.some(({ key }) => key === 'b') && (deaths += 1) <= 2) throw new KafkaAway('killed');
      }),
    );
    await caughtUp();
    expect(await parkedIds()).toHaveLength(46);
    await parked().askToRedrive(group(), 'all');
    await until(async () => (await parkedIds()).length === 0);
    committed.push(...(await append('b', 2)));
    await caughtUp();
    expect(deaths).toBeGreaterThan(2);
    const faults = checkDelivery(committed, await arrivals(), committed, []);
    expect(faults).toMatchObject({ ...well, duplicated: faults.duplicated });
  });

  it('N3: an event of a clock two hours ahead arrives in its order, and nobody waits for it', async () => {
    relay();
    const committed = [
      ...(await append('ahead', 1)),
      ...(await append('ahead', 2, { aheadMs: 7_200_000 })),
      ...(await append('right', 2)),
      ...(await append('ahead', 1)),
    ];
    await caughtUp();
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject(well);
    expect(await parkedIds()).toEqual([]);
  });

  it('N3: delivers where the clock of the relay itself is not the brokers’', async () => {
    await makeTopic({ 'message.timestamp.before.max.ms': '1000', 'retention.ms': '-1' });
    const committed = [...(await append('a', 3, { aheadMs: -3_600_000 })), ...(await append('b', 2))];
    relay();
    await caughtUp();
    committed.push(...(await append('a', 3, { aheadMs: -3_600_000 })));
    await caughtUp();
    const faults = checkDelivery(committed, await arrivals(), committed, []);
    expect(faults).toMatchObject({ ...well, duplicated: faults.duplicated });
    expect(await parkedIds()).toEqual([]);
  });

  it('N3: says how far it is behind, also while it cannot publish', async () => {
    const behind = async () => {
      const text = await register.getSingleMetricAsString('sendmux_relay_behind');
      return Number(/^sendmux_relay_behind (\d+)$/m.exec(text)?.[1]);
    };
    await append('a', 5);
    let away = true;
    relay({
      ...client,
      admin: () => (away ? Promise.reject(new KafkaAway('nobody listens')) : client.admin()),
      publisher: (...args) => client.publisher(...args),
    });
    await sleep(300);
    expect(await behind()).toBe(5);
    away = false;
    await caughtUp();
    expect(await behind()).toBe(0);
  });

  it('N4: alters a topic that would lose events, and leaves its other settings', async () => {
    await makeTopic({
      'retention.ms': '604800000',
      'cleanup.policy': 'compact,delete',
      'retention.bytes': '1000000',
      'segment.bytes': '2000000',
    });
    const committed = await append('a', 2);
    relay();
    await caughtUp();
    expect(await settingsOf()).toMatchObject({
      'retention.ms': '-1',
      'cleanup.policy': 'delete',
      'retention.bytes': '-1',
      'segment.bytes': '2000000',
    });
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject(well);
  });

  it('N4: publishes nothing to a topic that would lose events and may not be altered, until it is mended', async () => {
    await makeTopic({ 'retention.ms': '604800000' });
    const committed = await append('a', 2);
    relay({
      publisher: (...args) => client.publisher(...args),
      admin: async () => {
        const admin = await client.admin();
        admin.setTopicSettings = () => Promise.reject(new Error('TOPIC_AUTHORIZATION_FAILED'));
        return admin;
      },
    });
    const faults = () => register.getSingleMetricAsString('sendmux_topic_fault');
    await until(async () =>
      (await faults()).includes(`sendmux_topic_fault{topic="${topic}",setting="retention.ms"} 1`),
    );
    expect(await checkpoint()).toBe(0);
    expect(await arrivals()).toEqual([]);
    await alterTopic({});
    await caughtUp();
    expect(checkDelivery(committed, await arrivals(), committed, [])).toMatchObject(well);
    expect(await faults()).not.toContain(`topic="${topic}"`);
  });

  it('waits for a broker that refuses or does not answer, holds a bounded number of events, and catches up', async () => {
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
    // The limit is the backlog of 5,000 plus one page of the log.
    expect(taken).toBeLessThanOrEqual(6_000);
    silent = false;
    speak();
    await caughtUp(60_000);
    // What a broker does not acknowledge in time, which one on a busy machine may not, is sent again.
    const faults = checkDelivery(committed, await arrivals(), committed, []);
    expect(faults).toMatchObject({ ...well, duplicated: faults.duplicated });
  });
});

async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(10);
  }
}
