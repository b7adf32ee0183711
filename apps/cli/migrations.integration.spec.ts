import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openClient, type Connection, type Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { checksum, fill, observe } from '../../test/support/migration-rules';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { mailServerTables, serviceTables } from './migrations';

/** Holds a file for each release: the checksum and the name of each migration that came with it. */
const folder = resolve(__dirname, '../../test/golden/migrations');
const released = new Map(
  readdirSync(folder).flatMap((file) =>
    readFileSync(join(folder, file), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => line.split('  ').reverse() as [string, string]),
  ),
);
const nameOf = (Migration: Migration) => new Migration().name ?? Migration.name;
const inOrder = (migrations: readonly Migration[]) =>
  [...migrations].sort((a, b) => Number(nameOf(a).slice(-13)) - Number(nameOf(b).slice(-13)));
/** The release that is being made: `KEEP_RELEASE=0.2.0` keeps the checksums of what is new in it. */
const keeps = process.env.KEEP_RELEASE;

let database: TestDatabase;
let client: Awaited<ReturnType<typeof openClient>>;

beforeEach(async () => {
  database = await testDatabase();
  client = await openClient({ connectionString: database.url });
});
afterEach(async () => {
  await client.end();
  await database.drop();
});

const isReleased = (migration: Migration) => released.has(nameOf(migration));

describe.each([
  ['the events', serviceTables],
  ['the mail server', mailServerTables],
])('the migrations of the database of %s', (_database, all) => {
  it('are what they were released as, and the new ones hold nobody up and take nothing away', async () => {
    for (const Migration of inOrder(all.filter(isReleased))) {
      const name = nameOf(Migration);
      expect({ name, checksum: checksum(await observe(client, Migration)) }).toEqual({
        name,
        checksum: released.get(name),
      });
    }
    await fill(client);
    const lines: string[] = [];
    for (const Migration of inOrder(all.filter((each) => !isReleased(each)))) {
      const name = nameOf(Migration);
      const observed = await observe(client, Migration);
      // On an empty log nothing is there to be taken away.
      if (released.size > 0) expect({ name, violations: observed.violations }).toEqual({ name, violations: [] });
      lines.push(`${checksum(observed)}  ${name}\n`);
    }
    if (keeps && lines.length > 0) {
      const file = join(folder, `${keeps}.sha256`);
      writeFileSync(file, (existsSync(file) ? readFileSync(file, 'utf8') : '') + lines.join(''));
    }
  });
});

const migrationOf = (statements: readonly string[], more: object = {}): Migration =>
  class implements MigrationInterface {
    readonly name = 'Planted1800000000000';
    constructor() {
      Object.assign(this, more);
    }
    async up(runner: QueryRunner): Promise<void> {
      for (const statement of statements) await runner.query(statement);
    }
    async down(): Promise<void> {}
  };

