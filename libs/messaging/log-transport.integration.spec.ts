import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, Module, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload, type MicroserviceOptions } from '@nestjs/microservices';
import { openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations, type RecordedEvent } from '@app/event-store';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { EventConsumer } from './event-consumer';
import { LogTransport, type LogTransportOptions } from './log-transport';
import { messagingMigrations } from './migrations';

type Handler = (event: RecordedEvent) => Promise<void> | void;

let database: TestDatabase;
let pool: Pool;
let log: EventLog;
let store: EventStore;
let apps: INestMicroservice[];
let groups = 0;
let group: string;

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith([...eventStoreMigrations, ...messagingMigrations]);
  pool = openPool(database.url, 40);
  log = new EventLog(pool);
  store = new EventStore(pool);
});

afterAll(async () => {
  await log.close();
  await pool.end();
  await database.drop();
});

beforeEach(async () => {
  // Empties the log before each test, past the trigger that refuses it.
  await pool.query(
    'ALTER TABLE events DISABLE TRIGGER USER; DELETE FROM events; ALTER TABLE events ENABLE TRIGGER USER',
  );
  apps = [];
  group = `group ${(groups += 1)}`;
});

afterEach(() => Promise.all(apps.map((app) => app.close())));

const metadata = { actor: 'test', correlationId: 'c' };
const newEvent = (type: string, data: unknown) => ({ type, schemaVersion: 1, data, time: new Date().toISOString() });

/** Appends an event and returns its position. */
async function append(stream: string, type: string, data: unknown = {}): Promise<number> {
  const expectedVersion = (await store.readStream(stream)).length;
  await store.append({ stream, expectedVersion, events: [newEvent(type, data)], metadata });
  return (await store.readStream(stream)).at(-1)!.position;
}

/** Starts a Nest microservice of the group as a process runs it. */
async function consumer(handle: Handler, options: Partial<LogTransportOptions> = {}) {
  @EventConsumer()
  class Consumer {
    @EventPattern<string>('DomainAdded')
    async added(@Payload() event: RecordedEvent): Promise<void> {
      await handle(event);
    }
  }
  @Module({ controllers: [Consumer] })
  class ConsumerModule {}

  const transport = new LogTransport({
    pool,
    log,
    group,
    startFrom: 'beginning',
    standByMs: 100,
    backOff: { baseMs: 10, capMs: 50 },
    ...options,
  });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(ConsumerModule, { strategy: transport });
  apps.push(app);
  await app.listen();
  return { app, transport };
}

const ids = (events: RecordedEvent[]) => events.map(({ stream, version }) => `${stream}/${version}`);
const checkpoint = async () => {
  const { rows } = await pool.query<{ position: string }>('SELECT position FROM checkpoints WHERE name = $1', [group]);
  return rows[0] && Number(rows[0].position);
};
const parked = async () =>
  (await pool.query<Record<string, unknown>>('SELECT * FROM parked_messages WHERE consumer_group = $1', [group])).rows;

/** Ends the connection that holds the group's lock, as when its process has died. */
const cutReader = () =>
  pool.query(
    `SELECT pg_terminate_backend(pid) FROM pg_locks
     WHERE locktype = 'advisory' AND granted AND classid = 1819242356
       AND objid::bigint = hashtext($1)::bigint & 4294967295`,
    [group],
  );

async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(5);
  }
}

it('delivers each event with a handler, as it was recorded, and stores its checkpoint', async () => {
  const seen: RecordedEvent[] = [];
  await append('a', 'DomainAdded', { name: 'mail.acme.com' });
  await append('a', 'NobodyCares');
  const { app, transport } = await consumer((event) => void seen.push(event));
  await append('b', 'DomainAdded');
  const last = await append('b', 'NobodyCares');
  await until(async () => (await checkpoint()) === last);
  expect(ids(seen)).toEqual(['a/1', 'b/1']);
  expect(seen[0]).toMatchObject({ stream: 'a', version: 1, type: 'DomainAdded', data: { name: 'mail.acme.com' } });
  expect(transport.progress()).toEqual({ status: 'active', position: last, head: last, behindSince: undefined });
  await app.close();
  expect(transport.progress().status).toBe('closed');
  await append('c', 'DomainAdded');
  await consumer((event) => void seen.push(event));
  await until(() => seen.length === 3);
  await sleep(50);
  expect(ids(seen)).toEqual(['a/1', 'b/1', 'c/1']);
});

