import { setTimeout as delay } from 'node:timers/promises';
import { inTransaction, migrate, openPool } from '@app/database';
import { Client, type Pool, type QueryConfig } from 'pg';
import { checkLog } from '../../test/support/log-checker';
import { numbers } from '../../test/support/numbers';
import { sample } from '../../test/support/sample';
import { databaseWith, testDatabase, type TestDatabase } from '../../test/support/test-database';
import { WrongExpectedVersion } from './errors';
import { replaceData } from './event-amendment';
import { checkChain, EventArchive } from './event-archive';
import { eventHashSql, noHash } from './event-hash';
import { EventLog } from './event-log';
import { EventStore } from './event-store';
import { eventStoreMigrations } from './event-store.migration';
import type { KeptEvent } from './kept-event';
import { isOneTable, partitionEvents } from './partitioning';
import { chainedSql, EventPartitions } from './partitions';

const metadata = { actor: 'test', correlationId: 'test' };
const append = (stream: string, expectedVersion: number, count = 1) => ({
  stream,
  expectedVersion,
  events: Array.from({ length: count }, () => ({
    type: 'Happened',
    schemaVersion: 1,
    data: { stream },
    time: '2026-03-01T10:00:00.000Z',
  })),
  metadata,
});
/** All migrations but the one that partitions a small log. */
const beforePartitions = eventStoreMigrations.filter(({ name }) => !name.startsWith('PartitionSmallLogs'));

