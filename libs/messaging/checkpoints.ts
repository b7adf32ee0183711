import type { Connection } from '@app/database';

type Queryable = Pick<Connection, 'query'>;

const relay = 'event-relay ';

/** Names the checkpoint of event-relay: another topic gets the whole log. */
export const relayCheckpoint = (topic: string): string => `${relay}${topic}`;

/** Has event-relay publish all events above a position again, to whatever topic. */
export async function takeRelaysBack(database: Queryable, position: number): Promise<void> {
  await database.query('UPDATE checkpoints SET position = $2 WHERE starts_with(name, $1) AND position > $2', [
    relay,
    position,
  ]);
}

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

/**
 * Gives the timeline of the server's write-ahead log with the start of the server and the database, and what was noted
 * with a checkpoint; null for none. A database cannot be taken back without a change of one of them: by a stand-by that
 * is promoted, a snapshot of its disks under a server that has to be started, or a dump that makes another database.
 */
export async function timelines(
  database: Queryable,
  name: string,
): Promise<{ readonly now: string; readonly noted: string | null }> {
  const { rows } = await database.query<{ now: string; noted: string | null }>(
    `SELECT concat_ws('/', left(pg_walfile_name(pg_current_wal_lsn()), 8),
         extract(epoch FROM pg_postmaster_start_time()),
         (SELECT oid FROM pg_database WHERE datname = current_database())) AS now,
       (SELECT timeline FROM checkpoints WHERE name = $1) AS noted`,
    [name],
  );
  return rows[0]!;
}

export async function noteTimeline(database: Queryable, name: string, timeline: string): Promise<void> {
  await database.query('UPDATE checkpoints SET timeline = $2 WHERE name = $1', [name, timeline]);
}