it('starts at the head when it is set to', async () => {
  const seen: RecordedEvent[] = [];
  const before = await append('a', 'DomainAdded');
  const { transport } = await consumer((event) => void seen.push(event), { startFrom: 'now' });
  await until(() => transport.progress().status === 'active');
  expect(await checkpoint()).toBe(before);
  await append('b', 'DomainAdded');
  await until(() => seen.length > 0);
  expect(ids(seen)).toEqual(['b/1']);
});

it('repeats after a crash what was not done, and nothing that was done long before', async () => {
  const seen: string[] = [];
  let hang = true;
  const a = await append('a', 'DomainAdded');
  for (const stream of ['b', 'c']) await append(stream, 'DomainAdded');
  const crashed = await consumer(
    async (event) => {
      seen.push(`first ${event.stream}`);
      if (event.stream === 'b' && hang) await new Promise(() => undefined);
    },
    { closeWithinMs: 50 },
  );
  await until(async () => seen.length === 3 && (await checkpoint())! >= a);
  hang = false;
  // Leaves what a killed process leaves: no last checkpoint and no unlocking. The handler of b never ends.
  await cutReader();
  await crashed.app.close();
  await consumer((event) => void seen.push(`second ${event.stream}`));
  await until(() => seen.length === 5);
  await sleep(50);
  expect(seen).toEqual(['first a', 'first b', 'first c', 'second b', 'second c']);
});

it('keeps the order of every stream through failures', async () => {
  const seen: RecordedEvent[] = [];
  const failed = new Set<string>();
  for (let version = 1; version <= 12; version += 1)
    for (const stream of ['a', 'b', 'c', 'd']) await append(stream, 'DomainAdded');
  const last = await log.head();
  await consumer(async (event) => {
    const id = `${event.stream}/${event.version}`;
    await sleep(Math.random() * 4);
    if (event.version % 3 === 0 && !failed.has(id)) {
      failed.add(id);
      throw new Error('not yet');
    }
    seen.push(event);
  });
  await until(async () => (await checkpoint()) === last);
  for (const stream of ['a', 'b', 'c', 'd'])
    expect(seen.filter((event) => event.stream === stream).map((event) => event.version)).toEqual(
      Array.from({ length: 12 }, (_, index) => index + 1),
    );
  expect(await parked()).toEqual([]);
});

it('parks an event that always fails, with its error, and continues', async () => {
  const seen: string[] = [];
  await append('a', 'DomainAdded', { text: 'a NUL \u0000' });
  await append('a', 'DomainAdded');
  const last = await append('b', 'DomainAdded');
  await consumer(
    (event) => {
      seen.push(`${event.stream}/${event.version}`);
      if (event.stream === 'a' && event.version === 1) throw new Error('this one \u0000 is poison');
    },
    { attempts: 3 },
  );
  await until(async () => (await checkpoint()) === last);
  expect(seen.filter((id) => id === 'a/1')).toHaveLength(3);
  expect(seen.slice(-1)).toEqual(['a/2']);
  expect(seen).toContain('b/1');
  expect(await parked()).toMatchObject([
    { message: 'a/1', type: 'DomainAdded', attempts: 3, raw: null, event: { stream: 'a', data: { text: 'a NUL \0' } } },
  ]);
  expect((await parked())[0]!.error).toMatch(/^Error: this one {2}is poison\n/);
});

describe('of two readers', () => {
  it('one is active; the other takes over when it closes, without a repetition', async () => {
    const seen: string[] = [];
    const first = await consumer((event) => void seen.push(`first ${event.stream}`));
    await until(() => first.transport.progress().status === 'active');
    const second = await consumer((event) => void seen.push(`second ${event.stream}`));
    await until(() => second.transport.progress().status === 'standBy');
    await append('a', 'DomainAdded');
    await until(() => seen.length === 1);
    await sleep(250);
    await first.app.close();
    await until(() => second.transport.progress().status === 'active');
    await append('b', 'DomainAdded');
    await until(() => seen.length === 2);
    expect(seen).toEqual(['first a', 'second b']);
  });

  it('the other takes over when its connection dies, and the first can write nothing more', async () => {
    const seen: string[] = [];
    let finish = (): void => undefined;
    const held = new Promise<void>((resolve) => (finish = resolve));
    const first = await consumer(async (event) => {
      seen.push(`first ${event.stream}`);
      await held;
    });
    await append('a', 'DomainAdded');
    await until(() => seen.length === 1);
    const second = await consumer((event) => void seen.push(`second ${event.stream}`));
    await until(() => second.transport.progress().status === 'standBy');
    const before = await checkpoint();
    await cutReader();
    await until(() => first.transport.progress().status === 'connecting');
    await append('b', 'DomainAdded');
    await until(() => seen.length === 3);
    expect(seen.sort()).toEqual(['first a', 'second a', 'second b']);
    await until(async () => (await checkpoint())! > before!);
    const after = await checkpoint();
    finish();
    await until(() => first.transport.progress().status === 'standBy');
    expect(await checkpoint()).toBe(after);
  });
});