describe('partitions of the log', () => {
  const databases: TestDatabase[] = [];
  const pools: Pool[] = [];
  let pool: Pool;

  /** Makes a log in partitions of this many positions; a log of one table when `size` is absent. */
  async function logOf(size?: number): Promise<string> {
    const database = await databaseWith(beforePartitions);
    databases.push(database);
    pool = pooled(database.url);
    if (size !== undefined) await partitionEvents(pool, { size });
    return database.url;
  }
  const pooled = (url: string): Pool => {
    const opened = openPool(url, 8);
    pools.push(opened);
    return opened;
  };
  afterEach(async () => {
    for (const each of pools.splice(0)) await each.end();
    for (const database of databases.splice(0)) await database.drop();
  });

  /** Ends the pools, so that the database can be a template, and gives its name. */
  const withoutSessions = async (url: string): Promise<string> => {
    for (const each of pools.splice(0)) await each.end();
    return new URL(url).pathname.slice(1);
  };

  const rows = async <T>(sql: string, values: unknown[] = []) => (await pool.query(sql, values)).rows as T[];
  const positions = () =>
    rows<{ position: number; stream: string; version: number }>(
      'SELECT position::float8 AS position, stream, version FROM events ORDER BY events.position',
    );
  /** Everything that is kept of the events, as one text. */
  const digest = async () =>
    (await rows<{ all: string }>(`SELECT md5(string_agg(events::text, '|' ORDER BY position)) AS all FROM events`))[0]!;
  const partitions = () =>
    rows<{ number: number; upper: number; isOpen: boolean; isIndexed: boolean }>(
      `SELECT number, upper::int, is_open AS "isOpen", is_indexed AS "isIndexed" FROM event_partitions ORDER BY number`,
    );
  /** Checks the hashes and links of all events. */
  async function checkAll(): Promise<number> {
    const check = checkChain();
    let events = 0;
    const head = await new EventLog(pool).head();
    for await (const page of new EventArchive(pool).read({}, { after: 0, upTo: head }))
      for (const event of page.events) {
        check(event);
        events++;
      }
    return events;
  }
  /** Uses up all positions below one. */
  const drawUpTo = (position: number) => pool.query(`SELECT setval('event_positions', $1)`, [position]);

  it('are there in a new log, and in a small one that is migrated', async () => {
    const url = await logOf();
    await new EventStore(pool).append(append('a', 0, 3));
    const before = await digest();
    await migrate(url, eventStoreMigrations);
    expect(await isOneTable(pool)).toBe(false);
    expect(await digest()).toEqual(before);
    expect(await partitions()).toMatchObject([
      { upper: 10_000_000, isOpen: true },
      { upper: 20_000_000, isOpen: false },
    ]);
    await new EventStore(pool).append(append('a', 3));
    expect(await checkAll()).toBe(4);
    for (const table of ['events', 'events_1', 'events_2'])
      for (const change of [`UPDATE ${table} SET type = type`, `DELETE FROM ${table}`, `TRUNCATE ${table}`])
        await expect(pool.query(change)).rejects.toThrow('events are only ever added');
  });

  it('go on in a stream whose older events were amended', async () => {
    await logOf(10);
    const store = new EventStore(pool);
    const upkeep = new EventPartitions(pool);
    await store.append(append('old', 0, 3));
    for (let other = 0; other < 3; other++) {
      await store.append(append(`other ${other}`, 0, 8));
      await upkeep.upkeep();
      await upkeep.upkeep();
    }
    expect((await partitions())[0]).toMatchObject({ isOpen: true, isIndexed: true });
    expect(await rows(`SELECT FROM stream_spans WHERE stream = 'old'`)).toHaveLength(1);
    const amended = await inTransaction(pool, (client) =>
      replaceData(client, ['old'], ({ version, schemaVersion }) =>
        version === 2 ? { schemaVersion, data: '{"stream":"sealed"}' } : undefined,
      ),
    );
    expect(amended.map(({ version }) => version)).toEqual([2, 3]);
    await store.append(append('old', 3, 2));
    expect(await checkAll()).toBe(29);
    const read = await store.readStream('old');
    expect(read.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5]);
  });

  it.each([
    ['made', []],
    [
      'neither',
      [
        'ALTER TABLE events DETACH PARTITION events_2',
        'DROP TABLE events_2',
        'DELETE FROM event_partitions WHERE number = 2',
      ],
    ],
  ])('are forgotten where a fail-over has lost that the next one was opened, and it is %s', async (_, more) => {
    const url = await logOf(10);
    await new EventPartitions(pool).upkeep();
    await drawUpTo(7);
    await new EventPartitions(pool).upkeep();
    const standby = await testDatabase(await withoutSessions(url));
    databases.push(standby);
    let current = url;
    const followed = openPool({ url: () => current }, 1);
    pools.push(followed);
    const store = new EventStore(followed);
    for (const stream of ['a', 'b', 'c', 'd', 'e']) await store.append(append(stream, 0));
    pool = pooled(url);
    expect((await partitions())[1]).toMatchObject({ isOpen: true });
    // The other database is one from before the first append.
    current = standby.url;
    await followed.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
    pool = pooled(standby.url);
    for (const statement of more) await pool.query(statement);
    expect(await partitions()).toHaveLength(more.length === 0 ? 2 : 1);
    for (const stream of ['a', 'b', 'c', 'd', 'e']) expect(await store.append(append(stream, 0))).toBe(1);
    expect(await checkAll()).toBe(5);
  });

  it('are known to a process that was idle while others went on in the next one', async () => {
    const url = await logOf(10);
    const idle = new EventStore(pool);
    const busy = new EventStore(pooled(url));
    await idle.append(append('a', 0));
    await drawUpTo(10);
    for (const stream of ['b', 'c', 'd']) await busy.append(append(stream, 0));
    expect(await idle.append(append('b', 1))).toBe(2);
    const again = new EventStore(pooled(url));
    await again.append(append('e', 0));
    await drawUpTo(20);
    await busy.append(append('f', 0));
    await Promise.all(['c', 'f'].map((stream) => again.append(append(stream, 1))));
    await again.appendTogether([append('f', 2), append('d', 1)]);
    await expect(again.append(append('f', 7))).rejects.toMatchObject({ actual: 3 });
    expect(await checkAll()).toBe(11);
  });

  it('take each version of a stream once, however many processes append across their ends', async () => {
    const url = await logOf(40);
    const stores = [new EventStore(pool), new EventStore(pooled(url)), new EventStore(pooled(url))];
    const log = new EventLog(pooled(url));
    const read: { position: number; stream: string; version: number }[] = [];
    const stop = new AbortController();
    const reading = (async () => {
      for await (const events of log.follow({ after: 0, signal: stop.signal })) read.push(...events);
    })();
    const upkeep = new EventPartitions(pooled(url));
    const keeping = (async () => {
      for (; !stop.signal.aborted; await delay(20)) await upkeep.upkeep();
    })();
    const chance = numbers(7);
    const streams = Array.from({ length: 12 }, (_, i) => `stream ${i}`);
    let accepted = 0;
    await Promise.all(
      stores.flatMap((store) =>
        Array.from({ length: 6 }, async () => {
          for (let i = 0; i < sample(30, 2_000); i++) {
            const stream = streams[Math.floor(chance() * streams.length)]!;
            const version = (await store.readStream(stream)).length;
            const count = 1 + Math.floor(chance() * 3);
            const won = await store.append(append(stream, version, count)).then(
              () => true,
              (error: unknown) => {
                expect(error).toBeInstanceOf(WrongExpectedVersion);
                return false;
              },
            );
            if (won) accepted += count;
          }
        }),
      ),
    );
    const truth = await positions();
    while (read.length < truth.length) await delay(10);
    stop.abort();
    await Promise.all([reading, keeping]);
    await log.close();
    expect(truth).toHaveLength(accepted);
    expect(await checkAll()).toBe(accepted);
    expect(checkLog(truth, read)).toEqual({ lost: 0, repeated: 0, outOfOrder: 0, outOfOrderInStream: 0, invented: 0 });
    expect((await partitions()).length).toBeGreaterThan(accepted / 40);
  });

  it('wait for an append that is in flight before them', async () => {
    const url = await logOf(100);
    await drawUpTo(99);
    const slow = new Client({ connectionString: url });
    await slow.connect();
    await slow.query('BEGIN');
    await slow.query(
      `INSERT INTO events (stream, version, type, schema_version, data, metadata, time, previous, hash)
       VALUES ('contended', 1, 'Happened', 1, '{}', '{}', now(), $1, $1)`,
      [noHash],
    );
    const next = new EventStore(pool).append(append('contended', 0)).catch((error: unknown) => error);
    expect(await Promise.race([next, delay(500, 'waits')])).toBe('waits');
    await slow.query('COMMIT');
    await slow.end();
    expect(await next).toMatchObject({ name: 'WrongExpectedVersion', actual: 1 });
    expect(await positions()).toHaveLength(1);
  });

  it('are not used by an append whose snapshot is from before they were opened', async () => {
    const url = await logOf(100);
    // Holds an append after its snapshot and before it draws a position.
    await pool.query(`
      CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF current_setting('application_name') = 'held' THEN PERFORM pg_advisory_xact_lock(4242); END IF;
        RETURN NULL;
      END $$;
      CREATE TRIGGER a_hold BEFORE INSERT ON events_1 FOR EACH STATEMENT EXECUTE FUNCTION hold()`);
    const gate = new Client({ connectionString: url });
    await gate.connect();
    await gate.query('SELECT pg_advisory_lock(4242)');
    const late = new EventStore(pooled(`${url}?application_name=held`))
      .append(append('contended', 0))
      .catch((error: unknown) => error);
    while ((await rows(`SELECT FROM pg_locks WHERE objid = 4242 AND NOT granted`)).length === 0) await delay(5);
    const store = new EventStore(pool);
    await store.append(append('contended', 0));
    await drawUpTo(100);
    await store.append(append('another', 0));
    expect(await partitions()).toMatchObject([{ isOpen: true }, { isOpen: true }]);
    await gate.query('SELECT pg_advisory_unlock(4242)');
    expect(await late).toMatchObject({ name: 'WrongExpectedVersion', actual: 1 });
    expect(await positions()).toHaveLength(2);
    await gate.end();
  });

  it('are made ahead, and indexed when they are closed; a stream is read in those alone in which it is', async () => {
    await logOf(20);
    const store = new EventStore(pool);
    await store.append(append('old', 0, 3));
    await store.append(append('both', 0, 2));
    for (let i = 0; i < 30; i++) await store.append(append(`filler ${i}`, 0, 7));
    await store.append(append('both', 2, 2));
    await new EventPartitions(pool).upkeep();
    const made = await partitions();
    expect(made.filter(({ isOpen }) => isOpen).length).toBe(made.length - 1);
    expect(made.filter(({ isIndexed }) => isIndexed).length).toBe(made.length - 2);
    expect((await store.readStream('both')).map(({ version }) => version)).toEqual([1, 2, 3, 4]);
    expect((await store.readStream('both', 2, 2)).map(({ version }) => version)).toEqual([2, 3]);
    expect((await store.readStream('old', 4)).map(({ version }) => version)).toEqual([]);
    const parts = ['old', 'both'].map((stream) => ({ stream, first: 2, last: 3 }));
    expect((await store.readStreams(parts, 10)).map(({ stream, version }) => [stream, version])).toEqual([
      ['old', 2],
      ['old', 3],
      ['both', 2],
      ['both', 3],
    ]);
    const newest = await store.newestOf([{ stream: 'both' }, { stream: 'old' }, { stream: 'none' }], ['Happened']);
    expect(newest.map((event) => event?.version)).toEqual([4, 3, undefined]);

    /** The partitions that a call of the store has read. */
    const touched = async (call: (store: EventStore) => Promise<unknown>) => {
      const asked: QueryConfig[] = [];
      const query = (config: QueryConfig) => {
        asked.push(config);
        return pool.query(config);
      };
      const client = { query, on: () => {}, off: () => {}, release: () => {} };
      await call(new EventStore({ query, connect: () => client } as unknown as Pool));
      const { text, values } = asked.findLast((config) => config.text?.startsWith('WITH'))!;
      return scanned(text, values);
    };
    const scanned = async (text: string, values: unknown[] = []) => {
      const plan = await rows<{ 'QUERY PLAN': string }>(`EXPLAIN (ANALYZE) ${text}`, values);
      const scans = plan.map((line) => /on (events_\d+).*\((.*)\)/.exec(line['QUERY PLAN'])).filter((scan) => scan);
      return [...new Set(scans.filter((scan) => !scan![0].includes('never executed')).map((scan) => scan![1]))].sort();
    };
    const open = [made.length - 1, made.length].map((number) => `events_${number}`);
    const old = await store.readStream('old');
    expect(old.map(({ version }) => version)).toEqual([1, 2, 3]);
    expect(await touched((each) => each.readStream('old'))).toEqual(['events_1', ...open].sort());
    expect(await touched((each) => each.readStream('nothing'))).toEqual([...open].sort());
    // So is the event before one whose part of the log does not have it.
    const { position } = (await positions()).find(({ stream, version }) => stream === 'both' && version === 3)!;
    const chained = await scanned(`${chainedSql()} SELECT before FROM chained`, [position - 1, position, 1, noHash]);
    const home = [position - 1, position].map((at) => `events_${made.findIndex(({ upper }) => upper >= at) + 1}`);
    expect(chained).toEqual([...new Set(['events_1', ...home, ...open])].sort());
    expect(await touched((each) => each.append(append('old', 3)))).toEqual([open[0]]);
    expect(await store.append(append('old', 4))).toBe(5);
    expect(await checkAll()).toBe((await positions()).length);
  });

  it('take an import whose positions are in several of them', async () => {
    await logOf(30);
    const store = new EventStore(pool);
    for (let i = 0; i < 9; i++) await store.append(append('imported', i * 10, 10));
    const head = await new EventLog(pool).head();
    const pages: KeptEvent[][] = [];
    for await (const { events } of new EventArchive(pool).read({}, { after: 0, upTo: head })) pages.push(events);
    const before = await digest();
    await logOf(25);
    const given = async function* () {
      yield* pages;
      await Promise.resolve();
    };
    await new EventArchive(pool).fill(given(), head, () => Promise.resolve());
    expect(await digest()).toEqual(before);
    expect(await new EventStore(pool).append(append('imported', 90))).toBe(91);
    expect(await checkAll()).toBe(91);
  });

  describe('of a log that was one table', () => {
    /** Writes events that have hashes of their own, faster than by appends. */
    const fill = (events: number) =>
      pool.query(
        `INSERT INTO events (position, stream, version, type, schema_version, data, metadata, time, previous, hash)
           OVERRIDING SYSTEM VALUE
         SELECT position, stream, version, type, schema_version, data::json, metadata::json, time, previous, ${eventHashSql()}
         FROM (SELECT nextval('event_positions') AS position, 'filled ' || n AS stream, 1 AS version, 'Happened' AS type,
           1::smallint AS schema_version, '{"x":"' || repeat('x', 200) || '"}' AS data, '{}' AS metadata,
           now() AS time, $2::bytea AS previous FROM generate_series(1, $1::int) AS n) AS event`,
        [events, noHash],
      );

    it('are made while 200 events a second are appended, and while others read for long', async () => {
      const events = sample(30_000, 5_000_000);
      const url = await logOf();
      await pool.query('SET statement_timeout = 0');
      const filler = openPool(url, 1, 0);
      await filler.query('SELECT 1');
      const outer = pool;
      pool = filler;
      await fill(events);
      const before = sample(1, 0) ? await digest() : undefined;
      pool = outer;
      await filler.end();
      const store = new EventStore(pooled(url));
      const waits: number[] = [];
      let over = false;
      const versions = new Map<string, number>();
      const appends: Promise<void>[] = [];
      const appending = (async () => {
        for (let i = 0; !over; i++, await delay(5)) {
          const stream = `live ${i % 500}`;
          const began = performance.now();
          const version = versions.get(stream) ?? 0;
          versions.set(stream, version + 1);
          appends.push(store.append(append(stream, version)).then(() => void waits.push(performance.now() - began)));
        }
      })();
      const reader = new Client({ connectionString: url });
      await reader.connect();
      await reader.query('BEGIN; SELECT FROM events LIMIT 1');
      const reads = delay(1_500).then(() => reader.query('COMMIT'));
      const done = await partitionEvents(pooled(url));
      await reads;
      await delay(500);
      over = true;
      await appending;
      await Promise.all(appends);
      await reader.end();
      const longest = Math.max(...waits);
      console.log(
        `${events} events, ${waits.length} appends meanwhile: the longest took ${Math.round(longest)} ms; the exchange ${Math.round(done!.lockedMs)} ms`,
      );
      expect(longest).toBeLessThan(1_000);
      expect(await isOneTable(pool)).toBe(false);
      if (before) {
        const kept = await rows<{ all: string }>(
          `SELECT md5(string_agg(events::text, '|' ORDER BY position)) AS all FROM events WHERE position <= ${events}`,
        );
        expect(kept[0]).toEqual(before);
        expect(await checkAll()).toBe(events + waits.length);
      }
      expect(await partitionEvents(pool)).toBeUndefined();
    });

    it('are made by another run when one is killed, after whatever it has changed', async () => {
      const url = await logOf();
      await new EventStore(pool).append(append('kept', 0, 5));
      const before = await digest();
      // A run that ends its own session, after the change of that number, is killed there on any machine.
      await pool.query(`
        CREATE SEQUENCE changes;
        CREATE FUNCTION end_run() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
          IF current_setting('application_name') = 'victim/' || nextval('changes') THEN
            PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(1);
          END IF;
        END $$;
        CREATE EVENT TRIGGER end_run ON ddl_command_end EXECUTE FUNCTION end_run()`);
      let killed = 0;
      for (let round = 1; round <= 100 && (await isOneTable(pool)); round++) {
        await pool.query(`SELECT setval('changes', 1, false)`);
        const victim = pooled(`${url}?application_name=victim/${round}`);
        const isKilled = await partitionEvents(victim).then(
          () => false,
          () => true,
        );
        if (isKilled) killed++;
        expect(await digest()).toEqual(before);
      }
      expect(killed).toBeGreaterThan(5);
      expect(await partitions()).toMatchObject([{ isOpen: true }, { isOpen: false }]);
      expect(await new EventStore(pool).append(append('kept', 5))).toBe(6);
    });

    it('have its rights, and its sequence those of the one before', async () => {
      await logOf();
      await pool.query(
        `GRANT SELECT, INSERT ON events TO pg_monitor; GRANT USAGE ON SEQUENCE event_positions TO pg_monitor`,
      );
      const rights = `SELECT has_table_privilege('pg_monitor', 'events', 'INSERT') AS inserts,
        has_table_privilege('pg_monitor', 'events', 'UPDATE') AS updates,
        has_sequence_privilege('pg_monitor', 'event_positions', 'USAGE') AS draws`;
      const before = await rows(rights);
      expect(before).toEqual([{ inserts: true, updates: false, draws: true }]);
      await partitionEvents(pool);
      expect(await rows(rights)).toEqual(before);
    });

    it('leave no bound behind when a run died', async () => {
      await logOf();
      await pool.query('ALTER TABLE events ADD CONSTRAINT events_below_partitions CHECK (position < 3) NOT VALID');
      await new EventPartitions(pool).upkeep();
      expect(await new EventStore(pool).append(append('a', 0, 5))).toBe(5);
      expect(await isOneTable(pool)).toBe(true);
    });

    it('are not made when something depends on the table itself', async () => {
      await logOf();
      await pool.query('CREATE VIEW of_others AS SELECT stream FROM events');
      await expect(partitionEvents(pool)).rejects.toThrow(/of_others/);
      expect(await isOneTable(pool)).toBe(true);
    });

    it('are made not at all when others hold the table for too long', async () => {
      const url = await logOf();
      const holder = new Client({ connectionString: url });
      await holder.connect();
      await holder.query('BEGIN; SELECT FROM events');
      await expect(partitionEvents(pool, { patienceMs: 300 })).rejects.toThrow(/Others hold the table events/);
      await holder.end();
      expect(await new EventStore(pool).append(append('a', 0))).toBe(1);
      expect(await partitionEvents(pool)).toBeDefined();
    });
  });
});
