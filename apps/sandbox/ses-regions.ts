import { Injectable } from '@nestjs/common';

/** What a Region allows; what is absent is not limited. */
interface Limits {
  readonly capacity?: number | undefined;
  readonly callsPerSecond?: number | undefined;
  readonly isAway?: boolean | undefined;
}

/**
 * Milliseconds by which a call may be early at least, because it was under way for less time than the one before it;
 * a tenth of the interval between two calls where that is more.
 */
const jitterMs = 50;

/** One Region of the sandbox's SES: what it may have, and how fast it may be called. */
class SesRegion {
  throttled = 0;
  private limits: Limits = {};
  /** The time from which the next call is in time, in milliseconds. */
  private nextAt = -Infinity;

  get isAway(): boolean {
    return this.limits.isAway ?? false;
  }

  limit(limits: Limits): void {
    this.limits = limits;
  }

  /** @param identities counts those that it has, which is only done where it may not have any number. */
  isFull(identities: () => number): boolean {
    const { capacity } = this.limits;
    return capacity !== undefined && identities() >= capacity;
  }

  /** Counts a call at a time in milliseconds. Gives false where it comes too soon after those before it. */
  takesCall(now: number): boolean {
    const { callsPerSecond } = this.limits;
    if (callsPerSecond === undefined) return true;
    const interval = 1_000 / callsPerSecond;
    if (now < this.nextAt - Math.max(jitterMs, interval / 10)) {
      this.throttled++;
      return false;
    }
    this.nextAt = Math.max(this.nextAt, now) + interval;
    return true;
  }

  describe(identities: number): object {
    const { capacity, callsPerSecond } = this.limits;
    return {
      identities,
      capacity: capacity ?? null,
      calls_per_second: callsPerSecond ?? null,
      throttled: this.throttled,
      is_away: this.isAway,
    };
  }
}

/** Keeps the Regions of the sandbox's SES until it stops. */
@Injectable()
export class SesRegions {
  private readonly regions = new Map<string, SesRegion>();

  of(name: string): SesRegion {
    const known = this.regions.get(name) ?? new SesRegion();
    this.regions.set(name, known);
    return known;
  }

  limit(name: string, limits: Limits): void {
    this.of(name).limit(limits);
  }

  list(identitiesIn: (region: string) => number): object {
    return Object.fromEntries([...this.regions].map(([name, region]) => [name, region.describe(identitiesIn(name))]));
  }
}
