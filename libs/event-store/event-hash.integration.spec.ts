import { migrate } from '@app/database';
import { Pool, type PoolClient } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import type { Append } from './event';
import { eventHash, eventHashSql, microsecondsOf, noHash } from './event-hash';
import { eventStoreMigrations } from './event-store.migration';
import { inFlightTag } from './in-flight';
import { EventStore } from './event-store';

const texts = ['plain', 'Zürich 🙂', 'a "quoted" \\ text\nwith a line', ''];
const append = (stream: string, expectedVersion: number, count: number): Append => ({
  stream,
  expectedVersion,
  metadata: { actor: 'Grüße', correlationId: 'c1' },
  events: Array.from({ length: count }, (_, i) => ({
    type: 'Happened',
    schemaVersion: 1 + (i % 3),
    time: `2026-04-15T10:00:00.${String(100 + i).padStart(3, '0')}Z`,
    data: { number: expectedVersion + i + 1, text: texts[i % texts.length] },
  })),
});

interface Row {
  readonly position: number;
  readonly stream: string;
  readonly version: number;
  readonly type: string;
  readonly schemaVersion: number;
  readonly data: string;
  readonly metadata: string;
  readonly time: Date;
  readonly previous: Buffer;
  readonly hash: Buffer;
}

describe('the hashes of events', () => {
  let database: TestDatabase;
  let pool: Pool;
  let store: EventStore;

  beforeAll(async () => {
    database = await databaseWith(eventStoreMigrations);
    pool = new Pool({ connectionString: database.url, max: 5 });
    store = new EventStore(pool);
  });
  afterAll(async () => {
    await pool?.end();
    await database?.drop();
  });

  const rows = async (): Promise<Row[]> => {
    const read = await pool.query<Row>(
      `SELECT position::float8 AS position, stream, version, type, schema_version AS "schemaVersion", data::text AS data,
         metadata::text AS metadata, time, previous, hash FROM events ORDER BY stream, version`,
    );
    return read.rows;
  };
  const expectChained = (events: readonly Row[]) => {
    let before: Row | undefined;
    for (const event of events) {
      const previous = event.version === 1 ? noHash : before!.hash;
      expect(event.previous).toEqual(previous);
      const microseconds = microsecondsOf(event.time.toISOString());
      expect(event.hash).toEqual(eventHash({ ...event, microseconds, previous }));
      before = event;
    }
  };

  it('chain the events of each stream, whichever appends share a statement', async () => {
    await store.append(append('lone', 0, 1));
    await store.append(append('lone', 1, 1));
    await store.append(append('several', 0, 7));
    await store.append(append('several', 7, 1));
    const together = Array.from({ length: 40 }, (_, i) => `together${i}`);
    await Promise.all(together.map((stream, i) => store.append(append(stream, 0, 1 + (i % 4)))));
    await Promise.all(together.map((stream, i) => store.append(append(stream, 1 + (i % 4), 1 + (i % 3)))));
    // Of one event each, in another order than their names, and some of a version that their stream has not.
    const single = Array.from({ length: 40 }, (_, i) => `single${(i * 7) % 40}`);
    for (const expected of [0, 1])
      await Promise.allSettled(single.map((stream, i) => store.append(append(stream, i % 8 ? expected : 5, 1))));
    const events = await rows();
    expect(events).toHaveLength(2 + 8 + 100 + 79 + 70);
    expect(events.filter(({ stream, version }) => stream === 'several' && version === 8)).toHaveLength(1);
    expectChained(events);
    expect(new Set(events.map(({ hash }) => hash.toString('hex'))).size).toBe(events.length);
  });

  it('cover the position, which is drawn when the append is already known to be in flight', async () => {
    const client = await pool.connect();
    try {
      for (const batch of [1, 3]) {
        await client.query('BEGIN');
        const inside = new EventStore(poolOf(client));
        await inside.append(append(`flying${batch}`, 0, batch));
        const { rows: drawn } = await client.query<{ first: number }>(
          'SELECT min(position)::float8 AS first FROM events WHERE stream = $1',
          [`flying${batch}`],
        );
        const { rows: locks } = await pool.query<{ mark: number }>(
          `SELECT (((classid::int8 << 32) | objid::int8) & ((1::int8 << 48) - 1))::float8 AS mark FROM pg_locks
           WHERE locktype = 'advisory' AND objsubid = 1 AND classid::int8 >> 16 = ${inFlightTag}
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        );
        expect(locks).toHaveLength(1);
        expect(locks[0]!.mark).toBeLessThan(drawn[0]!.first);
        await client.query('COMMIT');
      }
    } finally {
      client.release();
    }
  });

  it('cover the position of each of several appends of one event, which are marked as in flight first', async () => {
    const client = await pool.connect();
    try {
      await client.query('BEGIN');
      const inside = new EventStore(poolOf(client));
      // The first goes alone, and the others together.
      await Promise.all(['single a', 'single c', 'single b'].map((stream) => inside.append(append(stream, 0, 1))));
      const { rows: drawn } = await client.query<{ stream: string; position: number; sent: string }>(
        `SELECT stream, position::float8 AS position, cmin::text AS sent FROM events WHERE stream LIKE 'single _'
         ORDER BY position`,
      );
      expect(drawn.map(({ stream }) => stream)).toEqual(['single a', 'single b', 'single c']);
      expect(drawn[1]!.sent).toBe(drawn[2]!.sent);
      const { rows: locks } = await pool.query<{ mark: number }>(
        `SELECT max(((classid::int8 << 32) | objid::int8) & ((1::int8 << 48) - 1))::float8 AS mark FROM pg_locks
         WHERE locktype = 'advisory' AND objsubid = 1 AND classid::int8 >> 16 = ${inFlightTag}
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
      expect(locks[0]!.mark).toBeLessThan(drawn[1]!.position);
      await client.query('COMMIT');
      expectChained((await rows()).filter(({ stream }) => stream.startsWith('single ')));
    } finally {
      client.release();
    }
  });

  it('change with every column', async () => {
    const changes = {
      position: 'position + 1',
      previous: `previous || '\\x00'`,
      stream: `stream || 'x'`,
      version: 'version + 1',
      type: `type || 'x'`,
      schema_version: '(schema_version + 1)::smallint',
      time: `time + interval '1 microsecond'`,
      data: `data::text || ' '`,
      metadata: `metadata::text || ' '`,
    };
    const columns = Object.entries(changes).map(([name, value]) => `${eventHashSql({ [name]: value })} AS ${name}`);
    const { rows: hashes } = await pool.query<Record<string, Buffer>>(
      `SELECT hash, ${columns.join(', ')} FROM events WHERE stream = 'lone' AND version = 2`,
    );
    const all = Object.values(hashes[0]!).map((hash) => hash.toString('hex'));
    expect(new Set(all).size).toBe(10);
  });

  it('are added to events that are older than hashes', async () => {
    const before = await rows();
    await pool.query('ALTER TABLE events DROP COLUMN hash, DROP COLUMN previous');
    await pool.query(`DELETE FROM migrations WHERE name = 'ChainEvents1795700000000'`);
    await migrate(database.url, eventStoreMigrations);
    expect(await rows()).toEqual(before);
    await expect(pool.query('UPDATE events SET version = 9')).rejects.toThrow('events are only ever added');
  });
});

/** Makes a pool of this one connection, which stays open. */
function poolOf(client: PoolClient): Pool {
  const query = client.query.bind(client);
  return { query, connect: () => ({ query, on: () => {}, off: () => {}, release: () => {} }) } as unknown as Pool;
}
