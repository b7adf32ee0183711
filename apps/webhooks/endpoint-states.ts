/** What a process knows of an endpoint, which all of its lanes share. */
export interface EndpointState {
  /** Whether the last try has succeeded, so that several may be under way. */
  isProven: boolean;
  /** Whether the last try took long. */
  isSlow: boolean;
  /** Tries that are under way. */
  underWay: number;
  /** What to call when a try has ended, in this order. */
  readonly waiting: Set<() => void>;
}

/** Endpoints that are remembered while nothing waits for them. */
const most = 10_000;

/** Remembers how endpoints have answered, within bounds. */
export class EndpointStates {
  private readonly states = new Map<string, EndpointState>();

  of(webhook: string): EndpointState {
    const state = this.states.get(webhook) ?? { isProven: false, isSlow: false, underWay: 0, waiting: new Set() };
    this.states.delete(webhook);
    this.states.set(webhook, state);
    for (const [oldest, { underWay }] of this.states) {
      if (this.states.size <= most) break;
      if (underWay === 0) this.states.delete(oldest);
      else break;
    }
    return state;
  }
}
