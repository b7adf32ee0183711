/**
 * Measures webhooks on one embedded PostgreSQL with fsync on: the process of `apps/webhooks`, and endpoints that answer
 * 204 in a process of their own.
 *
 * - deliveries: what waits is sent to some endpoints, against a bare undici loop that signs the same bodies, made
 *   beforehand, and posts them over as many connections. Both run in turn; the result is the ratio.
 * - latency: from the commit of an event, at 200 a second, to the arrival at the endpoint.
 * - replay: events a second, from the beginning of the replay to the last arrival.
 * - memory: of the process while 1,000 and while 100,000 deliveries wait for an endpoint that is slow.
 *
 *     node dist/bench/webhooks.js [--only deliveries,latency,replay,memory] [--rounds 5] [--messages 8000]
 *       [--seconds 15] [--events 100000]
 */
import type { ChildProcess } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Logger } from '@nestjs/common';
import { Pool as HttpPool } from 'undici';
import type { Pool } from 'pg';
import { migrate, openPool } from '@app/database';
import { EventLog, EventStore, eventId, type RecordedEvent } from '@app/event-store';
import { announcedEvents, WebhookMessages } from '@app/presentation';
import { rebuild } from '@app/rebuild';
import { newId, portOf } from '@app/runtime';
import { WebhookDeliveries, WebhookReplays, type Message } from '@app/webhooks';
import { serviceTables } from '../apps/cli/migrations';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { spawnWithParent } from '../local/spawn-with-parent';
import { mailboxKeysIn, personalDataKeys } from '../test/support/mailbox-keys';
import { numbers } from '../test/support/numbers';
import { freePortBlock } from '../test/support/processes';
import { addWebhook, webhookSecretKeys } from '../test/support/webhooks';
import { median, quantile, report } from './figure';
import { fillLog } from './lives';

const seed = 7;
/** Endpoints of the throughput, each of a team of its own, and connections to each. */
const endpoints = 16;
const connections = 8;
/** Events a second for the latency. */
const rate = 200;

const count = (number: number): string => Math.round(number).toLocaleString('en');
const teamOf = (i: number): string => `team_bench${String(i).padStart(5, '0')}`;

/** A message for the bare loop. */
interface Prepared {
  readonly url: string;
  readonly id: string;
  readonly secret: string;
  readonly body: string;
}

/** Answers every request with 204, and tells the parent of how many there were and when the first and last came. */
function receive(): void {
  let [received, first, last] = [0, 0, 0];
  let slowMs = 0;
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      last = performance.timeOrigin + performance.now();
      if (received++ === 0) first = last;
      if (slowMs > 0) setTimeout(() => response.writeHead(204).end(), slowMs);
      else response.writeHead(204).end();
    });
  });
  server.listen(0, '127.0.0.1', () => process.send!({ port: (server.address() as AddressInfo).port }));
  process.on('message', (asked: { reset?: true; slowMs?: number }) => {
    if (asked.reset) received = 0;
    slowMs = asked.slowMs ?? slowMs;
    process.send!({ received, first, last });
  });
}

/** Signs and posts prepared messages, as fast as the connections allow. Tells the parent of the milliseconds. */
async function post(file: string): Promise<void> {
  const byUrl = new Map<string, Prepared[]>();
  for (const message of JSON.parse(readFileSync(file, 'utf8')) as Prepared[])
    byUrl.set(message.url, [...(byUrl.get(message.url) ?? []), message]);
  const targets = [...byUrl].map(([url, messages]) => {
    const { origin, pathname } = new URL(url);
    return { messages, pathname, pool: new HttpPool(origin, { connections, pipelining: 1 }) };
  });
  // The channel does not keep a process running that was started so, and there is nothing else yet.
  process.channel!.ref();
  process.send!({ ready: true });
  // The channel to the parent does not keep this process alive.
  const waiting = setInterval(() => undefined, 1_000);
  await once(process, 'message');
  clearInterval(waiting);
  const [begin, cpu] = [performance.now(), process.cpuUsage()];
  const connection = async ({ messages, pathname, pool }: (typeof targets)[number]) => {
    for (let message = messages.pop(); message; message = messages.pop()) await postOne(pool, pathname, message);
  };
  await Promise.all(targets.flatMap((target) => Array.from({ length: connections }, () => connection(target))));
  const { user, system } = process.cpuUsage(cpu);
  process.send!({ ms: performance.now() - begin, cpuMs: (user + system) / 1_000 });
}

