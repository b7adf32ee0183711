import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { openClient, openPool, type Connection } from './connections';
import { migrate } from './migrate';
import type { Release } from './releases';
import { checkSchema, schemaOf, type Migration } from './schema';

/** Makes a migration of some statements. */
const migration = (name: string, ...statements: string[]): Migration =>
  class implements MigrationInterface {
    readonly name = name;
    async up(runner: QueryRunner): Promise<void> {
      for (const statement of statements) await runner.query(statement);
    }
    async down(): Promise<void> {}
  };
const createNotes = migration('CreateNotes1790000000000', 'CREATE TABLE notes (text text)');
const addAuthor = migration(
  'AddAuthor1790000000100',
  'CREATE TABLE authors (name text)',
  'ALTER TABLE notes ADD COLUMN author text',
);
class IndexNotes1790000000200 implements MigrationInterface {
  readonly name = 'IndexNotes1790000000200';
  readonly transaction = false;
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX CONCURRENTLY IF EXISTS notes_text');
    await runner.query('CREATE INDEX CONCURRENTLY notes_text ON notes (text)');
  }
  async down(): Promise<void> {}
}
const release = (version: string, oldest: string): Release => ({ version, oldest });

let database: TestDatabase;
let pool: Pool;

beforeEach(async () => {
  database = await testDatabase();
  pool = openPool(database.url, 2);
});
afterEach(async () => {
  await pool.end();
  await database.drop();
});

const names = async () =>
  (await pool.query<{ name: string }>('SELECT name FROM migrations ORDER BY id')).rows.map(({ name }) => name);

/** Holds a lock on the notes, as a statement of an app or a dump would, until it is released. */
async function holdNotes(mode = 'ACCESS SHARE'): Promise<() => Promise<void>> {
  const other = await openClient({ connectionString: database.url });
  await other.query(`BEGIN; LOCK TABLE notes IN ${mode} MODE`);
  return () => other.end();
}

describe('migrate', () => {
  it('runs what is missing in the order of their times, tells of each, and finds nothing the next time', async () => {
    const told: string[] = [];
    const options = { onDone: (name: string, ms: number) => told.push(`${name} ${ms > 0}`) };
    await migrate(database.url, [addAuthor, IndexNotes1790000000200, createNotes], options);
    expect(told).toEqual([
      'CreateNotes1790000000000 true',
      'AddAuthor1790000000100 true',
      'IndexNotes1790000000200 true',
    ]);
    expect(await names()).toEqual(told.map((line) => line.split(' ')[0]));
    await migrate(database.url, [addAuthor, createNotes], options);
    expect(told).toHaveLength(3);
  });

  it('holds nobody up behind a lock that others hold: it takes back what it has, and tries again', async () => {
    await migrate(database.url, [createNotes]);
    const release = await holdNotes();
    const waits: string[] = [];
    const migrating = migrate(database.url, [addAuthor], { onWait: (what) => waits.push(what) });
    // A statement that comes later queues behind the request for the lock, and is served between two tries.
    let slowest = 0;
    while (waits.length < 2) {
      const began = performance.now();
      await pool.query('INSERT INTO notes VALUES (1)');
      slowest = Math.max(slowest, performance.now() - began);
      expect((await pool.query(`SELECT to_regclass('authors') AS is`)).rows).toEqual([{ is: null }]);
      await sleep(20);
    }
    expect(slowest).toBeLessThan(3_000);
    await release();
    await migrating;
    expect(waits[0]).toMatch(
      /^locks of AddAuthor1790000000100, try 2 in \d\.\d s: the longest transaction is that of server process \d+ \(sendmux\), for [\d.]+ s$/,
    );
    expect(await names()).toHaveLength(2);
  });

  it('gives up in time, says who holds it, and has done nothing', async () => {
    await migrate(database.url, [createNotes]);
    const release = await holdNotes();
    await expect(migrate(database.url, [addAuthor], { patienceMs: 1 })).rejects.toThrow(
      /^AddAuthor1790000000100 has not had its locks within 0\.001 s, and nothing of it is done: the longest transaction .* \(sendmux\)/,
    );
    await release();
    expect(await names()).toEqual(['CreateNotes1790000000000']);
    expect((await pool.query(`SELECT to_regclass('authors') AS is`)).rows).toEqual([{ is: null }]);
  });

  it('names the migration that fails, and leaves nothing of it', async () => {
    const broken = migration('Broken1790000000050', 'CREATE TABLE halves (a int)', 'SELECT 1 / 0');
    await expect(migrate(database.url, [createNotes, broken, addAuthor])).rejects.toThrow(
      'Broken1790000000050: division by zero',
    );
    expect(await names()).toEqual(['CreateNotes1790000000000']);
    expect((await pool.query(`SELECT to_regclass('halves') AS is`)).rows).toEqual([{ is: null }]);
  });

  it('is done once by several that begin at the same time, and each that waits says so', async () => {
    const waits: string[] = [];
    const slow = migration('Slow1790000000060', 'SELECT pg_sleep(0.3)', 'CREATE TABLE slow (a int)');
    await Promise.all(
      [1, 2, 3].map(() => migrate(database.url, [createNotes, slow], { onWait: (w) => waits.push(w) })),
    );
    expect(await names()).toHaveLength(2);
    expect(waits).toEqual(Array<string>(2).fill('another process, which migrates this database'));
  });
});

