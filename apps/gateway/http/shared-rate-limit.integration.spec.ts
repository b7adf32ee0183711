import { Logger } from '@nestjs/common';
import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../../test/support/test-database';
import { rateLimitMigrations } from './rate-limits.migration';
import { countIn, removeOldCounts, SharedRateLimit, type Count } from './shared-rate-limit';

const minute = 60_000;
let database: TestDatabase;
let pool: Pool;
beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith(rateLimitMigrations);
  pool = openPool(database.url, 8);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** However busy the machine is, the database counts. */
const patienceMs = 60_000;

let keys = 0;
const newKey = () => `key_${++keys}`;

it('lets as many through as the limit says, whichever processes they reach at the same time', async () => {
  const [key, limit] = [newKey(), 600];
  const processes = Array.from({ length: 5 }, () => new SharedRateLimit(countIn(pool), patienceMs));
  const taken = await Promise.all(
    Array.from({ length: 2_000 }, (_, i) => processes[i % processes.length]!.take(key, limit, 1, minute)),
  );
  const passed = taken.filter(({ exceeded }) => !exceeded).length;
  expect(passed).toBe(limit);
  expect(Math.min(...taken.map(({ remaining }) => remaining))).toBe(0);
  const next = await processes[0]!.take(key, limit, 1, 2 * minute);
  expect(next).toMatchObject({ exceeded: false, remaining: limit - 1, reset: 60, resetAt: 180 });
});

it('asks the database for one in ten, and for none once the limit is reached', async () => {
  let asked = 0;
  const count: Count = (...each) => (asked++, countIn(pool)(...each));
  const limit = new SharedRateLimit(count, patienceMs);
  const key = newKey();
  for (let i = 0; i < 2_000; i++) await limit.take(key, 600, 1, minute);
  expect(asked).toBe(60);
});

it('takes the whole cost of a request or nothing of it', async () => {
  const limit = new SharedRateLimit(countIn(pool), patienceMs);
  const key = newKey();
  const costs = [5, 5, 5, 1, 1, 1];
  const outcomes = [];
  for (const cost of costs) outcomes.push((await limit.take(key, 12, cost, minute)).exceeded);
  expect(outcomes).toEqual([false, false, true, false, false, true]);
});

it('counts on where the clock of another process is behind', async () => {
  const key = newKey();
  const count = countIn(pool);
  expect(await count(key, 10, 5)).toBe(5);
  expect(await count(key, 9, 2)).toBe(7);
  expect(await count(key, 11, 1)).toBe(1);
});

it('counts for itself while the database does not answer, and waits for it once', async () => {
  let asked = 0;
  const limit = new SharedRateLimit(() => (asked++, new Promise<number>(() => undefined)));
  const key = newKey();
  const since = performance.now();
  const outcomes = [];
  for (let i = 0; i < 12; i++) outcomes.push((await limit.take(key, 10, 1, minute)).exceeded);
  expect(outcomes.filter((exceeded) => !exceeded)).toHaveLength(10);
  expect(asked).toBe(1);
  expect(performance.now() - since).toBeLessThan(2_000);
});

it('keeps no count for longer than an hour', async () => {
  const { rowCount: before } = await pool.query('SELECT FROM rate_limits');
  expect(before).toBeGreaterThan(0);
  await removeOldCounts(pool, 300 * minute);
  expect((await pool.query('SELECT FROM rate_limits')).rowCount).toBe(0);
});
