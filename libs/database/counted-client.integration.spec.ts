import { register } from 'prom-client';
import type { Pool } from 'pg';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { measureClock } from './clock';
import { inTransaction, openPool } from './connections';

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await testDatabase();
  pool = openPool(database.url, 2, 100);
  await pool.query('CREATE TABLE notes (text text PRIMARY KEY)');
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** Gives the faults that `work` adds, by their database and kind. */
async function countedIn(work: () => Promise<unknown>): Promise<Record<string, number>> {
  const read = async () => {
    const { values } = await register.getSingleMetric('sendmux_database_faults_total')!.get();
    return new Map(values.map(({ labels, value }) => [`${labels.database} ${labels.fault}`, value]));
  };
  const before = await read();
  await work();
  const added = [...(await read())].map(([name, value]): [string, number] => [name, value - (before.get(name) ?? 0)]);
  return Object.fromEntries(added.filter(([, value]) => value > 0));
}

const readOnly = 'SET TRANSACTION READ ONLY';
const insert = `INSERT INTO notes VALUES ('a')`;

describe('a fault of the database', () => {
  it('is counted by what it is, whatever its user makes of it', async () => {
    const inReadOnly = () =>
      inTransaction(pool, async (client) => {
        await client.query(readOnly);
        await client.query(insert);
      });
    expect(await countedIn(() => expect(inReadOnly()).rejects.toThrow(/read-only/))).toEqual({ 'events read_only': 1 });
    const sleep = () => pool.query('SELECT pg_sleep(5)');
    expect(await countedIn(() => expect(sleep()).rejects.toThrow(/timeout/))).toEqual({ 'events busy': 1 });
    const nothing = () => pool.query('SELECT * FROM nothing');
    expect(await countedIn(() => expect(nothing()).rejects.toThrow(/nothing/))).toEqual({ 'events ours': 1 });
  });

  it('is one of a connection that cannot be opened, of whichever database', async () => {
    const nowhere = openPool({ url: () => 'postgres://a:b@127.0.0.1:1/c', setting: 'MAIL_SERVER_DATABASE_URL' });
    expect(await countedIn(() => expect(nowhere.query('SELECT 1')).rejects.toThrow(/ECONNREFUSED/))).toEqual({
      'mail_server unreachable': 1,
    });
    await nowhere.end();
  });

  it('is not what a value has caused, or what succeeds', async () => {
    const values = async () => {
      await pool.query(insert);
      await expect(pool.query(insert)).rejects.toThrow(/duplicate/);
      await inTransaction(pool, (client) => client.query('DELETE FROM notes'));
    };
    expect(await countedIn(values)).toEqual({});
  });
});

it.each([
  [90_000, 90],
  [-90_000, -90],
  [0, 0],
])('the clock of a process that is %d ms ahead is so by the database', async (aheadMs, seconds) => {
  measureClock(pool, () => Date.now() + aheadMs);
  const { values } = await register.getSingleMetric('sendmux_clock_ahead_seconds')!.get();
  expect(values).toHaveLength(1);
  expect(Math.abs(values[0]!.value - seconds)).toBeLessThan(aheadMs === 0 ? 0.01 : 5);
});
