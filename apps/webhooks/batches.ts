import { setTimeout as delay } from 'node:timers/promises';
import { isPassingFault } from '@app/database';
import { backOffMs } from '@app/runtime';

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

export interface BatchesOptions {
  /** The most items of one batch. */
  readonly limit: number;
  /** Milliseconds for which the first item waits for others; none when absent. */
  readonly gatherMs?: number;
  /** Told of a fault that passes, after which the batch is repeated. */
  readonly failed: (error: unknown, retryInMs: number) => void;
  /** Ends the repetitions. */
  readonly signal: AbortSignal;
}

const backOff = { baseMs: 100, capMs: 2_000 };

/** Does together what is asked for while the batch before is under way. Repeats a batch while the database is away. */
export class Batches<Item, Result> {
  private waiting: Waiting<Item, Result>[] = [];
  private running = false;

  /** @param run gives the result of each item, in their order; it must tolerate being repeated. */
  constructor(
    private readonly run: (items: readonly Item[]) => Promise<readonly Result[]>,
    private readonly options: BatchesOptions,
  ) {}

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.running) void this.runAll();
    });
  }

  private async runAll(): Promise<void> {
    this.running = true;
    const { gatherMs } = this.options;
    while (this.waiting.length > 0) {
      if (gatherMs !== undefined && this.waiting.length < this.options.limit / 4) await delay(gatherMs);
      const batch = this.waiting.splice(0, this.options.limit);
      try {
        const results = await this.untilDone(batch.map(({ item }) => item));
        for (const [i, { resolve }] of batch.entries()) resolve(results[i]!);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.running = false;
  }

  private async untilDone(items: readonly Item[]): Promise<readonly Result[]> {
    const { failed, signal } = this.options;
    for (let failures = 1; ; failures++) {
      try {
        return await this.run(items);
      } catch (error) {
        if (signal.aborted || !isPassingFault(error)) throw error;
        const retryInMs = backOffMs(backOff, failures);
        failed(error, retryInMs);
        await delay(retryInMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }
}
