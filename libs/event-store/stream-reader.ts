import { copyIn, copyOut, type Connection } from '@app/database';
import { archivesOf, eventsOf, streamsMoved, wholeLogLock } from './archives';
import type { RecordedEvent } from './event';

/** An event as a model folds it: without its position in the log and without metadata. */
export type StreamEvent = Pick<RecordedEvent, 'stream' | 'version' | 'type' | 'schemaVersion' | 'data' | 'time'>;

export interface StreamRange {
  /** The prefix of the names of the streams, such as `mdom_`. */
  readonly prefix: string;
  /** Only streams after this one, in the order in which the database sorts names. */
  readonly after?: string;
  /** Only streams that have an event above this position; all of their events are read. */
  readonly changedAbove?: number;
  /** Sorts streams by the bytes of their names, whatever the collation of the database. */
  readonly bytewise?: boolean;
}

/**
 * Reads the whole log stream by stream, each in the order of its versions, in one snapshot: that of the open
 * transaction, or a new one. What is in archives comes from where `bringArchived` has put it.
 *
 * @param client a connection that nothing else uses until the last event, with `TimeZone` UTC and `DateStyle` ISO.
 * @throws {Error} when an event of a stream is missing.
 */
export async function* eventsByStream(client: Connection, range: StreamRange): AsyncGenerator<StreamEvent[], void> {
  const condition = rangeOf(client, range);
  const columns = 'stream, version, type, schema_version, data, time';
  const { rows: brought } = await client.query<{ is: boolean }>(
    `SELECT to_regclass('${broughtTable}') IS NOT NULL AS is`,
  );
  const source = brought[0]!.is
    ? `(SELECT ${columns} FROM events WHERE ${condition} UNION ALL SELECT ${columns} FROM ${broughtTable} WHERE ${condition})`
    : `(SELECT ${columns} FROM events WHERE ${condition})`;
  const query = `SELECT stream, version::text, type, schema_version::text, data, time::text FROM ${source} AS events
    ORDER BY events.stream${range.bytewise ? ' COLLATE "C"' : ''}, events.version`;
  let last = '';
  let lastVersion = 0;
  for await (const rows of copyOut(client, query)) {
    const events: StreamEvent[] = [];
    for (const row of rows) {
      const [stream, version, type, schemaVersion, data, time] = row as readonly string[];
      const event: StreamEvent = {
        stream: stream!,
        version: Number(version),
        type: type!,
        schemaVersion: Number(schemaVersion),
        data: JSON.parse(data!) as unknown,
        time: isoTime(time!),
      };
      // What was brought may still be in its partition.
      if (stream === last && event.version === lastVersion) continue;
      if (event.version !== (stream === last ? lastVersion + 1 : 1))
        throw new Error(`The log is not whole: before ${stream}/${version} an event of the stream is missing.`);
      [last, lastVersion] = [event.stream, event.version];
      events.push(event);
    }
    yield events;
  }
}

const broughtTable = 'pg_temp.archived_events';

/**
 * Copies the events of streams that are in archives into a table of the session, so that `eventsByStream` has them in
 * the order of the streams. No partition is removed until the session ends.
 *
 * @param prefix of the names of the streams.
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function bringArchived(client: Connection, prefix: string): Promise<void> {
  await client.query('SELECT pg_advisory_lock_shared($1)', [wholeLogLock]);
  const archives = await archivesOf(client);
  if (archives.length === 0) return;
  await client.query(
    'CREATE TEMP TABLE archived_events (stream text, version integer, type text, schema_version smallint, data json, time timestamptz)',
  );
  for (const archive of archives)
    for await (const events of eventsOf(client, archive)) {
      const moved = await streamsMoved(client, archive, events);
      await copyIn(
        client,
        'archived_events',
        ['stream', 'version', 'type', 'schema_version', 'data', 'time'],
        events
          .filter(({ stream }) => stream.startsWith(prefix) && moved.has(stream))
          .map(({ stream, version, type, schemaVersion, data, time }) =>
            [stream, version, type, schemaVersion, data, time].map(String),
          ),
      );
    }
  await client.query('CREATE INDEX ON archived_events (stream, version)');
  await client.query('ANALYZE archived_events');
}

/** Estimates the number of events in a range by the statistics of the table. */
export async function estimatedEvents(client: Connection, range: StreamRange): Promise<number> {
  const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>(
    `EXPLAIN (FORMAT JSON) SELECT FROM events WHERE ${rangeOf(client, range)}`,
  );
  return rows[0]!['QUERY PLAN'][0].Plan['Plan Rows'];
}

/** Tells whether the database sorts names by their bytes, so that `bytewise` costs nothing. */
export async function sortsByBytes(client: Connection): Promise<boolean> {
  const { rows } = await client.query<{ collation: string; provider: string | null }>(
    `SELECT datcollate AS collation, to_jsonb(d) ->> 'datlocprovider' AS provider FROM pg_database d
     WHERE datname = current_database()`,
  );
  const { collation, provider } = rows[0]!;
  return provider === 'b' || (provider !== 'i' && /^(C|POSIX)$/.test(collation));
}

/** Uses `LIKE`, so that an index in the order of bytes can find the streams. */
function rangeOf(client: Connection, { prefix, after, changedAbove }: StreamRange): string {
  const streams = `stream LIKE ${client.escapeLiteral(`${prefix.replace(/[\\%_]/g, '\\$&')}%`)}`;
  return [
    streams,
    ...(after === undefined ? [] : [`stream > ${client.escapeLiteral(after)}`]),
    ...(changedAbove === undefined
      ? []
      : [`stream IN (SELECT stream FROM events WHERE position > ${changedAbove} AND ${streams})`]),
  ].join(' AND ');
}

/** Converts `2026-03-01 10:00:00.5+00`, as PostgreSQL writes a time in UTC, to `2026-03-01T10:00:00.500Z`. */
const isoTime = (text: string): string =>
  text.length === 26 && text[19] === '.'
    ? `${text.slice(0, 10)}T${text.slice(11, 23)}Z`
    : new Date(`${text.replace(' ', 'T')}:00`).toISOString();
