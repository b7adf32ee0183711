import type { BackOff } from '@app/runtime';
import { downFailures } from '@app/webhooks';

/** When a message is tried again, and what becomes of an endpoint that fails. All times are milliseconds. */
export interface RetryTimes {
  /** The wait after each failure of a delivery; after the last one and one more failure it has failed. */
  readonly waitsMs: readonly number[];
  /** The longest `Retry-After` that is respected. */
  readonly retryAfterMs: number;
  /** Failures in a row after which a lane is paused, and tried with one delivery at a time. */
  readonly failuresBeforePause: number;
  /** The pause after each further failure. */
  readonly pause: BackOff;
  /** How long an endpoint may have nothing but failures before it is disabled. */
  readonly disableAfterMs: number;
}

const [second, minute, hour, day] = [1_000, 60_000, 3_600_000, 86_400_000];

/** The waits are those of `docs/webhooks.md`; together they are 22 hours. */
export const retryTimes: RetryTimes = {
  waitsMs: [5 * second, 30 * second, 2 * minute, 10 * minute, hour, 3 * hour, 6 * hour, 12 * hour],
  retryAfterMs: 12 * hour,
  failuresBeforePause: downFailures,
  pause: { baseMs: 5 * second, capMs: 10 * minute },
  disableAfterMs: 5 * day,
};

/** The share by which a wait may be shorter or longer, so that what has failed together is not tried together again. */
const jitter = 0.15;

/**
 * Gives the milliseconds until the next try; undefined where there is none.
 *
 * @param tries made so far, from 1.
 * @param retryAfterMs what the endpoint has asked for.
 */
export function waitMs(
  { waitsMs, retryAfterMs: most }: RetryTimes,
  tries: number,
  retryAfterMs = 0,
  random: () => number = Math.random,
): number | undefined {
  const wait = waitsMs[tries - 1];
  if (wait === undefined) return undefined;
  return Math.max(Math.round(wait * (1 + jitter * (2 * random() - 1))), Math.min(retryAfterMs, most));
}

/**
 * Reads the field `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
 *
 * @returns milliseconds from `now` on; undefined where it is absent or neither.
 */
export function retryAfterOf(value: string | undefined, now = Date.now()): number | undefined {
  if (value === undefined || value.length > 40) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1_000;
  // The third form of a date names no zone, and is in UTC (RFC 9110 section 5.6.7).
  const isAsctime = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/.test(value);
  const at = isAsctime ? Date.parse(`${value} GMT`) : /^[A-Z][a-z]+, /.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
