import { setTimeout as sleep } from 'node:timers/promises';
import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { Checks, type CheckedDomain } from './check-times';
import { offsetOf, slotOf, dueSlot } from './cycle';
import { cycleMigrations } from './cycle.migration';

const interval = 6 * 3_600_000;
const id = 'mdom_cl0000000000000000000000001';
const createdAt = new Date(Date.now() - 48 * 3_600_000);
const domain: CheckedDomain = { id, status: 'verified', createdAt, verifiedAt: createdAt, checkedAt: createdAt };

describe('the times of looks that are in tables', () => {
  let database: TestDatabase;
  let pool: Pool;
  beforeAll(async () => {
    database = await databaseWith(cycleMigrations);
    pool = openPool(database.url, 4);
  });
  afterAll(async () => {
    await pool.end();
    await database.drop();
  });

  it('are of the newest look, whether it was recorded, requested, or of a slot', async () => {
    const checks = new Checks(pool, interval);
    const last = async (of: Partial<CheckedDomain> = {}) =>
      (await checks.timesOf({ ...domain, ...of })).lastCheckedAt?.getTime();
    expect(await last()).toBe(createdAt.getTime());
    expect(await last({ checkedAt: null })).toBeUndefined();

    const [early, late] = [1, 2].map((hour) => new Date(createdAt.getTime() + hour * 3_600_000));
    await checks.noteRequested(id, late!);
    await checks.noteRequested(id, early!);
    await checks.noteRequested('mdom_2', new Date());
    expect(await last()).toBe(late!.getTime());
    const recorded = new Date(late!.getTime() + 1);
    expect(await last({ checkedAt: recorded })).toBe(recorded.getTime());

    const slot = slotOf(id);
    const { cycle } = dueSlot(slot, Date.now(), interval);
    const closedAt = cycle + offsetOf(slot, interval) + 1;
    await pool.query(
      `INSERT INTO slots (slot, completed_cycle, completed_at) VALUES ($1, $2, $3)
       ON CONFLICT (slot) DO UPDATE SET completed_cycle = excluded.completed_cycle, completed_at = excluded.completed_at`,
      [slot, cycle, closedAt],
    );
    for (let tries = 0; tries < 500 && (await last()) !== closedAt; tries++) await sleep(20);
    expect(await last()).toBe(closedAt);
  });

  it('are read once for all that ask together, and again after a read that has failed', async () => {
    let [reads, fails] = [0, true];
    const query = (asked: { name: string }) => {
      if (asked.name !== 'slots-progress') return pool.query(asked as never);
      reads += 1;
      return fails ? Promise.reject(new Error('away')) : pool.query(asked as never);
    };
    const checks = new Checks({ query } as unknown as Pool, interval);
    await expect(checks.timesOf(domain)).rejects.toThrow('away');
    [reads, fails] = [0, false];
    const both = await Promise.all([checks.timesOf(domain), checks.timesOf(domain)]);
    expect([reads, ...both.map(({ lastCheckedAt }) => lastCheckedAt)]).toEqual([
      1,
      ...Array<unknown>(2).fill(expect.any(Date)),
    ]);
  });
});
