import { Alarm } from './alarm';
import { Counter } from './metrics';

const alarms = new Counter({
  name: 'sendmux_counterpart_alarms_total',
  help: 'Answers of counterparts that stay as they are until an operator acts, by counterpart and reason',
  labelNames: ['counterpart', 'reason'],
});

export type Counterpart = 'ses' | 'mail_server' | 'database' | 'smtp' | 'archive';

/**
 * Tells an operator that a counterpart refuses what this installation asks, for a reason that no customer has caused.
 * The text of the counterpart goes to the log and nowhere else.
 */
export class CounterpartAlarm extends Alarm {
  constructor(private readonly counterpart: Counterpart) {
    super(counterpart);
  }

  /**
   * Counts the alarm, and logs it unless the same reason was logged within the last minute.
   *
   * @param reason a value of the metric's label: one of few, never a text of the counterpart.
   * @param said the text of the counterpart, with whatever identifies its answer.
   */
  override raise(reason: string, message: string, said?: Readonly<Record<string, unknown>>): void {
    alarms.inc({ counterpart: this.counterpart, reason });
    super.raise(reason, message, said);
  }
}
