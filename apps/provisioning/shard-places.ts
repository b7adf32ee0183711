import type { Priority } from '@app/ses';

/** Domains that a process handles at the same time. The number is high because a task mostly waits for SES. */
export const concurrency = 64;

/** The least of them that a shard may have. */
const least = 4;

/**
 * Shares what a process handles at the same time between the shards of SES, and in each shard between what customers
 * wait for and the rest. Otherwise the domains of a shard that does not answer, or repairs that wait behind all other
 * calls, would take every place, and the adds of all shards would wait until their deadlines.
 */
export class ShardPlaces {
  private readonly ofShard: number;
  private readonly inBackground: number;
  private readonly taken = new Map<string, number>();

  /** @param shards the number of shards. */
  constructor(shards: number) {
    this.ofShard = Math.max(least, Math.floor(concurrency / shards));
    this.inBackground = Math.floor(this.ofShard / 2);
  }

  /** Takes a place in a shard. Gives what gives it back; undefined where there is none now. */
  take(shard: string, priority: Priority): (() => void) | undefined {
    const isBackground = priority === 'background';
    const counted = isBackground ? [shard, `${shard} in background`] : [shard];
    const most = [this.ofShard, this.inBackground];
    if (counted.some((key, i) => this.of(key) >= most[i]!)) return undefined;
    for (const key of counted) this.taken.set(key, this.of(key) + 1);
    return () => {
      for (const key of counted) this.taken.set(key, this.of(key) - 1);
    };
  }

  private of(key: string): number {
    return this.taken.get(key) ?? 0;
  }
}
