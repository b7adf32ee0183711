import { readStatement, type Seal } from '@app/audit';
import type { KafkaClient, Publisher, TopicSettings } from '@app/messaging';
import type { Pool } from 'pg';

const pageSize = 100;

/** Seals to a topic of their own, in their order, each at least once: where others keep them, nobody can unmake them. */
export class SealPublisher {
  private publisher: Publisher | undefined;
  private readonly checkpoint: string;

  constructor(
    private readonly pool: Pool,
    private readonly client: KafkaClient,
    private readonly topic: TopicSettings,
  ) {
    // Another topic begins at the beginning.
    this.checkpoint = `audit-seals ${topic.topic}`;
  }

  /**
   * All that Kafka has not acknowledged yet.
   *
   * @throws {KafkaAway} and the errors of Kafka that last: what it was about is tried again by the next call.
   */
  async publish(): Promise<void> {
    try {
      const { rows } = await this.pool.query<{ position: number }>(
        'SELECT position::float8 AS position FROM checkpoints WHERE name = $1',
        [this.checkpoint],
      );
      let published = rows[0]?.position ?? 0;
      for (;;) {
        const { rows: seals } = await this.pool.query<Seal & { number: number }>(
          'SELECT number, statement, signer, signature FROM audit_seals WHERE number > $1 ORDER BY number LIMIT $2',
          [published, pageSize],
        );
        if (seals.length === 0) return;
        if (!this.publisher && (await this.open()) && published > 0) {
          // Somebody took the topic away: its witnesses get all of them again.
          published = 0;
          continue;
        }
        await this.publisher!.send(seals.map(recordOf));
        published = seals.at(-1)!.number;
        await this.pool.query(
          `INSERT INTO checkpoints (name, position) VALUES ($1, $2)
           ON CONFLICT (name) DO UPDATE SET position = greatest(checkpoints.position, excluded.position), updated_at = now()`,
          [this.checkpoint, published],
        );
      }
    } catch (error) {
      // A producer that has failed does not know what has arrived.
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const { publisher } = this;
    this.publisher = undefined;
    await publisher?.close().catch(() => undefined);
  }

  /** @returns whether the topic is empty. */
  private async open(): Promise<boolean> {
    const admin = await this.client.admin();
    try {
      const partitions = await admin.ensureTopic(this.topic);
      const ends = await admin.ends(this.topic.topic);
      this.publisher = await this.client.publisher(this.topic.topic, partitions);
      return [...ends.values()].every((end) => end === 0);
    } finally {
      await admin.close();
    }
  }
}

function recordOf({ statement, signer, signature }: Seal) {
  const says = readStatement(statement);
  return {
    // One log, one partition: its seals stay in their order.
    key: says?.log ?? '',
    value: JSON.stringify({ statement, signer, signature }),
    headers: { 'content-type': 'application/json' },
    timestamp: Date.parse(says?.time ?? ''),
  };
}
