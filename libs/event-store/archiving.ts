import { copyRights, copyRows, waitForOldSnapshots, type Connection } from '@app/database';
import type { WrittenArchive } from './archive-file';
import { archivesOf, assertUnchanged, wholeLogLock, type Archive } from './archives';
import type { KeptEvent } from './kept-event';
import { partitionTable, triggersOf } from './partition-table';
import { withShortLocks } from './partitioning';

/** Key of the advisory lock of the session that archives. */
const archivingLock = 0x5e52;

/** A partition that is closed and in no archive. */
export interface ClosedPartition {
  readonly number: number;
  readonly after: number;
  readonly upTo: number;
  /** Its newest event; undefined for a partition without events. */
  readonly newest: { readonly position: number; readonly time: Date } | undefined;
}

/**
 * Takes the right to archive for as long as the session lasts.
 *
 * @throws {Error} when another session has it.
 */
export async function archiveAlone(session: Connection): Promise<void> {
  const { rows } = await session.query<{ ours: boolean }>('SELECT pg_try_advisory_lock($1) AS ours', [archivingLock]);
  if (!rows[0]!.ours) throw new Error('Another `sendmux events archive` is running.');
}

/** Gives the closed partitions after those that are archived, in the order of the log. */
export async function closedPartitions(session: Connection): Promise<ClosedPartition[]> {
  const { rows } = await session.query<Omit<ClosedPartition, 'newest'>>(
    `SELECT number, lower::float8 AS after, upper::float8 AS "upTo" FROM event_partitions AS closed
     WHERE is_indexed AND lower >= (SELECT coalesce(max(upper), 0) FROM event_archives)
       AND EXISTS (SELECT FROM event_partitions AS next WHERE next.lower = closed.upper AND next.is_open)
     ORDER BY number`,
  );
  const partitions: ClosedPartition[] = [];
  for (const partition of rows) {
    const { rows: newest } = await session.query<{ position: number; time: Date }>(
      `SELECT position::float8 AS position, time FROM ${partitionTable(partition.number)}
       ORDER BY ${partitionTable(partition.number)}.position DESC LIMIT 1`,
    );
    partitions.push({ ...partition, newest: newest[0] });
  }
  return partitions;
}

/** Counts the events in a partition. */
export async function eventsInPartition(session: Connection, number: number): Promise<number> {
  const { rows } = await session.query<{ events: number }>(
    `SELECT count(*)::float8 AS events FROM ${partitionTable(number)}`,
  );
  return rows[0]!.events;
}

/** Octets of a position and a hash, each after its length. */
const placeLength = 4 + 8 + 4 + 32;

/** Gives the octets of the position and the hash of an event, as `placesIn` does. */
export function placeOf({ position, hash }: KeptEvent): Buffer {
  const octets = Buffer.alloc(placeLength);
  octets.writeInt32BE(8, 0);
  octets.writeBigInt64BE(BigInt(position), 4);
  octets.writeInt32BE(hash.length, 12);
  hash.copy(octets, 16);
  return octets;
}

/** Reads the positions and hashes of the events that the store has in a part of the log, in its order. */
export async function* placesIn(
  session: Connection,
  { after, upTo }: Pick<ClosedPartition, 'after' | 'upTo'>,
): AsyncGenerator<Buffer, void> {
  const query = `SELECT position, hash FROM events WHERE position > ${after} AND position <= ${upTo} ORDER BY position`;
  for await (const { bytes, starts } of copyRows(session, query))
    for (const start of starts) yield bytes.subarray(start, start + placeLength);
}

/** Gives the consumer that has come least far, where it has not come to a position. */
export async function consumerBefore(
  session: Pick<Connection, 'query'>,
  position: number,
): Promise<{ readonly name: string; readonly position: number } | undefined> {
  const { rows } = await session.query<{ name: string; position: number }>(
    'SELECT name, position::float8 AS position FROM checkpoints WHERE position < $1 ORDER BY checkpoints.position LIMIT 1',
    [position],
  );
  return rows[0];
}

