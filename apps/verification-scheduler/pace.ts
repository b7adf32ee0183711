import { setTimeout as delay } from 'node:timers/promises';

/** Lets works begin at most so many a second, evenly, without a burst after a pause. By a clock that is never set. */
export class Pace {
  private nextAt = 0;
  private readonly stepMs: number;

  constructor(perSecond: number) {
    this.stepMs = 1_000 / perSecond;
  }

  /** @param signal gives up waiting. */
  async turn(signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    const at = Math.max(now, this.nextAt);
    this.nextAt = at + this.stepMs;
    // A timer cannot wait for less than a millisecond.
    if (at - now >= 1) await delay(at - now, undefined, { signal }).catch(unlessAborted);
  }
}

/** For `catch`: to be told to give up is no error. */
export const unlessAborted = (error: Error): void => {
  if (error.name !== 'AbortError') throw error;
};
