import { Logger } from '@nestjs/common';
import { Counter } from 'prom-client';

const alarms = new Counter({
  name: 'sendmux_counterpart_alarms_total',
  help: 'Answers of counterparts that stay as they are until an operator acts, by counterpart and reason',
  labelNames: ['counterpart', 'reason'],
});

export type Counterpart = 'ses' | 'mail_server' | 'database' | 'smtp';

/** Milliseconds for which the log does not repeat an alarm. The metric counts each. */
const quietMs = 60_000;
/** The longest text of a counterpart in a log line, in characters. */
const longestText = 1_000;

/**
 * Tells an operator that a counterpart refuses what this installation asks, for a reason that no customer has caused.
 * The text of the counterpart goes to the log and nowhere else.
 */
export class CounterpartAlarm {
  private readonly logger: Logger;
  private readonly toldAt = new Map<string, number>();

  constructor(private readonly counterpart: Counterpart) {
    this.logger = new Logger(`alarm ${counterpart}`);
  }

  /**
   * Counts the alarm, and logs it unless the same reason was logged within the last minute.
   *
   * @param reason a value of the metric's label: one of few, never a text of the counterpart.
   * @param said the text of the counterpart, with whatever identifies its answer.
   */
  raise(reason: string, message: string, said: Readonly<Record<string, unknown>> = {}): void {
    alarms.inc({ counterpart: this.counterpart, reason });
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