async function postOne(pool: HttpPool, path: string, { id, secret, body }: Prepared): Promise<void> {
  const timestamp = String(Math.floor(Date.now() / 1_000));
  const hmac = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'));
  const signature = hmac.update(`${id}.${timestamp}.${body}`).digest('base64');
  const answer = await pool.request({
    path,
    method: 'POST',
    headers: {
      'content-type': 'application/cloudevents+json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${signature}`,
    },
    body,
  });
  await answer.body.dump();
  if (answer.statusCode !== 204) throw new Error(`The receiver answered ${answer.statusCode}`);
}

/** A process of this bench, which answers what it is asked. */
class Part {
  private constructor(private readonly child: ChildProcess) {}

  static async open<First>(...args: string[]): Promise<[Part, First]> {
    const child = spawnWithParent([__filename, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
    const part = new Part(child);
    return [part, await part.said<First>()];
  }

  ask<Said>(question: object): Promise<Said> {
    const answer = this.said<Said>();
    this.child.send(question);
    return answer;
  }

  /** @throws {Error} when it ends before it says something. */
  private async said<Said>(): Promise<Said> {
    const settled = new AbortController();
    const ended = once(this.child, 'exit', settled).then(([status]) => {
      throw new Error(`A process of the bench has ended with status ${status}`);
    });
    try {
      const [said] = (await Promise.race([once(this.child, 'message', settled), ended])) as [Said];
      return said;
    } finally {
      settled.abort();
      await ended.catch(() => undefined);
    }
  }

  close(): void {
    this.child.kill('SIGKILL');
  }
}

/** One round of deliveries. */
interface Run {
  /** Deliveries a second. */
  readonly rate: number;
  /** CPU time of the process that sends, in microseconds for a delivery. */
  readonly cpuUs: number;
}

interface Received {
  readonly received: number;
  readonly first: number;
  readonly last: number;
}

/** Starts the process of webhooks on a database. */
class Sender {
  private constructor(
    private readonly child: ChildProcess,
    private readonly port: number,
  ) {}

  static async open(url: string): Promise<Sender> {
    const block = await freePortBlock();
    const child = spawnWithParent([resolve(__dirname, '../apps/webhooks/main.js')], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        PATH: process.env.PATH,
        PORT: String(block),
        LOG_LEVEL: 'error',
        SENDMUX_DATA_DIR: '/nonexistent',
        DATABASE_URL: url,
        MAIL_SERVER_DATABASE_URL: url,
        SMTP_URL: 'smtp://127.0.0.1:1',
        DOH_RESOLVERS: 'http://127.0.0.1:1/dns-query',
        WEBHOOK_SECRET_KEYS: webhookSecretKeys,
        PERSONAL_DATA_KEYS: personalDataKeys,
        WEBHOOKS_ALLOW_LOOPBACK: 'true',
        NODE_OPTIONS: process.env.WEBHOOKS_NODE_OPTIONS,
      },
    });
    const sender = new Sender(child, portOf('webhooks', block));
    while (!(await sender.isReady())) {
      if (child.exitCode !== null) throw new Error(`webhooks has ended with status ${child.exitCode}`);
      await delay(50);
    }
    return sender;
  }

  /** Milliseconds of CPU that it has used, by the ticks of 10 ms of Linux. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** The resident memory in MiB. */
  memory(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) / 1_024;
  }

  async close(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    await ended;
  }

  private isReady(): Promise<boolean> {
    return fetch(`http://127.0.0.1:${this.port}/health/ready`).then(
      ({ status }) => status === 200,
      () => false,
    );
  }
}

