/**
 * Measures the way of events over Kafka, on one real broker and one embedded PostgreSQL.
 *
 * - relay: from the log to the topic, as `apps/event-relay` does it, with each client library, against a raw kafkajs
 *   producer that sends the same batches (idempotent, acks=all), prepared beforehand. All run in turn; the results are
 *   ratios.
 * - group: a member of a group reads what the relay has published, with each client library, in turn.
 * - lag: from the commit of an event, at 1,000 per second, to the handler of a consumer, with each client library; the
 *   relay is a process of its own.
 * - POST: the gateway's POST /domains with provisioning on Kafka, against the same on the log; both are whole systems
 *   with the sandbox, loaded in turn.
 *
 *     node dist/bench/kafka.js [--rounds 5] [--events 40000] [--seconds 10] [--connections 16]
 */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { cpus } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Logger } from '@nestjs/common';
import autocannon from 'autocannon';
import { Kafka, logLevel, Partitioners } from 'kafkajs';
import type { Pool } from 'pg';
import { migrate, openPool } from '@app/database';
import { EventLog, EventStore, type NewEvent, type RecordedEvent } from '@app/event-store';
import { KafkaAway, KafkaClient, LogReader, toCloudEvent, type GroupMember } from '@app/messaging';
import { newId } from '@app/runtime';
import { spawnWithParent } from '../local/spawn-with-parent';
import { serviceTables } from '../apps/cli/migrations';
import { PublishQueue } from '../apps/event-relay/publish-queue';
import { kafkaClients, kafkaIsInstalled, testKafka, type KafkaClientName } from '../test/support/kafka';
import { freePortBlock, startSystem, type System } from '../test/support/processes';
import globalSetup from '../test/support/global-setup';
import globalTeardown from '../test/support/global-teardown';
import { testDatabase } from '../test/support/test-database';
import { median, ratioText, report } from './figure';

const partitions = 12;
const count = (number: number): string => Math.round(number).toLocaleString('en');

const newEvent = (): NewEvent => ({
  type: 'DomainAdded',
  schemaVersion: 1,
  time: new Date().toISOString(),
  data: { name: 'mail.acme.com', team: 'team_abc1234567', deadline: new Date().toISOString(), note: 'x'.repeat(150) },
});
const metadata = { actor: 'key_bench', requestId: 'req_bench', correlationId: 'req_bench' };

async function topicOf(client: KafkaClient): Promise<string> {
  const topic = `bench-${randomUUID()}`;
  const admin = await client.admin();
  await admin.ensureTopic({ topic, partitions, replication: 1 });
  await admin.close();
  return topic;
}

const nothingRefused = {
  isWaiting: () => false,
  wait: () => Promise.resolve(),
  park: (_event: unknown, refusal: Error) => Promise.reject(refusal),
  redrive: () => Promise.resolve(false),
};

/** Measures events per second from the log to a topic of its own; collects the sizes of the batches. */
async function relayed(
  pool: Pool,
  log: EventLog,
  client: KafkaClient,
  topic: string,
  batches: number[],
): Promise<number> {
  const publisher = await client.publisher(topic, partitions);
  const total = await log.head();
  const begin = performance.now();
  const reader: LogReader = new LogReader({
    pool,
    log,
    name: topic,
    startFrom: 'beginning',
    wants: () => true,
    open: ({ after, lose }) =>
      new PublishQueue({
        after,
        refused: nothingRefused,
        send: (events) => (batches.push(events.length), publisher.send(events)),
        broken: lose,
      }),
  });
  reader.start();
  while (reader.progress().position < total) await delay(1);
  const seconds = (performance.now() - begin) / 1000;
  await reader.close();
  await publisher.close();
  return total / seconds;
}

/** Measures events per second of a bare producer, with the same events in the same batches. */
async function produced(
  brokers: readonly string[],
  client: KafkaClient,
  events: readonly RecordedEvent[],
  batches: readonly number[],
): Promise<number> {
  const topic = await topicOf(client);
  const producer = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).producer({
    idempotent: true,
    createPartitioner: Partitioners.DefaultPartitioner,
  });
  await producer.connect();
  const messages = events.map(toCloudEvent).map(({ key, value, headers }) => ({ key, value, headers: { ...headers } }));
  let sent = 0;
  const begin = performance.now();
  for (const length of batches)
    await producer.send({ topic, acks: -1, messages: messages.slice(sent, (sent += length)) });
  const seconds = (performance.now() - begin) / 1000;
  await producer.disconnect();
  return sent / seconds;
}

