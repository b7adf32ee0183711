import { setTimeout as delay } from 'node:timers/promises';

/**
 * Limits how many tasks begin per second, at even intervals and without a burst after a pause. Uses the monotonic
 * clock, which is never set.
 */
export class RateLimiter {
  private nextAt = 0;
  private readonly stepMs: number;

  constructor(perSecond: number) {
    this.stepMs = 1_000 / perSecond;
  }

  /**
   * Waits until the caller may begin.
   *
   * @param signal ends the wait early; the caller must check it afterwards.
   */
  async acquire(signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    const at = Math.max(now, this.nextAt);
    this.nextAt = at + this.stepMs;
    // A timer cannot wait for less than a millisecond.
    if (at - now >= 1) await delay(at - now, undefined, { signal }).catch(unlessAborted);
  }
}

/** Ignores the `AbortError` of a wait that was ended early, and rethrows every other error. Use it with `catch`. */
export const unlessAborted = (error: Error): void => {
  if (error.name !== 'AbortError') throw error;
};