describe('the rule', () => {
  const withTables = async (on: Connection) => {
    await on.query(`
      CREATE TABLE people (id int PRIMARY KEY, name text, city text);
      CREATE TABLE slots (slot int);
      CREATE VIEW towns AS SELECT city FROM people;
      CREATE INDEX people_by_city ON people (city);
      CREATE FUNCTION greet(name text) RETURNS text LANGUAGE sql AS 'SELECT name';
      INSERT INTO people SELECT n, 'Ada', 'Perth' FROM generate_series(1, 100) AS n; INSERT INTO slots VALUES (1)`);
  };
  const broken: [string, string[], RegExp, object?][] = [
    ['renames a table', ['ALTER TABLE people RENAME TO persons'], /renames the table people/],
    [
      'renames a column',
      ['ALTER TABLE people RENAME COLUMN name TO called'],
      /drops or renames the column people\.name/,
    ],
    ['drops a table', ['DROP VIEW towns', 'DROP TABLE people'], /drops or renames the table people/],
    ['drops a column', ['ALTER TABLE people DROP COLUMN name'], /drops or renames the column people\.name/],
    ['drops an index', ['DROP INDEX people_by_city'], /drops or renames the index people_by_city/],
    ['drops a function', ['DROP FUNCTION greet(text)'], /drops or renames the function greet\(text\)/],
    [
      'drops what the release before uses',
      ['ALTER TABLE people DROP COLUMN name'],
      /drops or renames the column people\.name/,
      { unusedSince: '9.0.0' },
    ],
    ['changes a type', ['ALTER TABLE people ALTER COLUMN id TYPE bigint'], /changes the column people\.id to bigint/],
    ['changes a type, which writes all', ['ALTER TABLE people ALTER COLUMN id TYPE bigint'], /whole table people anew/],
    ['forbids nulls', ['ALTER TABLE people ALTER COLUMN name SET NOT NULL'], /people\.name be NOT NULL/],
    [
      'wants what is not written',
      ['TRUNCATE people', 'ALTER TABLE people ADD COLUMN age int NOT NULL'],
      /adds the column people\.age, which the release before does not write/,
    ],
    [
      'adds a constraint at once',
      ['ALTER TABLE people ADD CONSTRAINT named CHECK (length(name) > 0)'],
      /adds the constraint people\.named without NOT VALID/,
    ],
    [
      'validates it in the same transaction',
      [
        'ALTER TABLE people ADD CONSTRAINT named CHECK (length(name) > 0) NOT VALID',
        'ALTER TABLE people VALIDATE CONSTRAINT named',
      ],
      /reads the rows of people while it holds up others at people/,
    ],
    ['makes an index', ['CREATE INDEX people_by_name ON people (name)'], /reads the rows of people while it holds up/],
    [
      'adds a column whose default is another in each row',
      ['ALTER TABLE people ADD COLUMN at timestamptz DEFAULT clock_timestamp()'],
      /writes the whole table people anew/,
    ],
    ['writes all rows', [`UPDATE people SET name = 'Grace'`], /writes rows of people, which may be many/],
    ['deletes all rows', ['DELETE FROM people'], /writes rows of people, which may be many/],
    ['hides it in a block', [`DO $$ BEGIN UPDATE people SET name = 'Eve'; END $$`], /writes rows of people/],
    ['locks a table', ['LOCK TABLE people IN EXCLUSIVE MODE'], /locks a table by LOCK/],
    ['empties a table', ['TRUNCATE people'], /writes the whole table people anew/],
    [
      'writes all rows outside a transaction',
      [`UPDATE people SET name = 'Eve'`],
      /writes rows of people/,
      { transaction: false },
    ],
  ];
  it('finds each that breaks it', async () => {
    await withTables(client);
    for (const [what, statements, expected, more] of broken) {
      const { violations } = await observe(client, migrationOf(statements, more), 'ROLLBACK');
      expect({ what, violations }).toEqual({
        what,
        violations: expect.arrayContaining([expect.stringMatching(expected)]) as string[],
      });
    }
  });

  it.each<[string, string[], object]>([
    [
      'adds',
      ['ALTER TABLE people ADD COLUMN age int', `ALTER TABLE people ADD COLUMN kind text NOT NULL DEFAULT 'a'`],
      {},
    ],
    ['makes a table and fills it', ['CREATE TABLE cities AS SELECT DISTINCT city FROM people'], {}],
    ['writes a small table', ['UPDATE slots SET slot = 2', 'CREATE INDEX slots_by_slot ON slots (slot)'], {}],
    [
      'makes a constraint for what comes',
      ['ALTER TABLE people ADD CONSTRAINT named CHECK (name > $$a$$) NOT VALID'],
      {},
    ],
    ['makes an index that waits', ['CREATE INDEX CONCURRENTLY by_name ON people (name)'], { transaction: false }],
    [
      'replaces a function',
      [`CREATE OR REPLACE FUNCTION greet(name text) RETURNS text LANGUAGE sql AS 'SELECT $$hi$$'`],
      {},
    ],
    ['drops what no release uses', ['ALTER TABLE people DROP COLUMN name'], { unusedSince: '0.1.0' }],
  ])('lets one that %s pass', async (_what, statements, more) => {
    await withTables(client);
    expect((await observe(client, migrationOf(statements, more))).violations).toEqual([]);
  });
});
