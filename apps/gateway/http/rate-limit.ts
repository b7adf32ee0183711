export interface Allowance {
  readonly limit: number;
  readonly remaining: number;
  /** Seconds until the window ends. */
  readonly reset: number;
  readonly exceeded: boolean;
}

const windowMs = 60_000;

/** Counts requests by API key in fixed windows of a minute. In memory: each gateway process counts its own. */
export class RateLimit {
  private readonly counts = new Map<string, number>();
  private window = 0;

  /** @param limit requests a minute and key. */
  constructor(private readonly limit: number) {}

  take(keyId: string, now = Date.now()): Allowance {
    const window = Math.floor(now / windowMs);
    if (window !== this.window) {
      this.window = window;
      this.counts.clear();
    }
    const count = (this.counts.get(keyId) ?? 0) + 1;
    this.counts.set(keyId, count);
    return {
      limit: this.limit,
      remaining: Math.max(0, this.limit - count),
      reset: Math.ceil(((window + 1) * windowMs - now) / 1000),
      exceeded: count > this.limit,
    };
  }
}