/** Reads the messages of which the log tells, in its order. */
async function messagesOf(pool: Pool, most = Infinity): Promise<Message[]> {
  const log = new EventLog(pool);
  const messages = new WebhookMessages(pool, mailboxKeysIn(pool));
  const teams = new Map<string, string>();
  const found: Message[] = [];
  for (let after = 0, head = await log.head(); after < head && found.length < most;) {
    const { events, settledUpTo } = await log.read({ after, limit: 1_000 });
    for (const { type, stream, data } of events)
      if (type === 'DomainAdded') teams.set(stream, (data as { team: string }).team);
    const announced = events.filter(({ type }) => (announcedEvents as readonly string[]).includes(type));
    const types = await Promise.all(announced.map((event) => messages.typeOf(event)));
    announced.forEach((event, i) => {
      if (types[i]) found.push(messageOf(event, types[i], teams.get(event.stream)!));
    });
    after = settledUpTo;
  }
  await log.close();
  return found.slice(0, most);
}

const messageOf = (event: RecordedEvent, type: Message['type'], team: string): Message => ({
  team,
  type,
  domain: event.stream,
  message: eventId(event),
  subject: event.stream,
  version: event.version,
  position: event.position,
  // Older ones would not be put on.
  occurredAt: new Date().toISOString(),
});

async function benchDeliveries(
  url: string,
  port: number,
  receiver: Part,
  rounds: number,
  total: number,
): Promise<void> {
  const pool = openPool(url, 8);
  await fillLog(
    url,
    total * 4,
    seed,
    Array.from({ length: endpoints }, (_, i) => teamOf(i)),
  );
  await rebuild(url, 'domains');
  await readNothingOfTheLog(pool);
  const messages = await messagesOf(pool, total);
  const hooks = new Map<string, { url: string; secret: string }>();
  for (let i = 0; i < endpoints; i++) {
    const target = `http://127.0.0.1:${port}/${i}`;
    hooks.set(teamOf(i), { url: target, ...(await addWebhook(pool, { team: teamOf(i), url: target })) });
  }
  const made = new WebhookMessages(pool, mailboxKeysIn(pool));
  const prepared: Prepared[] = [];
  for (let i = 0; i < messages.length; i += 500) {
    const page = messages.slice(i, i + 500);
    const bodies = await made.bodies(page);
    for (const { message, team } of page)
      prepared.push({ ...hooks.get(team)!, id: message, body: bodies.get(message)!.toString() });
  }
  const file = join(tmpdir(), 'prepared.json');
  writeFileSync(file, JSON.stringify(prepared));

  const bare = async (): Promise<Run> => {
    const [poster] = await Part.open('--post', file);
    await receiver.ask({ reset: true });
    const { ms, cpuMs } = await poster.ask<{ ms: number; cpuMs: number }>({ go: true });
    poster.close();
    return { rate: (messages.length / ms) * 1_000, cpuUs: (cpuMs * 1_000) / messages.length };
  };
  const sender = await Sender.open(url);
  const deliveries = new WebhookDeliveries(pool);
  const ours = async (): Promise<Run> => {
    await pool.query('TRUNCATE webhook_deliveries, webhook_queues, webhook_lanes');
    await receiver.ask({ reset: true });
    // Everything waits before the first is sent.
    await pool.query(
      `INSERT INTO webhook_lanes (webhook, lane, paused_until) SELECT id, 'live', now() + interval '1 hour' FROM webhooks`,
    );
    await Promise.all(messages.map((message) => deliveries.enqueue(message)));
    await pool.query('VACUUM (ANALYZE) webhook_deliveries, webhook_queues');
    const before = sender.cpuMs();
    await pool.query('UPDATE webhook_lanes SET paused_until = NULL');
    const { first, last } = await allReceived(receiver, messages.length);
    const cpuMs = sender.cpuMs() - before;
    return {
      rate: ((messages.length - 1) / (last - first)) * 1_000,
      cpuUs: (cpuMs * 1_000) / messages.length,
    };
  };
  await bare();
  await ours();
  const runs: { ours: Run; theirs: Run }[] = [];
  for (let round = 0; round < rounds; round++)
    if (round % 2) runs.push({ theirs: await bare(), ours: await ours() });
    else runs.push({ ours: await ours(), theirs: await bare() });
  const ratios = runs.map(({ ours, theirs }) => ours.rate / theirs.rate);
  const octets = prepared.reduce((sum, { body }) => sum + body.length, 0) / prepared.length;
  console.log(
    `deliveries   ${count(median(runs.map(({ theirs }) => theirs.rate)))} bare/s   ${count(median(runs.map(({ ours }) => ours.rate)))} webhooks/s   ` +
      `ratio ${report('webhooks, to a bare sender', ratios)}   ` +
      `${count(messages.length)} messages of ${count(octets)} octets to ${endpoints} endpoints\n` +
      `             CPU of the process for a message: ${count(median(runs.map(({ theirs }) => theirs.cpuUs)))} µs bare, ` +
      `${count(median(runs.map(({ ours }) => ours.cpuUs)))} µs webhooks`,
  );
  await sender.close();
  await pool.end();
}

