export interface BackOff {
  /** Wait after the first failure, in milliseconds. */
  readonly baseMs: number;
  /** Longest wait, in milliseconds. */
  readonly capMs: number;
}

/**
 * Gives the milliseconds to wait after the given number of failures (from 1). The wait doubles from the base up to the
 * cap, of which a random half to whole is taken, so that tasks that failed together are not retried together.
 */
export function backOffMs({ baseMs, capMs }: BackOff, failures: number, random: () => number = Math.random): number {
  const whole = Math.min(capMs, baseMs * 2 ** (failures - 1));
  return Math.round(whole * (0.5 + random() / 2));
}
