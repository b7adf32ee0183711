import type { Connection } from '@app/database';
import type { Pool } from 'pg';

/** Milliseconds between two writes of the offsets of a consumer. */
const everyMs = 1_000;

/**
 * Keeps the offsets that a consumer group has committed beside the effects of its handlers, in PostgreSQL. A restore of
 * the database takes both back to one moment: what is below a kept offset was handled by then. Kafka goes on, and has
 * offsets of the history that was lost.
 */
export class KeptOffsets {
  private waiting = new Map<number, number>();
  private writtenAt = -Infinity;

  constructor(
    private readonly pool: Pool,
    private readonly group: string,
    private readonly topic: string,
  ) {}

  /**
   * Notes offsets up to which everything is handled, and writes what was noted once a second at most. What is not
   * written yet is lost with the process: the rows may be behind, and are never ahead.
   *
   * @param offsets the next offset to read, by partition.
   * @throws {Error} the error of the database; the next call writes the same offsets, or later ones.
   */
  async note(offsets: ReadonlyMap<number, number>): Promise<void> {
    for (const [partition, offset] of offsets) this.waiting.set(partition, offset);
    if (performance.now() - this.writtenAt < everyMs) return;
    this.writtenAt = performance.now();
    const written = [...this.waiting];
    await this.pool.query(
      `INSERT INTO kafka_offsets (consumer_group, topic, partition, next_offset)
       SELECT $1, $2, partition, next FROM unnest($3::int[], $4::bigint[]) AS o (partition, next)
       ON CONFLICT (consumer_group, topic, partition)
       DO UPDATE SET next_offset = excluded.next_offset, written_at = now()`,
      [this.group, this.topic, written.map(([partition]) => partition), written.map(([, offset]) => offset)],
    );
    this.waiting = new Map([...this.waiting].filter(([partition, offset]) => !isIn(written, partition, offset)));
  }
}

const isIn = (written: readonly (readonly [number, number])[], partition: number, offset: number): boolean =>
  written.some(([p, o]) => p === partition && o === offset);

/** Gives the offsets that a consumer group had committed on a topic, by partition, as of the moment of the database. */
export async function keptOffsets(
  database: Pick<Connection, 'query'>,
  group: string,
  topic: string,
): Promise<Map<number, number>> {
  const { rows } = await database.query<{ partition: number; next: number }>(
    `SELECT partition, next_offset::float8 AS next FROM kafka_offsets WHERE consumer_group = $1 AND topic = $2`,
    [group, topic],
  );
  return new Map(rows.map(({ partition, next }) => [partition, next]));
}
