import { Logger } from '@nestjs/common';

/** Milliseconds for which the log does not repeat an alarm. */
const quietMs = 60_000;
/** The longest text in a log line, in characters. */
const longestText = 1_000;

/** Tells an operator by a line of the log that something stays as it is until somebody acts. */
export class Alarm {
  private readonly logger: Logger;
  private readonly toldAt = new Map<string, number>();

  /** @param of what the alarm is about, in the name of the logger. */
  constructor(of: string) {
    this.logger = new Logger(`alarm ${of}`);
  }

  /**
   * Logs the alarm, unless the same reason was logged within the last minute.
   *
   * @param reason one of few.
   * @param said what else the line has.
   */
  raise(reason: string, message: string, said: Readonly<Record<string, unknown>> = {}): void {
    const now = performance.now();
    if (now - (this.toldAt.get(reason) ?? -Infinity) < quietMs) return;
    this.toldAt.set(reason, now);
    const cut = Object.entries(said).map(([name, value]) => [
      name,
      typeof value === 'string' ? value.slice(0, longestText) : value,
    ]);
    this.logger.error({ reason, ...(Object.fromEntries(cut) as object) }, message);
  }
}