it('continues after its connection was lost', async () => {
  const seen: string[] = [];
  const { transport } = await consumer((event) => void seen.push(event.stream));
  await until(() => transport.progress().status === 'active');
  await cutReader();
  await until(() => transport.progress().status !== 'active');
  await append('a', 'DomainAdded');
  await until(() => seen.includes('a'));
});

it('ends on a fault that retrying does not repair', async () => {
  const fatal: unknown[] = [];
  const broken = Object.assign(new EventLog(pool), { head: () => Promise.reject(new TypeError('a mistake')) });
  const { transport } = await consumer(() => undefined, {
    log: broken,
    startFrom: 'now',
    onFatal: (error) => fatal.push(error),
  });
  await until(() => transport.progress().status === 'failed');
  expect(fatal).toEqual([new TypeError('a mistake')]);
});

it('reports a reader that is behind and makes no progress', async () => {
  let finish = (): void => undefined;
  const held = new Promise<void>((resolve) => (finish = resolve));
  const { transport } = await consumer(() => held);
  const position = await append('a', 'DomainAdded');
  await until(() => transport.progress().behindSince !== undefined);
  await sleep(60);
  expect(transport.progress()).toMatchObject({ position: position - 1, head: position });
  expect(() => transport.assertProgress(50)).toThrow(/stands at \d+ of \d+ since/);
  expect(() => transport.assertProgress()).not.toThrow();
  finish();
  await until(() => transport.progress().behindSince === undefined);
  expect(() => transport.assertProgress(0)).not.toThrow();
});

it.each(['57014', '25006', '53100'])('is alive while a handler fails of the database (%s)', async (code) => {
  let fails = true;
  const { transport } = await consumer(() => {
    if (fails) throw Object.assign(new Error('no'), { code });
  });
  await append('a', 'DomainAdded');
  await until(() => transport.progress().behindSince !== undefined);
  await sleep(60);
  expect(() => transport.assertProgress(50)).not.toThrow();
  fails = false;
  await until(() => transport.progress().behindSince === undefined);
});

it('waits for a running handler when it closes, and counts it as done', async () => {
  let started = false;
  const position = await append('a', 'DomainAdded');
  const { app } = await consumer(async () => {
    started = true;
    await sleep(150);
  });
  await until(() => started);
  await app.close();
  expect(await checkpoint()).toBe(position);
});

it('closes in time although a handler hangs and more events wait than it holds', async () => {
  let started = 0;
  const first = await append('a', 'DomainAdded');
  const events = Array.from({ length: 1_100 }, () => newEvent('DomainAdded', {}));
  await store.append({ stream: 'a', expectedVersion: 1, events, metadata });
  const { app } = await consumer(() => new Promise(() => void (started += 1)), { closeWithinMs: 100 });
  await until(() => started === 1);
  await app.close();
  expect(await checkpoint()).toBe(first - 1);
});

it('is not behind a position that no event ever took', async () => {
  const { transport } = await consumer(() => undefined);
  const position = await append('a', 'DomainAdded');
  await until(() => transport.progress().position === position);
  await pool.query("SELECT nextval('event_positions')");
  expect(await log.head()).toBe(position + 1);
  await sleep(2_200);
  expect(transport.progress()).toMatchObject({ position, head: position, behindSince: undefined });
});

it('is not behind a gap for longer than it takes for the end of the log, whose last event it had still to read', async () => {
  const { transport } = await consumer(() => undefined, { lingerMs: 3_000 });
  await until(() => transport.progress().status === 'active');
  await sleep(100);
  const position = await append('a', 'DomainAdded');
  await pool.query("SELECT nextval('event_positions')");
  await until(() => transport.progress().head === position + 1);
  await until(() => transport.progress().position === position);
  await until(() => transport.progress().behindSince === undefined, 4_000);
});
