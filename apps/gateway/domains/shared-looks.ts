/** Looks at one thing that are begun within the window; further requests get the result of the last one. */
const looksAWindow = 10;
const windowMs = 10_000;
/** Things that are remembered before those with an expired window are removed. */
const remembered = 1_000;

interface Recent<Result> {
  /** The start of each look, by `performance.now()`. */
  begun: number[];
  /** The last look, which may still be under way. */
  look: Promise<Result>;
  isUnderWay: boolean;
}

/**
 * Shares looks at the DNS between requests: those for the same thing at the same time share one look, and after ten
 * looks within ten seconds the last result is given again (case G10).
 */
export class SharedLooks<Result> {
  private readonly recent = new Map<string, Recent<Result>>();

  /** Looks, or joins a look at the same key, or gives its last result. */
  share(key: string, look: () => Promise<Result>): Promise<Result> {
    const now = performance.now();
    const before = this.recent.get(key);
    if (before?.isUnderWay) return before.look;
    const begun = (before?.begun ?? []).filter((at) => now - at < windowMs);
    if (before && begun.length >= looksAWindow) return before.look;
    this.forgetOld(now);
    const recent: Recent<Result> = { begun: [...begun, now], look: look(), isUnderWay: true };
    this.recent.set(key, recent);
    const settle = () => (recent.isUnderWay = false);
    recent.look.then(settle, settle);
    return recent.look;
  }

  /** Gives the last result of a key; undefined where there is none yet, or the last look has failed. */
  async last(key: string): Promise<Result | undefined> {
    const before = this.recent.get(key);
    if (!before || before.isUnderWay) return undefined;
    return before.look.catch(() => undefined);
  }

  private forgetOld(now: number): void {
    if (this.recent.size < remembered) return;
    for (const [key, { begun, isUnderWay }] of this.recent)
      if (!isUnderWay && begun.every((at) => now - at >= windowMs)) this.recent.delete(key);
  }
}
