import { Logger } from '@nestjs/common';
import { Gauge } from '@app/runtime';
import type { KafkaAdmin, TopicSetting } from './kafka-driver';
import { KafkaAway } from './kafka-errors';

/** What keeps the brokers from deleting events: docs/subscribe.md promises that the topic has them for good. */
const lasting: ReadonlyMap<string, string> = new Map([
  ['cleanup.policy', 'delete'],
  ['retention.ms', '-1'],
  ['retention.bytes', '-1'],
]);

/** The setting for the largest batch of records. */
const largestBatch = 'max.message.bytes';
/** The brokers' own setting for the largest batch of records, in octets; events have a limit far below. */
const usualBatch = 1_048_588;

/** Thrown when the topic would lose events, and may not be altered. Nothing is published to it then. */
export class TopicUnfit extends Error {
  override readonly name = 'TopicUnfit';
}

/** Says what an operator has to mend about a topic; the setting `log` is that the log is another one than it has. */
export const topicFault = new Gauge({
  name: 'sendmux_topic_fault',
  help: 'Settings of a topic that an operator has to mend: 1 where there is a fault',
  labelNames: ['topic', 'setting'],
});

/** Settings of a topic that have to be mended, with the values that they should have. */
export interface TopicFaults {
  /** Those by which the brokers would delete events. */
  readonly losing: ReadonlyMap<string, string>;
  /** Those by which they may refuse events; any larger value will do. */
  readonly refusing: ReadonlyMap<string, string>;
}

/** Compares the settings of a topic with what is published to it. */
export function topicFaults(settings: ReadonlyMap<string, TopicSetting>): TopicFaults {
  const batch = Number(settings.get(largestBatch)?.value ?? usualBatch);
  return {
    losing: new Map([...lasting].filter(([name, value]) => settings.has(name) && settings.get(name)!.value !== value)),
    refusing: new Map(batch < usualBatch ? [[largestBatch, `${usualBatch}`]] : []),
  };
}

/** Compares the settings of a topic with what is published to it: it has to stay there for good. */
export class TopicCheck {
  private readonly logger = new Logger('kafka');
  private told = '';
  private shown: readonly string[] = [];

  /** @param mayAlter whether the topic is ours, so that its settings may be altered. */
  constructor(
    private readonly topic: string,
    private readonly mayAlter = true,
  ) {}

  /**
   * Alters the settings by which the topic would lose events, and alarms an operator about those that may refuse some.
   *
   * @throws {TopicUnfit} when the topic is not ours, or the brokers do not allow the alteration.
   * @throws {KafkaAway}
   */
  async run(admin: Pick<KafkaAdmin, 'topicSettings' | 'setTopicSettings'>): Promise<void> {
    const { topic } = this;
    let settings: Map<string, TopicSetting>;
    try {
      settings = await admin.topicSettings(topic);
    } catch (error) {
      if (error instanceof KafkaAway) throw error;
      this.tell(
        ['unknown'],
        `The settings of ${topic} may not be read, so nobody knows whether it keeps the events: ${(error as Error).message}`,
      );
      return;
    }
    const { losing, refusing } = topicFaults(settings);
    if (losing.size > 0) await this.mend(admin, settings, losing);
    if (refusing.size > 0)
      this.tell(
        [...refusing.keys()],
        `${topic} takes ${settings.get(largestBatch)!.value} octets at once (${largestBatch}), and the brokers' own setting is ${usualBatch}: events that are longer are parked`,
      );
    else this.tell([], '');
  }

  private async mend(
    admin: Pick<KafkaAdmin, 'setTopicSettings'>,
    settings: ReadonlyMap<string, TopicSetting>,
    wrong: ReadonlyMap<string, string>,
  ): Promise<void> {
    const { topic } = this;
    const is = [...wrong.keys()].map((name) => `${name}=${settings.get(name)!.value}`).join(', ');
    const should = [...wrong].map(([name, value]) => `${name}=${value}`).join(', ');
    const own = [...settings]
      .filter(([, { isOwn }]) => isOwn)
      .map(([name, { value }]): [string, string] => [name, value]);
    if (!this.mayAlter)
      throw new TopicUnfit(`${topic} has ${is}, by which the brokers delete events. Alter it so that it has ${should}`);
    try {
      await admin.setTopicSettings(topic, new Map([...own, ...wrong]));
      this.logger.warn(`${topic} had ${is}, by which the brokers delete events: it has ${should} now`);
    } catch (error) {
      if (error instanceof KafkaAway) throw error;
      const fault = `${topic} has ${is}, by which the brokers delete events, and may not be altered (${(error as Error).message}): nothing is published until it has ${should}`;
      this.tell([...wrong.keys()], fault);
      throw new TopicUnfit(fault);
    }
  }

  /** Alarms an operator, once for each fault. */
  private tell(settings: readonly string[], fault: string): void {
    const { topic } = this;
    for (const setting of this.shown) topicFault.remove({ topic, setting });
    this.shown = settings;
    for (const setting of settings) topicFault.set({ topic, setting }, 1);
    if (fault && fault !== this.told) this.logger.error(fault);
    this.told = fault;
  }
}
