/** Is told how the calls of a shard end. */
export interface CallOutcomes {
  /** SES has answered, be it that it does not accept a name. */
  answered(): void;
  /** @param isDenied SES has refused this installation; otherwise it has not answered. */
  failed(reason: string, isDenied: boolean): void;
}

/** Takes what all processes are to know of a shard. */
export interface ShardReports {
  failed(shard: string, errors: number, reason: string, isFailing: boolean): Promise<void>;
  answers(shard: string): Promise<void>;
}

/** Calls in a row without an answer after which a shard counts as failing; a refusal does at once. */
const silencesToFail = 3;

/** Milliseconds between two reports of errors; those between them go together. */
const reportEveryMs = 1_000;

/**
 * Reports the errors of a shard, and whether it fails: once it has refused this installation, or has not answered
 * several calls in a row. A report that cannot be made is lost, and the next one follows with the next error.
 */
export class ShardHealth implements CallOutcomes {
  private silences = 0;
  private isSilent = false;
  /** What was not reported yet: errors, the reason of the last of them, and whether the shard fails by one of them. */
  private errors = 0;
  private reason = '';
  private isFailing = false;
  private quietUntil = -Infinity;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly shard: string,
    private readonly reports: ShardReports,
  ) {}

  answered(): void {
    this.silences = 0;
    if (!this.isSilent) return;
    this.isSilent = false;
    this.report();
    this.reports.answers(this.shard).catch(() => undefined);
  }

  failed(reason: string, isDenied: boolean): void {
    this.errors++;
    this.reason = reason;
    if (!isDenied) this.silences++;
    this.isSilent ||= this.silences >= silencesToFail;
    this.isFailing ||= isDenied || this.isSilent;
    if (this.isFailing && performance.now() >= this.quietUntil) this.report();
    else this.timer ??= setTimeout(() => this.report(), reportEveryMs).unref();
  }

  private report(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { errors, reason, isFailing } = this;
    if (errors === 0) return;
    this.errors = 0;
    this.isFailing = false;
    this.quietUntil = performance.now() + reportEveryMs;
    this.reports.failed(this.shard, errors, reason, isFailing).catch(() => undefined);
  }
}
