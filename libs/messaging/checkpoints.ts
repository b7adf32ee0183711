import type { Connection } from '@app/database';

type Queryable = Pick<Connection, 'query'>;

/** Names the checkpoint of event-relay: another topic gets the whole log. */
export const relayCheckpoint = (topic: string): string => `event-relay ${topic}`;

/** Reads the checkpoint of the consumer of this name; undefined when it has none yet. */
export async function readCheckpoint(database: Queryable, name: string): Promise<number | undefined> {
  const { rows } = await database.query<{ position: number }>(
    'SELECT position::float8 AS position FROM checkpoints WHERE name = $1',
    [name],
  );
  return rows[0]?.position;
}

/**
 * Moves the checkpoint of this name forwards. A position below the stored one changes nothing, since another process
 * has come further.
 */
export async function advanceCheckpoint(database: Queryable, name: string, position: number): Promise<void> {
  await database.query(
    `INSERT INTO checkpoints (name, position) VALUES ($1, $2)
     ON CONFLICT (name) DO UPDATE SET position = greatest(checkpoints.position, excluded.position), updated_at = now()`,
    [name, position],
  );
}
