import { setTimeout as sleep } from 'node:timers/promises';
import { inTransaction, isLockTimeout, type Connection } from '@app/database';
import type { Pool } from 'pg';
import { PartitionClosed } from './errors';
import { firstInFlightSql } from './in-flight';
import { makeUpTo, partitionTable } from './partition-table';
import { endUnfinished } from './partitioning';

/** SQLSTATE of the error of a statement that would read events which are in an archive. */
export const inArchive = 'SM001';

/** The largest position that PostgreSQL can give, where there is no bound. */
const lastPosition = '9223372036854775807';
/** Keys of the advisory locks under which one process at a time makes and opens partitions, and indexes them. */
const locks = { making: 0x5e4e, indexing: 0x5e50 } as const;
/** Milliseconds for which a lock of the log is waited for, before others are let past and it is asked for again. */
const lockWithinMs = 200;
/** Milliseconds for which an opening waits, for locks and for the appends that are in flight before the partition. */
const openWithinMs = 20_000;
/** Streams that are indexed in one statement. */
const chunkStreams = 10_000;

/**
 * Common table expression with `indexed_up_to`: at or below it, `stream_spans` says where the events of each stream
 * are, as the snapshot of the statement has them.
 */
export const boundsSql = `bounds AS MATERIALIZED (
    SELECT coalesce(max(upper), 0) AS indexed_up_to FROM event_partitions WHERE is_indexed
  )`;
const indexedUpTo = '(SELECT indexed_up_to FROM bounds)';

/** Where appends go. */
export interface AppendTarget {
  /** The table of the partition that was opened last; the table of all events where the log is not partitioned. */
  readonly table: string;
  /** That table, and those of the partitions before it that are not indexed, the newest first. */
  readonly unindexed: readonly string[];
  /** SQL: the last position that an append may use. */
  readonly bound: string;
}

/** The target in a log that is not partitioned. Once it is partitioned, the first partition is the bound. */
const oneTable: AppendTarget = {
  table: 'events',
  unindexed: ['events'],
  bound: `(SELECT coalesce(max(upper), ${lastPosition}) FROM event_partitions WHERE is_open)`,
};

/**
 * Gives joins that find the version and the hash of the newest event of a stream, each as one of the columns that
 * `columns` names, of which the first that is not null counts. The cost is the same whatever the number of partitions.
 */
export function newestOfStream(stream: string, { unindexed }: AppendTarget) {
  const tables = unindexed.map((table, i) => ({
    name: `newest_${i}`,
    from: `SELECT version, hash FROM ${table} WHERE stream = ${stream}`,
    order: 'version',
  }));
  const span = {
    name: 'span',
    from: `SELECT last_version AS version, last_hash AS hash FROM stream_spans WHERE stream = ${stream}`,
    order: 'last_position',
  };
  const all = [...tables, span];
  const joins = all.map(({ name, from, order }, i) => {
    const nothingYet = all.slice(0, i).map((before) => ` AND ${before.name}.version IS NULL`);
    return `LEFT JOIN LATERAL (${from}${nothingYet.join('')} ORDER BY ${order} DESC LIMIT 1) AS ${name} ON true`;
  });
  const first = (column: string) => all.map(({ name }) => `${name}.${column}`).join(', ');
  return { joins: joins.join('\n      '), columns: { version: first('version'), hash: first('hash') } };
}

/**
 * Gives where the events of a stream are: positions from `first_position` to `last_position`. For statements that begin
 * with `boundsSql`. They fail with `inArchive` where some of these events are in an archive, so that nobody takes the
 * others for the whole stream.
 *
 * @param condition on the columns of `stream_spans`, for the partitions that are indexed.
 */
export const spansOfStreamSql = (stream: string, condition = 'true'): string => `(
      SELECT CASE WHEN blocks IS NULL THEN first_position ELSE refuse_archived(stream) END AS first_position, last_position
      FROM stream_spans WHERE stream = ${stream} AND last_position <= ${indexedUpTo} AND ${condition}
      UNION ALL SELECT indexed_up_to + 1, ${lastPosition} FROM bounds
    )`;

/** Gives the hash of the event before a version of a stream, where it is the last one in an archive; else null. */
const archivedHashBeforeSql = (stream: string, version: string): string => `(
      SELECT last_hash FROM stream_spans AS archived
      WHERE archived.stream = ${stream} AND archived.last_version = ${version} - 1 AND blocks IS NOT NULL
    )`;

