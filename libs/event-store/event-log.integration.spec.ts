import { setTimeout as delay } from 'node:timers/promises';
import { Client, Pool } from 'pg';
import { migrate } from '@app/database';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import type { RecordedEvent } from './event';
import { EventLog } from './event-log';
import { EventStore } from './event-store';
import { eventStoreMigrations } from './event-store.migration';
import { checkLog } from './log-checker';

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

/** Small and repeatable (mulberry32). */
function random(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const insert = (stream: string, version: number) =>
  `INSERT INTO events (stream, version, type, schema_version, data, metadata, time)
   VALUES ('${stream}', ${version}, 'Happened', 1, '{}', '{}', now())`;

describe('the tail of the log', () => {
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;

  beforeEach(async () => {
    database = await testDatabase();
    await migrate(database.url, eventStoreMigrations);
    pool = new Pool({ connectionString: database.url, max: 10 });
    log = new EventLog(pool);
  });
  afterEach(async () => {
    await log.close();
    await pool.end();
    await database.drop();
  });

  const client = async () => {
    const opened = new Client({ connectionString: database.url });
    // Some are killed from the server's side, which is the point.
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
    const seen: RecordedEvent[] = [];
    const naive: RecordedEvent[] = [];
    const reading = new AbortController();
    const reader = (async () => {
      for await (const batch of log.follow({ after: 0, signal: reading.signal })) seen.push(...batch);
    })();
    // The obvious way, side by side: it must fail, or this test would not notice anything.
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

    const killer = await client();
    const ends = Date.now() + 8_000;
    const writers = Array.from({ length: 50 }, async (_, number) => {
      const chance = random(seed + number);
      let connection = await client();
      let version = 0;
      while (Date.now() < ends) {
        const stream = `w${number}`;
        let next = version;
        try {
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
          if (chance() < 0.02) {
            const { rows } = await connection.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
            await killer.query('SELECT pg_terminate_backend($1)', [rows[0]!.pid]);
          }
          if (chance() < 0.15) await connection.query('ROLLBACK');
          else {
            await connection.query('COMMIT');
            version = next;
          }
        } catch {
          // Killed. Whether the commit happened is read back.
          await connection.end();
          connection = await client();
          const { rows } = await connection.query<{ version: number }>(
            'SELECT coalesce(max(version), 0) AS version FROM events WHERE stream = $1',
            [stream],
          );
          version = rows[0]!.version;
        }
      }
      await connection.end();
    });
    await Promise.all(writers);
    await killer.end();
    const truth = await committed();
    for (let i = 0; i < 100 && seen.length < truth.length; i++) await delay(50);
    await delay(300);
    reading.abort();
    await Promise.all([reader, naiveReader]);

    console.log(`${truth.length} events; the naive reader lost ${checkLog(truth, naive).lost}`);
    expect(truth.length).toBeGreaterThan(2_000);
    expect(checkLog(truth, seen)).toEqual({
      lost: 0,
      repeated: 0,
      outOfOrder: 0,
      outOfOrderInStream: 0,
      invented: 0,
    });
    expect(checkLog(truth, naive).lost).toBeGreaterThan(0);
  }, 40_000);

  it('skips nothing while an earlier position stays open for seconds and a thousand later ones commit', async () => {
    const slow = await client();
    await slow.query('BEGIN');
    await slow.query(insert('slow', 1));
    const store = new EventStore(pool);
    const metadata = { actor: 'test', correlationId: 'c' };
    const event = { type: 'Happened', schemaVersion: 1, data: {}, time: new Date().toISOString() };
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

  it('does not stop for a long transaction of a stranger in the same database', async () => {
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

  it('is woken by an append, long before its poll', async () => {
    const store = new EventStore(pool);
    const event = { type: 'Happened', schemaVersion: 1, data: {}, time: new Date().toISOString() };
    const stop = new AbortController();
    const delays: number[] = [];
    let appended = 0;
    const reader = (async () => {
      for await (const _batch of log.follow({ after: 0, signal: stop.signal }))
        delays.push(performance.now() - appended);
    })();
    await delay(400);
    for (let i = 0; i < 20; i++) {
      appended = performance.now();
      await store.append({
        stream: `s${i}`,
        expectedVersion: 0,
        events: [event],
        metadata: { actor: 'test', correlationId: 'c' },
      });
      await delay(60);
    }
    stop.abort();
    await reader;
    delays.sort((a, b) => a - b);
    console.log(`append called to event read: median ${delays[delays.length >> 1]?.toFixed(1)} ms`);
    expect(delays).toHaveLength(20);
    expect(delays[delays.length >> 1]).toBeLessThan(60);
  });
});
