import { Logger } from '@nestjs/common';
import type { CloudEvent } from './cloud-event';
import type { KafkaDriver, Publisher } from './kafka-driver';
import { RecordRefused, timestampRefused } from './kafka-errors';

/**
 * Sends batches to a topic through one producer after another. A producer that has failed is replaced: it does not know
 * which records have arrived, nor how the brokers count them.
 */
export class TopicPublisher {
  private readonly logger = new Logger('kafka');
  private publisher: Publisher | undefined;
  private timestamps = true;

  constructor(
    private readonly client: Pick<KafkaDriver, 'publisher'>,
    private readonly topic: string,
    private readonly partitions: number,
  ) {}

  /** @throws {KafkaAway} */
  async open(): Promise<void> {
    this.publisher = await this.client.publisher(this.topic, this.partitions);
  }

  /**
   * Resolves when all events are acknowledged. The records lose their timestamps where the brokers refuse those, since
   * the time of an event is in `ce_time`.
   *
   * @throws {KafkaAway} when the acknowledgement is not certain; some of the events may have been written.
   * @throws {RecordRefused} when the brokers refuse one of the events for good; others may have been written.
   */
  async send(events: readonly CloudEvent[]): Promise<void> {
    if (!this.publisher) await this.open();
    try {
      await this.publisher!.send(events, this.timestamps);
    } catch (error) {
      await this.close();
      if (!(error instanceof RecordRefused) || error.reason !== timestampRefused || !this.timestamps) throw error;
      this.logger.error(
        `The brokers refuse timestamps of ${this.topic}, so the clock here differs from theirs: records go without them`,
      );
      this.timestamps = false;
      await this.send(events);
    }
  }

  /** Never rejects. */
  async close(): Promise<void> {
    const { publisher } = this;
    this.publisher = undefined;
    await publisher?.close().catch((error: Error) => this.logger.debug(`Not closed: ${error.message}`));
  }
}