/**
 * Gives the hash of the event before a version of a stream; null where it is missing. It reads the row of that event,
 * unless the event is in an archive. The statement has to begin with `boundsSql`.
 *
 * OFFSET 0 keeps PostgreSQL from making one join of the span and the event, which would look into every partition.
 */
const hashBeforeSql = (stream: string, version: string): string => {
  const before = `SELECT hash FROM events AS before WHERE before.stream = ${stream} AND before.version = ${version} - 1`;
  return `coalesce((${before} AND before.position >= ${indexedUpTo} + 1), (
      SELECT found.hash FROM (
        SELECT first_position, last_position FROM stream_spans
        WHERE stream_spans.stream = ${stream} AND last_version >= ${version} - 1 ORDER BY last_position LIMIT 1
      ) AS span, LATERAL (${before} AND before.position BETWEEN first_position AND last_position OFFSET 0) AS found
    ), ${archivedHashBeforeSql(stream, version)})`;
};

/**
 * Begins a statement with `chained`: a part of the log, each event with `before`, the hash of the event before it in
 * its stream; null where that is missing, stands later in the log, or is there twice. The event before is looked up
 * only where the part does not have it, since a look-up takes longer than all the rest.
 *
 * The parameters are $1 and $2, the positions after and up to which the part goes, $3, the most events of it, and $4,
 * the hash before the first event of a stream.
 *
 * @param columns further ones of `events`, as a list of SQL.
 */
export const chainedSql = (columns = 'NULL'): string => `WITH ${boundsSql}, part AS (
      SELECT stream, version, events.position, previous, hash, ${columns} FROM events
      WHERE events.position > $1 AND events.position <= $2 ORDER BY events.position LIMIT $3
    ), chained AS (
      SELECT part.*, CASE
        WHEN lag(version) OVER in_stream = version OR lag(part.position) OVER in_stream > part.position THEN NULL
        WHEN version = 1 THEN $4::bytea
        WHEN lag(version) OVER in_stream = version - 1 THEN lag(hash) OVER in_stream
        ELSE ${hashBeforeSql('part.stream', 'part.version')} END AS before
      FROM part WINDOW in_stream AS (PARTITION BY stream ORDER BY version, part.position)
    )`;

/** Gives the SQL condition that there is a stream of the name that an expression gives, also one that is archived. */
export const isStreamSql = (stream: string): string =>
  `(EXISTS (SELECT FROM events WHERE events.stream = ${stream} AND events.version = 1)
    OR EXISTS (SELECT FROM stream_spans WHERE stream_spans.stream = ${stream}))`;

const closedSql = `SELECT number, indexed_after AS after FROM event_partitions AS closed
  WHERE NOT is_indexed AND EXISTS (SELECT FROM event_partitions AS next WHERE next.lower = closed.upper AND next.is_open)
  ORDER BY number LIMIT 1`;

/**
 * Keeps the partitions of the log: makes them before they are needed, opens the next one when all before it is settled,
 * and indexes the closed ones by stream.
 *
 * A unique key cannot span partitions. That a stream has each version once is kept by the unique key of each partition,
 * and by the order in which partitions are opened. An append uses positions of a partition only where its own snapshot
 * has it open; a partition is opened when every append into those before it has ended. So the snapshot of an append has
 * all events of the other partitions.
 *
 * A log whose table is not partitioned has no bounds, and nothing is done about it here.
 */
export class EventPartitions {
  constructor(private readonly pool: Pool) {}

  /**
   * Gives where appends go. What it says of the past stays true: appends may use it for as long as their positions are
   * in its bound.
   */
  async target(): Promise<AppendTarget> {
    const { rows } = await this.pool.query<{ number: number; upper: string; isIndexed: boolean }>({
      name: 'open partitions',
      text: `SELECT number, upper, is_indexed AS "isIndexed" FROM event_partitions WHERE is_open ORDER BY number DESC`,
    });
    const [newest] = rows;
    if (!newest) return oneTable;
    const unindexed = rows.filter(({ isIndexed }) => !isIndexed).map(({ number }) => partitionTable(number));
    return { table: partitionTable(newest.number), unindexed, bound: newest.upper };
  }