/** Waits until that many requests have arrived. */
async function allReceived(receiver: Part, wanted: number): Promise<Received> {
  for (;;) {
    const said = await receiver.ask<Received>({});
    if (said.received >= wanted) return said;
    await delay(50);
  }
}

/** The consumer of the process begins at the end of the log. */
async function readNothingOfTheLog(pool: Pool): Promise<void> {
  await pool.query(
    `INSERT INTO checkpoints (name, position) SELECT 'webhooks', coalesce(max(position), 0) FROM events
     ON CONFLICT (name) DO UPDATE SET position = excluded.position`,
  );
}

async function benchLatency(url: string, seconds: number): Promise<void> {
  const pool = openPool(url, 8);
  const arrivedAt = new Map<string, number>();
  const server = createServer((request, response) => {
    const at = performance.now();
    const id = request.headers['webhook-id'] as string;
    if (!arrivedAt.has(id)) arrivedAt.set(id, at);
    request.resume().on('end', () => response.writeHead(204).end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const store = new EventStore(pool);
  const metadata = { actor: 'key_bench', requestId: 'req_bench', correlationId: 'req_bench' };
  const teams = 10;
  for (let i = 0; i < teams; i++) await addWebhook(pool, { team: teamOf(i), url: `http://127.0.0.1:${port}/${i}` });
  const sender = await Sender.open(url);
  const streams = Array.from({ length: rate * 2 }, (_, i) => ({
    id: newId('mdom'),
    team: teamOf(i % teams),
    version: 0,
  }));
  const event = (type: string, data: object) => ({ type, schemaVersion: 1, data, time: new Date().toISOString() });
  const identity = {
    dkimTokens: ['a', 'b', 'c'],
    dkimZone: 'dkim.amazonses.com',
    sesRegion: 'eu-west-1',
    sesDkimStatus: 'success',
  };
  for (const stream of streams) {
    const added = event('DomainAdded', {
      name: `${stream.id.slice(-20)}.example.com`,
      team: stream.team,
      deadline: '',
    });
    const events = [added, event('DomainProvisioned', identity)];
    await store.append({ stream: stream.id, expectedVersion: 0, metadata, events });
    stream.version = 2;
  }
  const next = numbers(seed);
  const committedAt = new Map<string, number>();
  // A quarter more warms up.
  const total = Math.round(rate * seconds * 1.25);
  const begin = performance.now();
  for (let i = 0; i < total; i++) {
    const due = begin + (i / rate) * 1_000;
    if (due > performance.now()) await delay(due - performance.now());
    const stream = streams[i % streams.length]!;
    const type = stream.version % 2 === 0 ? 'DomainVerified' : 'VerificationLapsed';
    const data = type === 'DomainVerified' ? {} : { failing: [], strikes: 0 };
    const version = ++stream.version;
    void store
      .append({ stream: stream.id, expectedVersion: version - 1, metadata, events: [event(type, data)] })
      .then(() => i >= total / 5 && committedAt.set(`${stream.id}/${version}`, performance.now()));
    if (next() < 0.01) await delay(1);
  }
  for (let i = 0; i < 600 && [...committedAt.keys()].some((id) => !arrivedAt.has(id)); i++) await delay(50);
  const taken = [...committedAt].map(([id, at]) => (arrivedAt.get(id) ?? Infinity) - at);
  console.log(
    `latency      p50 ${quantile(taken, 0.5).toFixed(0)} ms   p99 ${quantile(taken, 0.99).toFixed(0)} ms   ` +
      `from commit to arrival of ${count(taken.length)} events at ${rate} a second`,
  );
  await sender.close();
  server.closeAllConnections();
  server.close();
  await pool.end();
}

async function benchReplay(url: string, port: number, receiver: Part, events: number): Promise<void> {
  const pool = openPool(url, 8);
  // About one event in three is told.
  const filled = await fillLog(url, events * 3, seed, [teamOf(0)]);
  await rebuild(url, 'domains');
  await readNothingOfTheLog(pool);
  const { id } = await addWebhook(pool, { team: teamOf(0), url: `http://127.0.0.1:${port}/` });
  const sender = await Sender.open(url);
  await receiver.ask({ reset: true });
  const log = new EventLog(pool);
  const replays = new WebhookReplays(pool);
  const begin = performance.now();
  const replay = (await replays.begin(id, { from: new Date(0) }, (from, to) => log.spanOf(from, to)))!;
  let now = replay;
  let enough = 0;
  while (now.status === 'running') {
    await delay(50);
    now = (await replays.find(id, replay.id))!;
    // The figure is for so many events, whether or not the log tells of more.
    if (enough === 0 && now.delivered >= events) enough = performance.now();
    if (enough > 0) break;
  }
  const delivered = Math.min(now.delivered, events);
  const seconds = ((enough || performance.now()) - begin) / 1_000;
  console.log(
    `replay       ${count(now.delivered / seconds)} events/s   ${count(delivered)} events in ${seconds.toFixed(1)} s, ` +
      `of a log of ${count(filled.events)} with ${count(filled.streams)} domains, to one endpoint`,
  );
  await replays.stop(id, replay.id);
  await sender.close();
  await log.close();
  await pool.end();
}

async function benchMemory(url: string, port: number, receiver: Part, waiting: readonly number[]): Promise<void> {
  const pool = openPool(url, 8);
  await fillLog(url, Math.max(...waiting) * 3.2, seed, [teamOf(0)]);
  await rebuild(url, 'domains');
  await readNothingOfTheLog(pool);
  const messages = await messagesOf(pool, Math.max(...waiting));
  await addWebhook(pool, { team: teamOf(0), url: `http://127.0.0.1:${port}/` });
  await receiver.ask({ slowMs: 500 });
  const deliveries = new WebhookDeliveries(pool);
  const memory: number[] = [];
  for (const most of waiting) {
    await pool.query('TRUNCATE webhook_deliveries, webhook_queues, webhook_lanes');
    for (let i = 0; i < Math.min(most, messages.length); i += 500)
      await Promise.all(messages.slice(i, Math.min(most, i + 500)).map((message) => deliveries.enqueue(message)));
    const sender = await Sender.open(url);
    await delay(20_000);
    memory.push(sender.memory());
    await sender.close();
  }
  await receiver.ask({ slowMs: 0 });
  console.log(
    `memory       ${waiting.map((most, i) => `${memory[i]!.toFixed(0)} MiB with ${count(Math.min(most, messages.length))} waiting`).join(', ')}   ` +
      `ratio ${(memory.at(-1)! / memory[0]!).toFixed(2)}`,
  );
  await pool.end();
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      only: { ...text, default: 'deliveries,latency,replay,memory' },
      rounds: { ...text, default: '5' },
      messages: { ...text, default: '8000' },
      seconds: { ...text, default: '15' },
      events: { ...text, default: '100000' },
      receive: { type: 'boolean' },
      post: text,
    },
  });
  if (values.receive) return receive();
  if (values.post) return post(values.post);
  Logger.overrideLogger(false);
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'));
  const [receiver, { port }] = await Part.open<{ port: number }>('--receive');
  try {
    console.log(
      `PostgreSQL 18 with fsync, undici 7.30.2, ` +
        `Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; seed ${seed}; medians of ${values.rounds} rounds\n`,
    );
    const only = values.only.split(',');
    const onDatabase = async (name: string, run: (url: string) => Promise<void>) => {
      if (!only.includes(name)) return;
      const url = await server.database(`bench_${name}`);
      await migrate(url, serviceTables);
      await run(url);
    };
    await onDatabase('deliveries', (url) =>
      benchDeliveries(url, port, receiver, Number(values.rounds), Number(values.messages)),
    );
    await onDatabase('latency', (url) => benchLatency(url, Number(values.seconds)));
    await onDatabase('replay', (url) => benchReplay(url, port, receiver, Number(values.events)));
    await onDatabase('memory', (url) => benchMemory(url, port, receiver, [1_000, Number(values.events)]));
  } finally {
    receiver.close();
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
