import type { Logger } from '@nestjs/common';
import { within } from '@app/runtime';
import type { KafkaAdmin, KafkaDriver } from './kafka-driver';

/** Milliseconds for which the brokers may take to answer a question about offsets. */
const answerMs = 10_000;

export interface KnownOffsets {
  /** The offset after the last record, by partition. */
  readonly ends: ReadonlyMap<number, number>;
  /** The next offset to read, by partition; empty when it was not requested. */
  readonly committed: ReadonlyMap<number, number>;
}

/**
 * Asks the brokers about a topic and its offsets, over a connection of its own, so that a reader that silently stopped
 * is noticed.
 */
export class KafkaOffsets {
  /** True when the last attempt to connect has failed, so that the process can only wait for the brokers. */
  brokersRefuse = true;
  private admin: KafkaAdmin | undefined;

  constructor(
    private readonly client: Pick<KafkaDriver, 'admin'>,
    private readonly topic: string,
    private readonly groupId: string,
    private readonly logger: Pick<Logger, 'debug' | 'warn'>,
  ) {}

  /**
   * Tells whether the topic exists.
   *
   * @throws {KafkaAway}
   */
  async hasTopic(): Promise<boolean> {
    const admin = await this.connected();
    return admin.hasTopic(this.topic);
  }

  /**
   * Gives undefined when the brokers do not answer. The next question then uses a new connection, since this one may
   * hang.
   */
  async ask(withCommitted: boolean): Promise<KnownOffsets | undefined> {
    const { topic, groupId } = this;
    try {
      const admin = await this.connected();
      const ends = await within(answerMs, admin.ends(topic));
      const committed = withCommitted
        ? await within(answerMs, admin.committed(groupId, topic))
        : new Map<number, number>();
      return { ends, committed };
    } catch (error) {
      this.logger.warn(`The ends of ${topic} are not known: ${(error as Error).message}`);
      void this.close();
      return undefined;
    }
  }

  /** Closes the connection, if any; never rejects. */
  async close(): Promise<void> {
    const { admin } = this;
    this.admin = undefined;
    await admin?.close().catch((error: Error) => this.logger.debug(`Not closed: ${error.message}`));
  }

  private async connected(): Promise<KafkaAdmin> {
    if (this.admin) return this.admin;
    try {
      this.admin = await this.client.admin();
      this.brokersRefuse = false;
      return this.admin;
    } catch (error) {
      this.brokersRefuse = true;
      throw error;
    }
  }
}