  /**
   * Opens the partition of the newest position that was drawn, and makes it where nobody has. It waits until the
   * appends into the partitions before it have ended.
   *
   * @throws {PartitionClosed} when one of them does not end within 20 seconds.
   */
  async open(): Promise<void> {
    const deadline = Date.now() + openWithinMs;
    await this.alone('making', deadline, async (client) => {
      const { drawn, openUpTo } = await stateOf(client);
      if (openUpTo === undefined || drawn <= openUpTo) return;
      // The sequence is past the bound. An append that is not in flight now draws its positions above the bound.
      while (await hasFlightsBelow(client, openUpTo)) {
        if (Date.now() >= deadline)
          throw new PartitionClosed('The next partition of the log waits for an append that does not end.');
        await sleep(2);
      }
      await makeUpTo(client, drawn);
      await client.query('UPDATE event_partitions SET is_open = true WHERE lower < $1 AND NOT is_open', [drawn]);
    });
  }

  /**
   * Does what is due: makes a partition once the newest one is in use, indexes one that is closed, and takes back what
   * a conversion that died has left. Any number of processes may call it at any time; one of them does it.
   *
   * @param signal stops the indexing after a chunk. The next call goes on.
   */
  async upkeep(signal?: AbortSignal): Promise<void> {
    await endUnfinished(this.pool);
    const { drawn, madeUpTo, newestFrom } = await stateOf(this.pool);
    if (madeUpTo === undefined) return;
    const deadline = Date.now() + openWithinMs;
    if (drawn > newestFrom!) await this.alone('making', deadline, (client) => makeUpTo(client, madeUpTo + 1n));
    while (!signal?.aborted && (await this.pool.query(closedSql)).rowCount !== 0)
      await this.alone('indexing', Date.now() + openWithinMs, indexSome);
  }

  /** Runs `work` in a transaction, of which there is one of its kind at a time in all processes. */
  private async alone(
    what: keyof typeof locks,
    deadline: number,
    work: (client: Connection) => Promise<void>,
  ): Promise<void> {
    for (;;)
      try {
        return await inTransaction(this.pool, async (client) => {
          await client.query('SELECT pg_advisory_xact_lock($1)', [locks[what]]);
          await client.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
          await work(client);
        });
      } catch (error) {
        if (!isLockTimeout(error) || Date.now() >= deadline) throw error;
        await sleep(lockWithinMs);
      }
  }
}

async function stateOf(client: Pick<Connection, 'query'>) {
  const { rows } = await client.query<Record<'drawn', string> & Record<'open' | 'made' | 'newest', string | null>>(
    `SELECT (last_value - (NOT is_called)::int)::text AS drawn, open, made, newest FROM event_positions, (
       SELECT max(upper) FILTER (WHERE is_open)::text AS open, max(upper)::text AS made, max(lower)::text AS newest
       FROM event_partitions) AS partitions`,
  );
  const { drawn, open, made, newest } = rows[0]!;
  const number = (text: string | null) => (text === null ? undefined : BigInt(text));
  return { drawn: BigInt(drawn), openUpTo: number(open), madeUpTo: number(made), newestFrom: number(newest) };
}

async function hasFlightsBelow(client: Connection, position: bigint): Promise<boolean> {
  const { rows } = await client.query<{ first: number | null }>(firstInFlightSql);
  return (rows[0]!.first ?? Infinity) < position;
}

/** Indexes the next streams of the oldest partition that is closed and not indexed. */
async function indexSome(client: Connection): Promise<void> {
  const { rows: closed } = await client.query<{ number: number; after: string | null }>(closedSql);
  if (!closed[0]) return;
  const { number, after } = closed[0];
  const table = partitionTable(number);
  // Whatever the statistics of a partition that was just closed, it is read in the order of its streams.
  await client.query('SET LOCAL enable_seqscan = off');
  const { rows } = await client.query<{ last: string | null }>(
    `WITH streams AS MATERIALIZED (
       SELECT stream, min(position) AS first_position, max(position) AS last_position FROM ${table}
       WHERE stream > $1 GROUP BY stream ORDER BY stream LIMIT ${chunkStreams}
     ), indexed AS (
       INSERT INTO stream_spans (stream, first_position, last_position, last_version, last_hash)
       SELECT streams.stream, first_position, last_position, version, hash
       FROM streams JOIN ${table} AS last ON position = last_position
     )
     SELECT max(stream) AS last FROM streams`,
    [after ?? ''],
  );
  const { last } = rows[0]!;
  await client.query(
    `UPDATE event_partitions SET indexed_after = coalesce($2, indexed_after), is_indexed = $2::text IS NULL
     WHERE number = $1`,
    [number, last],
  );
}
