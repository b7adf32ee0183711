import { setTimeout as delay } from 'node:timers/promises';

/** Lets calls through at a rate, in the order they came. A caller that gives up leaves its place to the next. */
export class TokenBucket {
  private readonly intervalMs: number;
  private queue: Promise<void> = Promise.resolve();
  private nextAt = 0;

  constructor(callsPerSecond: number) {
    this.intervalMs = 1_000 / callsPerSecond;
  }

  /** Resolves when it is the caller's turn. @throws the signal's reason when the caller gives up. */
  take(signal?: AbortSignal): Promise<void> {
    const turn = this.queue.then(async () => {
      signal?.throwIfAborted();
      const wait = this.nextAt - performance.now();
      if (wait > 0) await delay(wait, undefined, { signal });
      this.nextAt = Math.max(this.nextAt, performance.now()) + this.intervalMs;
    });
    this.queue = turn.catch(() => undefined);
    return turn;
  }
}
