import { youngAges } from '@app/cycle';

export interface SchedulerOptions {
  /** Length of a cycle, in milliseconds. */
  readonly intervalMs: number;
  /** Number of domains that are looked at at the same time. */
  readonly concurrency: number;
  /** Largest number of looks that this scheduler begins per second; no limit when absent. */
  readonly perSecond?: number;
  /** Milliseconds after which the slots of a dead scheduler are taken over; 15,000 when absent. */
  readonly leaseMs?: number;
  /**
   * Longest wait before due slots are claimed again, in milliseconds; a slot's share of the interval, at most 1,000,
   * when absent.
   */
  readonly pollMs?: number;
  /**
   * Milliseconds until a slot that was stopped or not finished is tried again; a 36th of the interval, at most 300,000,
   * when absent.
   */
  readonly retryMs?: number;
  /** Milliseconds without a stopped slot after which an alarm ends; three times `retryMs` when absent. */
  readonly alarmMs?: number;
  /**
   * Ages at which a domain that was never verified gets further looks, in milliseconds, ascending; 1, 2, 5, 10 and 30
   * minutes when absent.
   */
  readonly youngAges?: readonly number[];
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

export function withDefaults(options: SchedulerOptions): Required<SchedulerOptions> {
  const retryMs = options.retryMs ?? Math.min(300_000, options.intervalMs / 36);
  return {
    leaseMs: 15_000,
    pollMs: Math.min(1_000, Math.max(20, options.intervalMs / 360)),
    retryMs,
    alarmMs: 3 * retryMs,
    youngAges,
    clock: Date.now,
    perSecond: Infinity,
    ...options,
  };
}