describe('an app', () => {
  it('works on the tables of its own release, and on no older ones', async () => {
    await expect(checkSchema(database.url, [createNotes])).rejects.toThrow(
      /^The tables of DATABASE_URL are older than release \d+\.\d+\.\d+: 1 migrations are missing, the first of them CreateNotes1790000000000\. Run `bin\/sendmux migrate` of this release, and start again\.$/,
    );
    await migrate(database.url, [createNotes]);
    expect(await checkSchema(database.url, [createNotes])).toBeUndefined();
    await expect(checkSchema(database.url, [createNotes, addAuthor])).rejects.toThrow('AddAuthor1790000000100');
    expect(await names()).toHaveLength(1);
  });

  it('works on the tables of a later release that says so, with a warning, and on no others', async () => {
    await migrate(database.url, [createNotes], { release: release('9.9.0', '0.2.0') });
    expect(await checkSchema(database.url, [createNotes])).toMatch(
      /^The tables of DATABASE_URL are those of release 9\.9\.0\. This is \d+\.\d+\.\d+, which works on them/,
    );
    // Ten is more than nine, and the newest one decides.
    await migrate(database.url, [createNotes], { release: release('9.10.0', '9.9.0') });
    await expect(checkSchema(database.url, [createNotes])).rejects.toThrow(
      /are those of release 9\.10\.0, on which apps of 9\.9\.0 and later work\. This is \d+\.\d+\.\d+: run 9\.10\.0\./,
    );
  });

  it('does not start while a later release changes the tables that it does not work on', async () => {
    await migrate(database.url, [createNotes], { release: release('0.2.0', '0.1.0') });
    const hold = await holdNotes();
    const contract = migrate(database.url, [createNotes, addAuthor], {
      release: release('9.0.0', '8.0.0'),
      patienceMs: 1,
    });
    await expect(contract).rejects.toThrow('has not had its locks');
    await hold();
    // The release is kept before its first migration: the others are safe from it, whenever it goes on.
    await expect(checkSchema(database.url, [createNotes])).rejects.toThrow('those of release 9.0.0');
  });

  it('of an older release cannot migrate the tables of one that it does not work on', async () => {
    await migrate(database.url, [createNotes], { release: release('9.0.0', '8.0.0') });
    const old = release('7.0.0', '6.0.0');
    await expect(migrate(database.url, [addAuthor], { release: old })).rejects.toThrow('This is 7.0.0: run 9.0.0.');
    const known = (client: Pick<Connection, 'query'>) => schemaOf(client, [createNotes, addAuthor], old);
    expect(await known(pool)).toEqual({
      missing: ['AddAuthor1790000000100'],
      later: { version: '9.0.0', oldest: '8.0.0' },
    });
    expect(await migrate(database.url, [addAuthor], { release: release('8.1.0', '8.0.0') })).toMatch(
      /those of release 9\.0\.0\. This is 8\.1\.0, which works on them/,
    );
  });
});
