import { queriedGauge } from '@app/runtime';
import type { Pool } from 'pg';

/**
 * Gives how far the clock of this process is ahead of that of the database, in milliseconds: the least difference that
 * explains the reading, since an answer takes time. It is negative where the clock is behind.
 *
 * @throws {Error} when the database does not answer.
 */
async function clockAheadMs(pool: Pick<Pool, 'query'>, now: () => number): Promise<number> {
  const from = now();
  const { rows } = await pool.query<{ at: number }>(
    'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS at',
  );
  const { at } = rows[0]!;
  return Math.max(0, from - at) + Math.min(0, now() - at);
}

/** Registers the difference of the clocks. Leases, deadlines and signatures depend on it. */
export function measureClock(pool: Pick<Pool, 'query'>, now = () => Date.now()): void {
  queriedGauge(
    {
      name: 'sendmux_clock_ahead_seconds',
      help: 'How far the clock of this process is ahead of that of the database at least; negative where it is behind',
    },
    async () => [{ value: (await clockAheadMs(pool, now)) / 1_000 }],
  );
}