async function benchRelay(brokers: readonly string[], rounds: number, events: number): Promise<void> {
  const database = await testDatabase();
  await migrate(database.url, serviceTables);
  const pool = openPool(database.url, 8);
  const log = new EventLog(pool);
  const store = new EventStore(pool);
  const streams = Array.from({ length: 1_000 }, () => newId('mdom'));
  await Promise.all(
    streams.map((stream) =>
      store.append({
        stream,
        expectedVersion: 0,
        metadata,
        events: Array.from({ length: events / streams.length }, newEvent),
      }),
    ),
  );
  const recorded: RecordedEvent[] = [];
  for await (const page of log.follow({ after: 0, signal: new AbortController().signal })) {
    recorded.push(...page);
    if (recorded.length === events) break;
  }
  const clients = kafkaClients.map((client) => new KafkaClient({ client, brokers, tls: false }, 'bench'));
  const runs = kafkaClients.map(() => ({ relay: [] as number[], group: [] as number[] }));
  const raw: number[] = [];
  let batches: number[] = [];
  // The first round is the warm-up.
  for (let round = -1; round < rounds; round++) {
    for (const [index, client] of clients.entries()) {
      batches = [];
      const topic = await topicOf(client);
      const relay = await relayed(pool, log, client, topic, batches);
      const group = await readAll(client, topic, events);
      if (round >= 0) runs[index]!.relay.push(relay);
      if (round >= 0) runs[index]!.group.push(group);
    }
    const theirs = await produced(brokers, clients[0]!, recorded, batches);
    if (round >= 0) raw.push(theirs);
  }
  console.log(`raw producer ${count(median(raw))} events/s, kafkajs`);
  for (const [index, library] of kafkaClients.entries()) {
    const { relay, group } = runs[index]!;
    const of = (own: readonly number[], other: readonly number[]) => own.map((each, at) => each / other[at]!);
    const toRaw = report(`relay, ${library}, to a raw producer`, of(relay, raw));
    console.log(`relay        ${count(median(relay))} events/s, ${library}   of the raw producer ${toRaw}`);
    console.log(
      `group        ${count(median(group))} events/s, ${library}   of ${kafkaClients[0]} ${ratioText(of(group, runs[0]!.group))}`,
    );
  }
  console.log(`             ${batches.length} sends of ${median(batches)} events`);
  await log.close();
  await pool.end();
  await database.drop();
}

/** Measures events per second that a member of a group reads, from the first one to the last. */
async function readAll(client: KafkaClient, topic: string, events: number): Promise<number> {
  let [read, begin] = [0, 0];
  const readers = await joined(client, topic, () => {
    if ((read += 1) === 1) begin = performance.now();
  });
  while (read < events) await delay(1);
  const seconds = (performance.now() - begin) / 1000;
  await readers.close();
  return read / seconds;
}

async function benchLag(library: KafkaClientName, brokers: readonly string[], seconds: number): Promise<void> {
  const database = await testDatabase();
  await migrate(database.url, serviceTables);
  const pool = openPool(database.url, 8);
  const store = new EventStore(pool);
  const topic = `bench-${randomUUID()}`;
  const relay = await startRelay(library, database.url, brokers, topic);
  const client = new KafkaClient({ client: library, brokers, tls: false }, 'bench');
  const committedAt = new Map<string, number>();
  const lags = new Map<string, number>();
  const readers = await joined(client, topic, (subject) => {
    const at = committedAt.get(subject);
    // The record may arrive before the answer to its own commit. A consumer that joins again reads it again.
    if (!lags.has(subject)) lags.set(subject, at === undefined ? 0 : performance.now() - at);
  });
  const total = seconds * 1_000;
  const begin = performance.now();
  let failure: Error | undefined;
  for (let appended = 0; appended < total;) {
    const due = Math.min(total, Math.floor(performance.now() - begin));
    for (; appended < due; appended++) {
      const stream = newId('mdom');
      void store
        .append({ stream, expectedVersion: 0, events: [newEvent()], metadata })
        .then(() => committedAt.set(stream, performance.now()))
        .catch((error: Error) => (failure = error));
    }
    await delay(1);
  }
  while (lags.size < total) {
    if (failure) throw failure;
    if (relay.exitCode !== null) throw new Error(`event-relay has ended with status ${relay.exitCode}`);
    await delay(5);
  }
  await readers.close();
  relay.kill('SIGKILL');
  // The first second is the warm-up.
  const steady = [...lags.values()].slice(1_000).sort((a, b) => a - b);
  const at = (share: number) => `${steady[Math.floor(steady.length * share)]!.toFixed(1)} ms`;
  console.log(
    `lag          ${count(total / seconds)} events/s, ${library}, commit to consumer: p50 ${at(0.5)}, p99 ${at(0.99)}, most ${at(0.9999)}`,
  );
  await pool.end();
  await database.drop();
}

/**
 * Reads a topic in a consumer group of its own; resolves when it has its partitions. Joins again on errors after which
 * Kafka asks to retry, such as GROUP_LOAD_IN_PROGRESS of a coordinator that has just started.
 */
async function joined(
  client: KafkaClient,
  topic: string,
  heard: (subject: string) => void,
): Promise<{ close(): Promise<void> }> {
  const group = `bench-${randomUUID()}`;
  let member: Promise<GroupMember> | undefined;
  let closing = false;
  let waiting = false;
  await new Promise<void>((assigned, failed) => {
    const join = () => {
      waiting = false;
      if (closing) return;
      member = client.member(group, topic, {
        assigned: () => assigned(),
        rebalancing: () => undefined,
        crashed: again,
        records: (_, messages) => messages.forEach(({ headers }) => heard(headers.ce_subject!)),
      });
      member.catch(again);
    };
    const again = (error: Error) => {
      if (!(error instanceof KafkaAway)) return failed(error);
      if (!waiting) setTimeout(join, 200);
      waiting = true;
    };
    join();
  });
  return {
    close: async () => {
      closing = true;
      await (await member)?.close();
    },
  };
}

