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
 * The share of the places that endpoints may have for further tries beside one that is under way. The rest is kept for
 * first ones: each endpoint may have eight, so that a few that take most of a second would else take all places.
 */
const furtherShare = 0.75;

/**
 * Bounds the tries that are under way, so that endpoints that are down or slow never take the place of those that
 * answer: a try that takes long gives its place to another one, and its endpoint begins further ones on places of their
 * own. Those that are down, of which there may be thousands, do not take the places of those that are slow either.
 */
export class TryBudget {
  private readonly used = { steady: 0, troubled: 0, down: 0 };
  private readonly waiting = { steady: waitingOnes(), troubled: waitingOnes(), down: waitingOnes() };

  constructor(private readonly limits: TryLimits) {}

  /**
   * Takes a place for a try.
   *
   * @param isFurther whether the endpoint has a try under way already.
   * @param free is called once when there may be a place again.
   * @returns undefined where there is none.
   */
  take(of: TryKind, isFurther: boolean, free: () => void): Place | undefined {
    let kind = of;
    if (!this.hasRoom(kind, isFurther)) {
      this.waiting[kind][isFurther ? 'further' : 'first'].add(free);
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

  private hasRoom(kind: TryKind, isFurther: boolean): boolean {
    const most = this.limits[kind] * (isFurther ? furtherShare : 1);
    return this.used[kind] < most && this.underWay < this.limits.all;
  }

  /** Tells those that wait, in their order, while there is room. One that does not take it is not told again. */
  private tell(): void {
    for (const kind of ['steady', 'troubled', 'down'] as const)
      for (const which of ['first', 'further'] as const)
        for (const waiting of this.waiting[kind][which]) {
          if (!this.hasRoom(kind, which === 'further')) break;
          this.waiting[kind][which].delete(waiting);
          waiting();
        }
  }
}

/** Those that wait for the first try of an endpoint, and those that have one under way. */
const waitingOnes = () => ({ first: new Set<() => void>(), further: new Set<() => void>() });
