import { Pool } from 'pg';
import { migrate } from '@app/database';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { UniqueViolation, WrongExpectedVersion } from './errors';
import type { Append, InlineProjection } from './event';
import { EventStore } from './event-store';
import { eventStoreMigrations } from './event-store.migration';

const projection: InlineProjection = {
  table: 'things',
  key: 'id',
  columns: { id: 'text', name: 'text', tags: 'json', version: 'integer' },
};
const metadata = { actor: 'test', correlationId: 'c1' };
const append = (stream: string, expectedVersion: number, count = 1, name?: string): Append => ({
  stream,
  expectedVersion,
  metadata,
  events: Array.from({ length: count }, (_, i) => ({
    type: 'Happened',
    schemaVersion: 1,
    time: '2026-04-15T10:00:00.000Z',
    data: { number: expectedVersion + i + 1 },
  })),
  row: { id: stream, name: name ?? stream, tags: ['a', 'b'], version: expectedVersion + count },
});

describe('the event store', () => {
  let database: TestDatabase;
  let pool: Pool;
  let store: EventStore;

  beforeAll(async () => {
    database = await testDatabase();
    await migrate(database.url, eventStoreMigrations);
    pool = new Pool({ connectionString: database.url, max: 10 });
    await pool.query('CREATE TABLE things (id text PRIMARY KEY, name text UNIQUE, tags json, version integer)');
    store = new EventStore(pool, projection);
  });
  afterAll(async () => {
    await pool.end();
    await database.drop();
  });

  const row = async (id: string) =>
    (await pool.query<{ version: number; tags: unknown }>('SELECT * FROM things WHERE id = $1', [id])).rows[0];
  const versions = async (stream: string) => (await store.readStream(stream)).map((event) => event.version);

  it('appends at the expected version and reads back what was written', async () => {
    expect(await store.append(append('a', 0))).toBe(1);
    expect(await store.append(append('a', 1, 3))).toBe(4);
    const events = await store.readStream('a');
    expect(events.map((event) => event.version)).toEqual([1, 2, 3, 4]);
    expect(events[3]).toMatchObject({
      stream: 'a',
      type: 'Happened',
      schemaVersion: 1,
      data: { number: 4 },
      metadata,
      time: '2026-04-15T10:00:00.000Z',
    });
    expect(await store.readStream('a', 4)).toHaveLength(1);
    expect(await row('a')).toMatchObject({ version: 4, tags: ['a', 'b'] });
    expect(await store.readStream('nothing')).toEqual([]);
  });

  it.each([[1], [2]])('refuses a stale version of %d events and names what it found', async (count) => {
    await store.append(append(`stale${count}`, 0));
    const refused = store.append(append(`stale${count}`, 0, count));
    await expect(refused).rejects.toThrow(WrongExpectedVersion);
    await expect(refused).rejects.toMatchObject({ expected: 0, actual: 1 });
    await expect(store.append(append(`stale${count}`, 5, count))).rejects.toMatchObject({ expected: 5, actual: 1 });
    expect(await row(`stale${count}`)).toMatchObject({ version: 1 });
  });

  it('gives each append of a batch its own answer, and lets none fall with its neighbours', async () => {
    await store.append(append('batch7', 0));
    await pool.query(`INSERT INTO things (id, name, version) VALUES ('other', 'taken', 0)`);
    const answers = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) =>
        store.append(append(`batch${i}`, 0, (i % 3) + 1, i === 20 ? 'taken' : undefined)),
      ),
    );
    for (const [i, answer] of answers.entries()) {
      if (i === 7) expect(answer).toMatchObject({ status: 'rejected', reason: { actual: 1 } });
      else if (i === 20) {
        expect(answer).toMatchObject({ status: 'rejected', reason: { constraint: 'things_name_key' } });
        expect((answer as PromiseRejectedResult).reason).toBeInstanceOf(UniqueViolation);
        expect(await versions('batch20')).toEqual([]);
      } else {
        expect(answer).toEqual({ status: 'fulfilled', value: (i % 3) + 1 });
        expect(await row(`batch${i}`)).toMatchObject({ version: (i % 3) + 1 });
      }
    }
  });

  it('an append whose data the database cannot hold fails alone', async () => {
    const bad = append('bad', 0);
    const answers = await Promise.allSettled([
      store.append(append('fine1', 0)),
      store.append(append('fine2', 0)),
      store.append({ ...bad, row: { ...bad.row, name: 'a\u0000b' } }),
      store.append(append('fine3', 0)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(await versions('bad')).toEqual([]);
  });

  it('many writers of one stream: each version is won once', async () => {
    const stores = [new EventStore(pool, projection), new EventStore(pool, projection)];
    let won = 0;
    for (let version = 0; version < 50; version++) {
      const answers = await Promise.allSettled(
        Array.from({ length: 6 }, (_, i) => stores[i % 2]!.append(append('contended', version, 1 + (i % 2)))),
      );
      const winners = answers.filter((answer) => answer.status === 'fulfilled');
      expect(winners).toHaveLength(1);
      won = winners[0]!.value;
      for (const answer of answers)
        if (answer.status === 'rejected') expect(answer.reason).toBeInstanceOf(WrongExpectedVersion);
      if (won > version + 1) version++;
    }
    expect(await versions('contended')).toEqual(Array.from({ length: won }, (_, i) => i + 1));
    expect(await row('contended')).toMatchObject({ version: won });
  });

  it('two processes that append to the same streams at once neither wait for each other nor lose', async () => {
    const pools = [new Pool({ connectionString: database.url }), new Pool({ connectionString: database.url })];
    const stores = pools.map((each) => new EventStore(each, projection));
    for (let round = 0; round < 30; round++) {
      const streams = Array.from({ length: 20 }, (_, i) => `shared${i}`);
      const answers = await Promise.allSettled(
        stores.flatMap((each, k) =>
          (k === 0 ? streams : [...streams].reverse()).map((stream) => each.append(append(stream, round))),
        ),
      );
      expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(streams.length);
    }
    await Promise.all(pools.map((each) => each.end()));
  }, 30_000);

  it.each(['UPDATE events SET type = type', 'DELETE FROM events', 'TRUNCATE events'])('refuses %s', async (sql) => {
    await expect(pool.query(sql)).rejects.toThrow(/only ever added/);
  });
});
