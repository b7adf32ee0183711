import { copyOut } from '@app/database';
import type { Client } from 'pg';
import type { RecordedEvent } from './event';

/** An event as a model folds it: without its place in the log, and without what is stored beside it. */
export type StreamEvent = Pick<RecordedEvent, 'stream' | 'version' | 'type' | 'schemaVersion' | 'data' | 'time'>;

export interface StreamRange {
  /** What the names of the streams begin with, such as `mdom_`. */
  readonly prefix: string;
  /** Only streams behind this one, in the order that the database gives names. */
  readonly after?: string;
  /** Only streams that have an event above this position; they come with all of their events. */
  readonly changedAbove?: number;
  /** The order of streams is that of the bytes of their names, whatever the database thinks of it. */
  readonly bytewise?: boolean;
}

/**
 * The whole log, stream after stream, each in the order of its versions, as of one snapshot: that of the transaction, or of now.
 *
 * @param client a connection for this alone, until the last event, whose `TimeZone` is UTC and whose `DateStyle` is ISO.
 * @throws {Error} when an event of a stream is missing.
 */
export async function* eventsByStream(client: Client, range: StreamRange): AsyncGenerator<StreamEvent[], void> {
  const query = `SELECT stream, version::text, type, schema_version::text, data, time::text
    FROM events WHERE ${rangeOf(client, range)}
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
      if (event.version !== (stream === last ? lastVersion + 1 : 1))
        throw new Error(`The log is not whole: before ${stream}/${version} an event of the stream is missing.`);
      [last, lastVersion] = [event.stream, event.version];
      events.push(event);
    }
    yield events;
  }
}

/** About how many events that is: as good as the statistics of the table. */
export async function estimatedEvents(client: Client, range: StreamRange): Promise<number> {
  const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>(
    `EXPLAIN (FORMAT JSON) SELECT FROM events WHERE ${rangeOf(client, range)}`,
  );
  return rows[0]!['QUERY PLAN'][0].Plan['Plan Rows'];
}

/** Whether the database sorts names by their bytes, so that `bytewise` costs nothing. */
export async function sortsByBytes(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ collation: string; provider: string | null }>(
    `SELECT datcollate AS collation, to_jsonb(d) ->> 'datlocprovider' AS provider FROM pg_database d
     WHERE datname = current_database()`,
  );
  const { collation, provider } = rows[0]!;
  return provider === 'b' || (provider !== 'i' && /^(C|POSIX)$/.test(collation));
}

/** `LIKE` lets an index in the order of bytes find the streams. */
function rangeOf(client: Client, { prefix, after, changedAbove }: StreamRange): string {
  const streams = `stream LIKE ${client.escapeLiteral(`${prefix.replace(/[\\%_]/g, '\\$&')}%`)}`;
  return [
    streams,
    ...(after === undefined ? [] : [`stream > ${client.escapeLiteral(after)}`]),
    ...(changedAbove === undefined
      ? []
      : [`stream IN (SELECT stream FROM events WHERE position > ${changedAbove} AND ${streams})`]),
  ].join(' AND ');
}

/** `2026-03-01 10:00:00.5+00`, as PostgreSQL has it in UTC, to `2026-03-01T10:00:00.500Z`. */
const isoTime = (text: string): string =>
  text.length === 26 && text[19] === '.'
    ? `${text.slice(0, 10)}T${text.slice(11, 23)}Z`
    : new Date(`${text.replace(' ', 'T')}:00`).toISOString();