/**
 * Records that a partition is in a file that was written and verified. From now on whoever reads the log in its order
 * reads the file, and nothing has left the partition yet.
 */
export async function recordArchive(
  session: Connection,
  { number, after, upTo }: ClosedPartition,
  { file, sha256, octets, events, from, to, positions, offsets }: WrittenArchive,
): Promise<void> {
  await session.query(
    `INSERT INTO event_archives (number, lower, upper, file, sha256, octets, events, from_time, to_time,
       block_positions, block_offsets) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [number, after, upTo, file, sha256, octets, events, from, to, positions, offsets],
  );
}

/** Which streams leave the store once all of their events are in archives. */
export interface Ends {
  /** The types of events that are the last of their streams. */
  readonly types: readonly string[];
  /** An SQL condition on such an event `e`. */
  readonly condition: string;
}

/**
 * Has the streams that have ended be read from the archives from now on. A stream leaves as a whole: with an event that
 * is in no archive it stays.
 *
 * @returns how many streams.
 */
export async function moveEnded(session: Connection, { types, condition }: Ends): Promise<number> {
  await session.query('CREATE TEMP TABLE IF NOT EXISTS leaving (stream text PRIMARY KEY)');
  await session.query('TRUNCATE leaving');
  const archives = await archivesOf(session);
  for (const { after, upTo } of archives)
    await session.query(
      `INSERT INTO leaving
       SELECT e.stream FROM events e
       WHERE e.position > ${after} AND e.position <= ${upTo} AND e.type = ANY ($1)
         AND EXISTS (
           SELECT FROM stream_spans s WHERE s.stream = e.stream AND s.last_position = e.position AND blocks IS NULL
         )
         AND NOT EXISTS (SELECT FROM events n WHERE n.stream = e.stream AND n.position > e.position)
         AND ${condition}
       ON CONFLICT DO NOTHING`,
      [types],
    );
  await session.query('ANALYZE leaving');
  for (const { number, after, upTo } of archives) {
    const { rows } = await session.query<{ positions: string }>(
      'SELECT block_positions::text AS positions FROM event_archives WHERE number = $1',
      [number],
    );
    await session.query(
      `WITH moved AS (
         UPDATE stream_spans s SET blocks = found.blocks FROM (
           SELECT stream, array_agg(DISTINCT width_bucket(position, $1::bigint[])) AS blocks
           FROM events JOIN leaving USING (stream) WHERE position > ${after} AND position <= ${upTo} GROUP BY stream
         ) AS found
         WHERE s.stream = found.stream AND s.last_position > ${after} AND s.last_position <= ${upTo} AND s.blocks IS NULL
         RETURNING 1
       )
       UPDATE event_archives SET is_thin = false WHERE number = $2 AND EXISTS (SELECT FROM moved)`,
      [rows[0]!.positions, number],
    );
  }
  const { rows } = await session.query<{ streams: number }>('SELECT count(*)::float8 AS streams FROM leaving');
  return rows[0]!.streams;
}

export interface ThinOptions {
  /** Tells why the partition is still needed as it is; undefined when it is not. */
  readonly needed: (session: Connection) => Promise<string | undefined>;
  /** Milliseconds to wait for others that hold the log, before it gives up. */
  readonly patienceMs: number;
  readonly signal?: AbortSignal;
}

/** What was taken out of a partition. */
export interface Thinned {
  /** Events that stay. */
  readonly kept: number;
  readonly removed: number;
  /** How long readers waited while the tables were exchanged, at most, in milliseconds. */
  readonly lockedMs: number;
}

/**
 * Takes what has moved to an archive out of its partition: what stays is copied into a table that takes the place of
 * the partition, and the partition is dropped. Appends go to another partition, and wait for none of it.
 *
 * A run that dies at any point leaves the partition as it was, or thin.
 *
 * @throws {ArchiveAway} {ArchiveBroken} where the file is not the one that was verified; nothing is removed then.
 * @throws {Error} when something still needs the partition, or others hold it for too long.
 */
export async function thin(
  session: Connection,
  archive: Archive,
  { needed, patienceMs, signal }: ThinOptions,
): Promise<Thinned> {
  const { number, after, upTo, file } = archive;
  await assertUnchanged(archive);
  const hasMoved = `SELECT FROM stream_spans s
    WHERE blocks IS NOT NULL AND s.last_position > ${after} AND s.last_position <= ${upTo}`;
  if ((await session.query(`${hasMoved} LIMIT 1`)).rowCount === 0) {
    await session.query('UPDATE event_archives SET is_thin = true WHERE number = $1', [number]);
    return { kept: await eventsInPartition(session, number), removed: 0, lockedMs: 0 };
  }
  const table = partitionTable(number);
  const rest = `${table}_kept`;
  await session.query(`DROP TABLE IF EXISTS ${rest}`);
  // The CHECK spares reading the table when it is attached.
  const lower = number === 1 ? '' : `position >= ${after + 1} AND `;
  await session.query(
    `CREATE TABLE ${rest} (LIKE events INCLUDING DEFAULTS INCLUDING STORAGE,
       CONSTRAINT ${rest}_bounds CHECK (${lower}position < ${upTo + 1}))`,
  );
  const { rowCount: kept } = await session.query(
    `INSERT INTO ${rest} SELECT * FROM ${table} e WHERE NOT EXISTS (${hasMoved} AND s.stream = e.stream)`,
  );
  const all = await eventsInPartition(session, number);
  if (all > archive.events)
    throw new Error(`${table} has ${all} events, and ${file} has ${archive.events}: run \`sendmux audit verify\``);
  await session.query(
    [
      `ALTER TABLE ${rest} ADD CONSTRAINT ${rest}_pkey PRIMARY KEY (position),
         ADD CONSTRAINT ${rest}_stream_version UNIQUE (stream, version)`,
      ...triggersOf(rest),
    ].join(';\n'),
  );
  await copyRights(session, table, rest);
  await session.query(`ANALYZE ${rest}`);
  const deadline = Date.now() + patienceMs;
  // An older snapshot has none of the rows that were copied.
  await waitForOldSnapshots(session, deadline, signal);
  const exchange = async () => {
    const { rows } = await session.query<{ ours: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS ours', [
      wholeLogLock,
    ]);
    if (!rows[0]!.ours) throw new LogIsRead('a rebuild, an export or a replay reads the log');
    // A consumer that begins after the archive was recorded reads the file; one from before has a checkpoint.
    const why = await needed(session);
    if (why !== undefined) throw new Error(why);
    await session.query('LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE');
    await session.query(
      [
        `ALTER TABLE events DETACH PARTITION ${table}`,
        `DROP TABLE ${table}`,
        ...(kept === 0
          ? [`DROP TABLE ${rest}`]
          : [
              `ALTER TABLE ${rest} RENAME TO ${table}`,
              `ALTER INDEX ${rest}_pkey RENAME TO ${table}_pkey`,
              `ALTER INDEX ${rest}_stream_version RENAME TO ${table}_stream_version`,
              `ALTER TABLE events ATTACH PARTITION ${table}
                 FOR VALUES FROM (${number === 1 ? 'MINVALUE' : after + 1}) TO (${upTo + 1})`,
              `ALTER TABLE ${table} DROP CONSTRAINT ${rest}_bounds`,
            ]),
        `UPDATE event_archives SET is_thin = true WHERE number = ${number}`,
      ].join(';\n'),
    );
  };
  const lockedMs = await withShortLocks(session, exchange, deadline, signal);
  return { kept: kept ?? 0, removed: all - (kept ?? 0), lockedMs };
}

/** Thrown when somebody reads the log in several statements, with the code of a lock that was not had. */
class LogIsRead extends Error {
  override readonly name = 'LogIsRead';
  readonly code = '55P03';
}
