/** How many tries may be under way in a process. */
export interface TryLimits {
  /** Those of endpoints that answer in time, be it with a failure. */
  readonly steady: number;
  /** Those of endpoints whose last try was slow. */
  readonly troubled: number;
  /** Those of endpoints that have failed several times in a row. */
  readonly down: number;
  /** All, those included that began as one of the first and turned out slow. */
  readonly all: number;
}

export type TryKind = 'steady' | 'troubled' | 'down';

/** A try that is under way. */
export interface Place {
  /** Counts it among those of troubled endpoints from now on, since it takes long. */
  becomeSlow(): void;
  free(): void;
}

/**
 * Bounds the tries that are under way, so that endpoints that are down or slow never take the place of those that
 * answer: a try that takes long gives its place to another one, and its endpoint begins further ones on places of their
 * own. Those that are down, of which there may be thousands, do not take the places of those that are slow either.
 */
export class TryBudget {
  private readonly used = { steady: 0, troubled: 0, down: 0 };
  private readonly waiting = {
    steady: new Set<() => void>(),
    troubled: new Set<() => void>(),
    down: new Set<() => void>(),
  };

  constructor(private readonly limits: TryLimits) {}

  /**
   * Takes a place for a try.
   *
   * @param free is called once when there may be a place again.
   * @returns undefined where there is none.
   */
  take(of: TryKind, free: () => void): Place | undefined {
    let kind = of;
    if (!this.hasRoom(kind)) {
      this.waiting[kind].add(free);
      return undefined;
    }
    this.used[kind]++;
    let isTaken = true;
    return {
      becomeSlow: () => {
        if (!isTaken || kind !== 'steady') return;
        this.used.steady--;
        this.used.troubled++;
        kind = 'troubled';
        this.tell();
      },
      free: () => {
        if (!isTaken) return;
        isTaken = false;
        this.used[kind]--;
        this.tell();
      },
    };
  }

  /** Gives the number of tries that are under way. */
  get underWay(): number {
    return this.used.steady + this.used.troubled + this.used.down;
  }

  private hasRoom(kind: TryKind): boolean {
    return this.used[kind] < this.limits[kind] && this.underWay < this.limits.all;
  }

  /** Tells those that wait, in their order, while there is room. One that does not take it is not told again. */
  private tell(): void {
    for (const kind of ['steady', 'troubled', 'down'] as const)
      for (const waiting of this.waiting[kind]) {
        if (!this.hasRoom(kind)) break;
        this.waiting[kind].delete(waiting);
        waiting();
      }
  }
}