async function startRelay(
  library: KafkaClientName,
  url: string,
  brokers: readonly string[],
  topic: string,
): Promise<ChildProcess> {
  const port = await freePortBlock();
  const relay = spawnWithParent([resolve(__dirname, '../apps/event-relay/main.js')], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: process.env.PATH,
      PORT: String(port),
      LOG_LEVEL: 'error',
      SENDMUX_DATA_DIR: '/nonexistent',
      DATABASE_URL: url,
      KAFKA_BROKERS: brokers.join(','),
      KAFKA_TOPIC: topic,
      KAFKA_CLIENT: library,
      MAIL_SERVER_DATABASE_URL: url,
      SMTP_URL: 'smtp://127.0.0.1:1',
      DOH_RESOLVERS: 'http://127.0.0.1:1/dns-query',
    },
  });
  const ready = () =>
    fetch(`http://127.0.0.1:${port + 4}/health/ready`).then(
      ({ status }) => status === 200,
      () => false,
    );
  while (!(await ready())) {
    if (relay.exitCode !== null) throw new Error(`event-relay has ended with status ${relay.exitCode}`);
    await delay(50);
  }
  return relay;
}

async function benchPost(brokers: readonly string[], rounds: number, connections: number): Promise<void> {
  const env = { SES_CALLS_PER_SECOND: '10000', RATE_LIMIT_PER_MINUTE: '10000000', LOG_LEVEL: 'warn' };
  const systems: { system: System; key: string }[] = [];
  for (const options of [{ env }, { env, brokers }]) {
    const system = await startSystem(options);
    systems.push({ system, key: (await system.team()).key });
  }
  let names = 0;
  const load = async ({ system, key }: (typeof systems)[number]): Promise<autocannon.Result> => {
    const result = await autocannon({
      url: `http://127.0.0.1:${system.port}/api/v1/domains`,
      connections,
      duration: 3,
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      requests: [{ setupRequest: (it) => ({ ...it, body: JSON.stringify({ domain: `b${++names}.acme.com` }) }) }],
    });
    if (result['2xx'] === 0) throw new Error(`POST: ${result.non2xx} other statuses, ${result.errors} errors`);
    if (result.non2xx > 0 || result.errors > 0)
      console.log(`  (POST: ${result.non2xx} other statuses, ${result.errors} errors)`);
    return result;
  };
  const [onLog, onKafka] = systems as [(typeof systems)[number], (typeof systems)[number]];
  await load(onLog);
  await load(onKafka);
  const runs: { log: autocannon.Result; kafka: autocannon.Result }[] = [];
  for (let round = 0; round < rounds; round++) {
    if (round % 2) runs.push({ log: await load(onLog), kafka: await load(onKafka) });
    else {
      const kafka = await load(onKafka);
      runs.push({ log: await load(onLog), kafka });
    }
  }
  const rate = (which: 'log' | 'kafka') => count(median(runs.map((run) => run[which].requests.average)));
  const p50 = (which: 'log' | 'kafka') => median(runs.map((run) => run[which].latency.p50));
  const ratio = report(
    'POST, on Kafka, to the log',
    runs.map(({ log, kafka }) => kafka.requests.average / log.requests.average),
  );
  console.log(
    `POST         ${rate('log')} log/s   ${rate('kafka')} Kafka/s   ratio ${ratio}   ` +
      `p50 ${p50('log')} and ${p50('kafka')} ms`,
  );
  for (const { system } of systems) await system.end();
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      rounds: { ...text, default: '5' },
      events: { ...text, default: '40000' },
      seconds: { ...text, default: '10' },
      connections: { ...text, default: '16' },
    },
  });
  if (!kafkaIsInstalled()) {
    console.log('The bench of Kafka needs Java and Maven: sudo tools/install-counterparts');
    return;
  }
  Logger.overrideLogger(false);
  const [rounds, connections] = [Number(values.rounds), Number(values.connections)];
  await globalSetup();
  const kafka = await testKafka();
  try {
    console.log(
      `Kafka 4.4.0 (one broker, ${partitions} partitions), kafkajs 2.2.4, @platformatic/kafka 2.12.1, PostgreSQL 18, Node ${process.versions.node}, ` +
        `${cpus().length} × ${cpus()[0]?.model}; medians of ${rounds} rounds\n`,
    );
    await benchRelay(kafka.brokers, rounds, Number(values.events));
    for (const library of kafkaClients) await benchLag(library, kafka.brokers, Number(values.seconds));
    await benchPost(kafka.brokers, rounds, connections);
  } finally {
    await kafka.destroy();
    await globalTeardown();
  }
}

void main();
