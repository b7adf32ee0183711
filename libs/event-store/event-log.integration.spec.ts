import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Pool, type QueryConfig } from 'pg';
import { NotThePrimary, openPool } from '@app/database';
import { numbers } from '../../test/support/numbers';
import { sample } from '../../test/support/sample';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import type { RecordedEvent } from './event';
import { LogWentBack } from './errors';
import { EventLog } from './event-log';
import { EventStore } from './event-store';
import { eventStoreMigrations } from './event-store.migration';
import { fenceSql } from './in-flight';
import { checkLog } from '../../test/support/log-checker';

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

const insert = (stream: string, version: number) =>
  `INSERT INTO events (stream, version, type, schema_version, data, metadata, time, previous, hash)
   VALUES ('${stream}', ${version}, 'Happened', 1, '{}', '{}', now(), '', '')`;

const metadata = { actor: 'test', correlationId: 'c' };
const event = { type: 'Happened', schemaVersion: 1, data: {}, time: '2026-04-15T10:00:00.000Z' };
const noFaults = { lost: 0, repeated: 0, outOfOrder: 0, outOfOrderInStream: 0, invented: 0 };

describe('the tail of the log', () => {
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;

  beforeEach(async () => {
    database = await databaseWith(eventStoreMigrations);
    pool = new Pool({ connectionString: database.url, max: 10 });
    log = new EventLog(pool);
  });
  afterEach(async () => {
    await log.close();
    await pool.end();
    await database.drop();
  });

  it('reads the sequence before the locks of appends in flight, by the plan of its fence', async () => {
    interface Plan {
      readonly 'Node Type': string;
      readonly 'Relation Name'?: string;
      readonly 'Function Name'?: string;
      readonly Plans?: readonly Plan[];
    }
    const { rows } = await pool.query<{ 'QUERY PLAN': [{ Plan: Plan }] }>(`EXPLAIN (FORMAT JSON) ${fenceSql}`);
    const plan = rows[0]!['QUERY PLAN'][0].Plan;
    const read = (part: Plan): string[] => [
      ...[part['Relation Name'] ?? part['Function Name']].filter((name) => name !== undefined),
      ...(part.Plans ?? []).flatMap(read),
    ];
    expect(plan['Node Type']).toBe('Nested Loop');
    expect(read(plan.Plans![0]!)).toEqual(['event_positions']);
    expect(read(plan.Plans![1]!)).toContain('pg_lock_status');
    // It needs a row of the first, so that this is no choice of the planner.
    expect(JSON.stringify(plan.Plans![1])).toMatch(/"One-Time Filter":"[^"]*last_value/);
  });

  const client = async (name?: string) => {
    const opened = new Client({ connectionString: database.url, application_name: name });
    // The test ends some of these connections from the server's side on purpose.
    opened.on('error', () => undefined);
    await opened.connect();
    return opened;
  };
  const committed = async () =>
    (
      await pool.query<RecordedEvent>(
        'SELECT position::float8 AS position, stream, version FROM events ORDER BY position',
      )
    ).rows;
  const allRead = async (after = 0) => {
    const events: RecordedEvent[] = [];
    for (;;) {
      const page = await log.read({ after, limit: 500 });
      events.push(...page.events);
      if (page.events.length === 0) return events;
      after = page.settledUpTo;
    }
  };

  it('reads the first event of an empty log only when it is committed', async () => {
    expect(await log.head()).toBe(0);
    const writer = await client();
    await writer.query('BEGIN');
    await writer.query(insert('a', 1));
    expect(await log.read({ after: 0, limit: 10 })).toEqual({ events: [], settledUpTo: 0 });
    await writer.query('COMMIT');
    await writer.end();
    expect((await log.read({ after: 0, limit: 10 })).events).toHaveLength(1);
    expect(await log.head()).toBe(1);
  });

  it('loses, repeats and reorders nothing under fifty writers with aborts, savepoints and killed connections', async () => {
    console.log(`seed ${seed}`);
    const chance = numbers(seed);
    const reading = new AbortController();
    const followed: RecordedEvent[] = [];
    const follower = (async () => {
      for await (const batch of log.follow({ after: 0, signal: reading.signal })) followed.push(...batch);
    })();
    // Reads in small pages, across gaps, with nothing but the checkpoint.
    const paged: RecordedEvent[] = [];
    const pager = (async () => {
      for (let after = 0, idle = false; !(idle && reading.signal.aborted);) {
        const { events, settledUpTo } = await log.read({ after, limit: 300 });
        paged.push(...events);
        idle = events.length === 0;
        if (idle) await delay(1);
        after = settledUpTo;
      }
    })();
    // Reads by position alone as a control. It must miss events, or this test could not fail.
    const naive: RecordedEvent[] = [];
    const naiveReader = (async () => {
      for (let after = 0; !reading.signal.aborted; await delay(2)) {
        const { rows } = await pool.query<RecordedEvent>(
          'SELECT position::float8 AS position, stream, version FROM events WHERE position > $1 ORDER BY position',
          [after],
        );
        naive.push(...rows);
        after = rows.at(-1)?.position ?? after;
      }
    })();

    const victims = 'writer';
    const atLeastUntil = Date.now() + sample(3_000, 7_000);
    let kills = 0;
    let over = false;
    const killer = (async () => {
      while (!over) {
        await delay(30);
        const { rowCount } = await pool.query(
          `SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
             WHERE application_name = $1 AND datname = current_database() ORDER BY pid OFFSET $2 LIMIT 1) AS victim`,
          [victims, Math.floor(chance() * 42)],
        );
        kills += rowCount ?? 0;
        over = Date.now() > atLeastUntil && kills > 50 && (await log.head()) > 5_000;
      }
    })();
    const versionOf = async (stream: string) =>
      (await pool.query<{ n: number }>('SELECT count(*)::int AS n FROM events WHERE stream = $1', [stream])).rows[0]!.n;

    // Runs transactions of several appends, with savepoints and aborts.
    const transactions = async (number: number) => {
      const chance = numbers(seed + number);
      const stream = `transactions ${number}`;
      let connection: Client | undefined;
      let version = 0;
      while (!over) {
        let next = version;
        try {
          connection ??= await client(victims);
          await connection.query('BEGIN');
          const appends = 1 + Math.floor(chance() * 3);
          for (let i = 0; i < appends; i++) {
            if (chance() < 0.2) {
              await connection.query('SAVEPOINT s');
              await connection.query(insert(stream, next + 1));
              await connection.query('ROLLBACK TO SAVEPOINT s');
            }
            await connection.query(insert(stream, ++next));
            if (chance() < 0.3) await delay(chance() * 8);
          }
          if (chance() < 0.15) await connection.query('ROLLBACK');
          else {
            await connection.query('COMMIT');
            version = next;
          }
        } catch {
          // The connection may have been ended at any moment. The stream shows whether the commit happened.
          await connection?.end();
          connection = undefined;
          version = await versionOf(stream);
        }
      }
      await connection?.end();
    };
    // Two pools stand for two processes that use the store itself.
    const pools = [1, 2].map(() => openPool(database.url, 10, 30_000, { application_name: victims }));
    const stores = pools.map((each) => new EventStore(each));
    const appends = async (number: number) => {
      const chance = numbers(seed + number);
      const stream = `appends ${number}`;
      let expectedVersion = 0;
      while (!over) {
        const events = Array.from({ length: 1 + Math.floor(chance() * 3) }, () => event);
        try {
          expectedVersion = await stores[number % 2]!.append({ stream, expectedVersion, events, metadata });
        } catch {
          expectedVersion = await versionOf(stream);
        }
      }
    };
    await Promise.all(Array.from({ length: 50 }, (_, number) => (number < 40 ? transactions : appends)(number)));
    await Promise.all([killer, ...pools.map((each) => each.end())]);
    const truth = await committed();
    for (let i = 0; i < 3_000 && followed.length < truth.length; i++) await delay(20);
    await delay(300);
    reading.abort();
    await Promise.all([follower, pager, naiveReader]);

    console.log(`${truth.length} events, ${kills} kills; the naive reader lost ${checkLog(truth, naive).lost}`);
    expect(truth.length).toBeGreaterThan(2_000);
    expect(checkLog(truth, followed)).toEqual(noFaults);
    expect(checkLog(truth, paged)).toEqual(noFaults);
    expect(checkLog(truth, naive).lost).toBeGreaterThan(0);
  });

  it('settles nothing too early, whatever happens between its statements', async () => {
    for (const begin of [0, 1, 2, 3])
      for (const commit of [0, 1, 2, 3].filter((step) => step >= begin)) {
        const start = await log.head();
        const late = await client();
        const step = async (number: number) => {
          if (number === begin) {
            await late.query('BEGIN');
            await late.query(insert(`late ${begin} ${commit}`, 1));
            await pool.query(insert(`early ${begin} ${commit}`, 1));
          }
          if (number === commit) await late.query('COMMIT');
        };
        let statements = 0;
        const query = async (config: QueryConfig) => {
          await step(statements++);
          return pool.query(config);
        };
        const { events, settledUpTo } = await new EventLog({ query } as unknown as Pool).read({
          after: start,
          limit: 10,
        });
        for (; statements < 4; statements++) await step(statements);
        await late.end();
        const rest = await allRead(settledUpTo);
        const truth = (await committed()).filter(({ position }) => position > start);
        expect(truth).toHaveLength(2);
        expect({ begin, commit, ...checkLog(truth, [...events, ...rest]) }).toEqual({ begin, commit, ...noFaults });
      }
  });

  it('reads what was committed after the statement that gives the fence had begun', async () => {
    const start = await log.head();
    const late = await client();
    await late.query(`
      CREATE SCHEMA held;
      CREATE FUNCTION held.gate() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
        BEGIN PERFORM pg_advisory_xact_lock(1); RETURN true; END $$;
      CREATE VIEW held.event_positions AS SELECT last_value, is_called FROM public.event_positions WHERE held.gate()`);
    await late.query('SELECT pg_advisory_lock(1)');
    await late.query('BEGIN');
    await late.query(insert('late', 1));
    // Its fence waits for the gate as it reads the sequence.
    const held = openPool(database.url, 1, 30_000, { options: '-c search_path=held,public,pg_catalog' });
    const reading = new EventLog(held).read({ after: start, limit: 10 });
    const isWaiting = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
    while ((await pool.query(isWaiting)).rowCount === 0) await delay(2);
    await late.query('COMMIT');
    await late.query('SELECT pg_advisory_unlock(1)');
    const { events, settledUpTo } = await reading;
    expect(events.map(({ stream }) => stream)).toEqual(['late']);
    expect(settledUpTo).toBe(events[0]!.position);
    await held.end();
    await late.query('DROP SCHEMA held CASCADE');
    await late.end();
  });

  it('skips nothing while an earlier position stays open for seconds and a thousand later ones commit', async () => {
    const slow = await client();
    await slow.query('BEGIN');
    await slow.query(insert('slow', 1));
    const store = new EventStore(pool);
    await Promise.all(
      Array.from({ length: 1_000 }, (_, i) =>
        store.append({ stream: `fast${i}`, expectedVersion: 0, events: [event], metadata }),
      ),
    );
    const early = await allRead();
    await delay(2_000);
    expect(early.concat(await allRead())).toEqual([]);
    await slow.query('COMMIT');
    await slow.end();
    const seen = await allRead();
    expect(seen[0]?.stream).toBe('slow');
    expect(checkLog(await committed(), seen)).toMatchObject({ lost: 0, outOfOrder: 0, repeated: 0 });
    expect(seen).toHaveLength(1_001);
  });

  it('does not stop for another program’s long transaction in the same database', async () => {
    await pool.query('CREATE TABLE other (id int)');
    const stranger = await client();
    await stranger.query('BEGIN');
    await stranger.query('INSERT INTO other VALUES (1)');
    await stranger.query('SELECT count(*) FROM events');
    await pool.query(insert('a', 1));
    expect(await allRead()).toHaveLength(1);
    await stranger.query('ROLLBACK');
    await stranger.end();
  });

  /** Follows with a poll interval too long for any test, so it ends only when each append has woken the reader. */
  async function wokenBy(count: number, each: () => Promise<unknown> = () => Promise.resolve()): Promise<void> {
    const store = new EventStore(pool);
    const stop = new AbortController();
    let read = 0;
    const reader = (async () => {
      for await (const batch of prompt.follow({ after: await prompt.head(), signal: stop.signal }))
        read += batch.length;
    })();
    await listening();
    for (let i = 0; i < count; i++) {
      const rest = each();
      await store.append({ stream: randomUUID(), expectedVersion: 0, events: [event], metadata });
      await rest;
      while (read <= i) await delay(2);
    }
    stop.abort();
    await reader;
    expect(read).toBe(count);
  }
  let prompt: EventLog;
  beforeEach(() => (prompt = new EventLog(pool, 600_000)));
  afterEach(() => prompt.close());
  const listeners = `FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'`;
  const listening = async () => {
    while ((await pool.query(`SELECT ${listeners} AND state = 'idle'`)).rowCount === 0) await delay(10);
  };

  it('is woken by an append and does not wait for its poll', async () => {
    await wokenBy(20);
  });

  it('is woken by the types of events that it is prompt for alone, and reads all of them then', async () => {
    const store = new EventStore(pool);
    const stop = new AbortController();
    const read: string[] = [];
    const isPromptFor = (type: string) => type === 'Awaited';
    const reader = (async () => {
      for await (const batch of prompt.follow({ after: await prompt.head(), signal: stop.signal, isPromptFor }))
        read.push(...batch.map(({ type }) => type));
    })();
    await listening();
    const append = (...types: string[]) => {
      const events = types.map((type) => ({ ...event, type }));
      return store.append({ stream: randomUUID(), expectedVersion: 0, events, metadata });
    };
    await append('Other');
    await delay(200);
    expect(read).toEqual([]);
    await append('Other', 'Awaited');
    while (read.length < 3) await delay(2);
    expect(read).toEqual(['Other', 'Other', 'Awaited']);
    // Older releases name no types, and so does an append of more than a notification takes.
    await append('Other');
    await pool.query(`NOTIFY sendmux_events`);
    while (read.length < 4) await delay(2);
    await append(...Array.from({ length: 200 }, (_, i) => `Other${i}`.padEnd(100, 'x')));
    while (read.length < 204) await delay(2);
    stop.abort();
    await reader;
  });

  it('reads what comes while it lingers together, and is not held up at its end', async () => {
    const store = new EventStore(pool);
    const stop = new AbortController();
    const batches: string[][] = [];
    const lingerMs = 400;
    const reader = (async () => {
      for await (const batch of prompt.follow({ after: await prompt.head(), signal: stop.signal, lingerMs }))
        batches.push(batch.map(({ type }) => type));
    })();
    await listening();
    for (const type of ['First', 'Second', 'Third'])
      await store.append({ stream: randomUUID(), expectedVersion: 0, events: [{ ...event, type }], metadata });
    while (batches.length === 0) await delay(2);
    expect(batches).toEqual([['First', 'Second', 'Third']]);
    await store.append({ stream: randomUUID(), expectedVersion: 0, events: [event], metadata });
    await delay(lingerMs / 4);
    const ending = performance.now();
    stop.abort();
    await reader;
    expect(performance.now() - ending).toBeLessThan(lingerMs / 2);
    expect(batches).toHaveLength(1);
  });

  it('is woken again after its connection was killed', async () => {
    await wokenBy(1);
    const { rows } = await pool.query<{ killed: boolean }>(`SELECT pg_terminate_backend(pid) AS killed ${listeners}`);
    expect(rows).toEqual([{ killed: true }]);
    while ((await pool.query(`SELECT ${listeners}`)).rowCount !== 0) await delay(10);
    await wokenBy(20);
  });

  it('continues at once when the append that held it back is rolled back, which sends no notification', async () => {
    const slow = await client();
    await wokenBy(5, async () => {
      await slow.query('BEGIN');
      await slow.query(insert('slow', 1));
      await delay(40);
      await slow.query('ROLLBACK');
    });
    await slow.end();
  });

  it('tells a follower that the log has ended before what it has read', async () => {
    await pool.query(insert('a', 1));
    const [event] = await committed();
    const { signal } = new AbortController();
    const follow = log.follow({ after: event!.position + 1, signal });
    await expect(follow.next()).rejects.toThrow(new LogWentBack(event!.position + 1, event!.position));
  });

  it('believes no standby that a pooler has led to', async () => {
    await pool.query(insert('a', 1));
    await pool.query('CREATE FUNCTION pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS $$SELECT true$$');
    const standby = openPool(database.url, 1, 30_000, { options: '-c search_path=public,pg_catalog' });
    const { signal } = new AbortController();
    await expect(new EventLog(standby).follow({ after: 0, signal }).next()).rejects.toThrow(NotThePrimary);
    await standby.end();
    await pool.query('DROP FUNCTION public.pg_is_in_recovery');
  });

  it('ends when it is aborted or the log is closed, and reads by the poll alone without a wake-up', async () => {
    const stop = new AbortController();
    const aborted = log.follow({ after: 0, signal: stop.signal }).next();
    const closed = log.follow({ after: 0, signal: new AbortController().signal }).next();
    const woken = log.follow({ after: 0, signal: new AbortController().signal });
    const first = woken.next();
    await delay(50);
    stop.abort();
    expect(await aborted).toEqual({ done: true, value: undefined });
    await pool.query(insert('a', 1));
    expect((await first).value).toMatchObject([{ stream: 'a', version: 1 }]);
    expect((await closed).value).toHaveLength(1);
    const last = woken.next();
    await log.close();
    expect(await last).toEqual({ done: true, value: undefined });
  });
});
