import { setTimeout as delay } from 'node:timers/promises';

/**
 * Limits the rate of calls, and lets them through in the order they came. A caller that gives up leaves its place to
 * the next.
 */
export class TokenBucket {
  private readonly intervalMs: number;
  private queue: Promise<void> = Promise.resolve();
  private nextAt = 0;

  constructor(callsPerSecond: number) {
    this.intervalMs = 1_000 / callsPerSecond;
  }

  /**
   * Resolves when it is the caller's turn.
   *
   * @throws the signal's reason as soon as the caller gives up.
   */
  async take(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const turn = this.queue.then(async () => {
      signal?.throwIfAborted();
      const wait = this.nextAt - performance.now();
      if (wait > 0) await delay(wait, undefined, { signal });
      this.nextAt = Math.max(this.nextAt, performance.now()) + this.intervalMs;
    });
    this.queue = turn.catch(() => undefined);
    if (!signal) return turn;
    let giveUp: () => void;
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = () => reject(signal.reason as Error);
      signal.addEventListener('abort', giveUp);
    });
    try {
      await Promise.race([turn, givenUp]);
    } finally {
      signal.removeEventListener('abort', giveUp!);
    }
  }
}
