import { Logger } from '@nestjs/common';
import { Counter, within } from '@app/runtime';
import type { Pool } from 'pg';
import { windowAt, type Allowance } from './rate-limit';

const fallbacks = new Counter({
  name: 'sendmux_rate_limit_fallbacks_total',
  help: 'Times that the database did not count requests in time, so that this process counted for itself',
});

/** The part of a limit that a process takes at a time, so that the database is not asked for each request. */
const leases = 60;
/** Milliseconds for which a process counts for itself once the database was late. */
const aloneMs = 5_000;

/** What a process holds of a limit in a window. */
interface Held {
  /** What this process may use of it; grows lease by lease. */
  granted: number;
  used: number;
  /** What all processes have taken, as far as this one knows. */
  taken: number;
  leasing: Promise<void> | undefined;
}

/** Adds to the count of a key in a window; gives the sum over all processes. */
export type Count = (key: string, window: number, amount: number) => Promise<number>;

/** Counts in the table `rate_limits`: a row for each key, with the newest window in which it was counted. */
export const countIn =
  (pool: Pool): Count =>
  async (key, window, amount) => {
    const { rows } = await pool.query<{ taken: number }>({
      name: 'rate-limit-take',
      text: `
        INSERT INTO rate_limits AS held (key, window_number, taken) VALUES ($1, $2, $3)
        ON CONFLICT (key) DO UPDATE SET
          taken = excluded.taken + CASE WHEN excluded.window_number > held.window_number THEN 0 ELSE held.taken END,
          window_number = greatest(held.window_number, excluded.window_number)
        RETURNING taken::float8 AS taken`,
      values: [key, window, amount],
    });
    return rows[0]!.taken;
  };

/** Removes the counts of keys that have sent nothing for an hour. */
export async function removeOldCounts(pool: Pool, now = Date.now()): Promise<void> {
  await pool.query('DELETE FROM rate_limits WHERE window_number < $1', [windowAt(now - 3_600_000).window]);
}

/**
 * Counts requests by whoever sends them, over all gateways, in fixed windows of a minute. Each process takes a part of
 * the limit at a time. While the database is away or slow, each counts for itself, so that no request waits for it.
 */
export class SharedRateLimit {
  private readonly logger = new Logger(SharedRateLimit.name);
  private readonly held = new Map<string, Held>();
  private window = 0;
  private aloneUntil = 0;

  /** @param patienceMs milliseconds that a request waits for the database at most. */
  constructor(
    private readonly count: Count,
    private readonly patienceMs = 150,
  ) {}

  /**
   * Takes the cost of a request from a limit, or nothing where less is left.
   *
   * @param limit the most of `key` in a minute.
   */
  async take(key: string, limit: number, cost: number, now = Date.now()): Promise<Allowance> {
    const { window, ...end } = windowAt(now);
    if (window !== this.window) {
      this.window = window;
      this.held.clear();
    }
    const held = this.held.get(key) ?? { granted: 0, used: 0, taken: 0, leasing: undefined };
    this.held.set(key, held);
    while (held.used + cost > held.granted && held.taken < limit)
      await (held.leasing ??= this.lease(key, limit, cost, held, window).finally(() => (held.leasing = undefined)));
    const exceeded = held.used + cost > held.granted;
    if (!exceeded) held.used += cost;
    const remaining = Math.max(0, limit - held.taken) + held.granted - held.used;
    return { limit, remaining, exceeded, ...end };
  }

  private async lease(key: string, limit: number, cost: number, held: Held, window: number): Promise<void> {
    const amount = Math.max(Math.ceil(limit / leases), held.used + cost - held.granted);
    const taken = await this.add(key, window, amount, held);
    // Of the last lease only what the limit has left.
    held.granted += Math.max(0, amount - Math.max(0, taken - limit));
    held.taken = Math.min(limit, taken);
  }

  private async add(key: string, window: number, amount: number, held: Held): Promise<number> {
    if (performance.now() >= this.aloneUntil)
      try {
        return await within(this.patienceMs, this.count(key, window, amount));
      } catch (error) {
        this.aloneUntil = performance.now() + aloneMs;
        fallbacks.inc();
        this.logger.warn(`For ${aloneMs} ms this process counts requests for itself: ${(error as Error).message}`);
      }
    return held.taken + amount;
  }
}
