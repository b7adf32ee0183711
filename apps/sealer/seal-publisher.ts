import { readStatement, storedSealsAfter, type Seal } from '@app/audit';
import {
  advanceCheckpoint,
  readCheckpoint,
  TopicCheck,
  TopicPublisher,
  type KafkaClient,
  type TopicSettings,
} from '@app/messaging';
import type { Pool } from 'pg';

const pageSize = 100;

/**
 * Publishes the seals to a topic of their own, in order, each at least once. A seal that a third party keeps cannot be
 * replaced unnoticed.
 */
export class SealPublisher {
  private publisher: TopicPublisher | undefined;
  private readonly topicCheck: TopicCheck;
  private readonly checkpoint: string;

  constructor(
    private readonly pool: Pool,
    private readonly client: KafkaClient,
    private readonly topic: TopicSettings,
  ) {
    // The checkpoint is named after the topic: another topic gets all seals.
    this.checkpoint = `audit-seals ${topic.topic}`;
    this.topicCheck = new TopicCheck(topic.topic);
  }

  /**
   * Publishes the seals that Kafka has not acknowledged yet.
   *
   * @throws {KafkaAway}, {TopicUnfit}, {RecordRefused} and other errors of Kafka; the next call publishes the same
   * seals again.
   */
  async publish(): Promise<void> {
    try {
      let published = (await readCheckpoint(this.pool, this.checkpoint)) ?? 0;
      for (;;) {
        const seals = await storedSealsAfter(this.pool, published, pageSize);
        if (seals.length === 0) return;
        if (!this.publisher && (await this.open()) && published > 0) {
          // The topic was deleted or replaced, so all seals are published again.
          published = 0;
          continue;
        }
        await this.publisher!.send(seals.map(recordOf));
        published = seals.at(-1)!.number;
        await advanceCheckpoint(this.pool, this.checkpoint, published);
      }
    } catch (error) {
      // A producer that has failed does not know which records have arrived, so it is replaced.
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const { publisher } = this;
    this.publisher = undefined;
    await publisher?.close();
  }

  /** @returns whether the topic is empty. */
  private async open(): Promise<boolean> {
    const admin = await this.client.admin();
    try {
      const partitions = await admin.ensureTopic(this.topic);
      await this.topicCheck.run(admin);
      const ends = await admin.ends(this.topic.topic);
      this.publisher = new TopicPublisher(this.client, this.topic.topic, partitions);
      return [...ends.values()].every((end) => end === 0);
    } finally {
      await admin.close();
    }
  }
}

function recordOf({ statement, signer, signature }: Seal) {
  const says = readStatement(statement);
  return {
    // All seals of a log have the same key, so that they stay in order in one partition.
    key: says?.log ?? '',
    value: JSON.stringify({ statement, signer, signature }),
    headers: { 'content-type': 'application/json' },
    timestamp: Date.parse(says?.time ?? ''),
  };
}
