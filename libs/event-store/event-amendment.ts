import type { Connection } from '@app/database';
import { eventHash, microsecondsOf, noHash } from './event-hash';

/** What replaces the data of an event. */
export interface Replacement {
  readonly schemaVersion: number;
  /** JSON text. */
  readonly data: string;
}

/** A recorded event whose data may be replaced. */
export interface Replaceable {
  readonly stream: string;
  readonly version: number;
  readonly type: string;
  readonly schemaVersion: number;
  /** JSON text. */
  readonly data: string;
}

/** An event that has another hash now. */
export interface Rehashed extends Replaceable {
  readonly position: number;
  readonly before: Buffer;
  readonly after: Buffer;
  readonly isReplaced: boolean;
}

interface Row extends Replaceable {
  readonly position: number;
  readonly time: string;
  readonly metadata: string;
  readonly hash: Buffer;
}

/**
 * Replaces data of events in the open transaction, and the hashes of all that follow them in their streams. Appends
 * wait until the end of the transaction, so it is to be short. Nothing else lifts the rule that an event is never
 * changed, and the caller has to record what was changed and why.
 *
 * @param streams a hundred at most.
 * @param replace gives what replaces the data of an event; undefined leaves it as it is.
 * @returns the events with another hash, in the order of their positions.
 */
export async function replaceData(
  client: Connection,
  streams: readonly string[],
  replace: (event: Replaceable) => Replacement | undefined,
): Promise<Rehashed[]> {
  // An append that reads the newest hash of a stream while it changes would follow a hash that is gone, and a partition
  // that is indexed meanwhile would keep it.
  await client.query('LOCK TABLE events, stream_spans IN EXCLUSIVE MODE');
  await client.query(`SET LOCAL sendmux.amending = 'on'`);
  const { rows } = await client.query<Row>(
    `SELECT position::float8 AS position, stream, version, type, schema_version AS "schemaVersion", data::text AS data,
       metadata::text AS metadata, hash,
       to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time
     FROM events WHERE stream = ANY ($1) ORDER BY stream, version`,
    [streams],
  );
  const changed: (Rehashed & { previous: Buffer })[] = [];
  const newest = new Map<string, Buffer>();
  for (const { hash: before, time, metadata, ...event } of rows) {
    const { stream, version, position, type } = event;
    const replacement = replace(event);
    const previous = version === 1 ? noHash : newest.get(stream);
    if (replacement === undefined && previous === undefined) continue;
    const { schemaVersion, data } = replacement ?? event;
    const follows = previous ?? (await previousOf(client, position));
    const hashed = { position, previous: follows, stream, version, type, schemaVersion, data, metadata };
    const after = eventHash({ ...hashed, microseconds: microsecondsOf(time) });
    if (after.equals(before)) continue;
    newest.set(stream, after);
    changed.push({ ...event, schemaVersion, data, before, after, previous: follows, isReplaced: !!replacement });
  }
  await client.query(
    `UPDATE events SET schema_version = c.schema_version, data = c.data::json, previous = c.previous, hash = c.hash
     FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::bytea[], $5::bytea[])
       AS c (position, schema_version, data, previous, hash)
     WHERE events.position = c.position`,
    [
      changed.map(({ position }) => position),
      changed.map(({ schemaVersion }) => schemaVersion),
      changed.map(({ data }) => data),
      changed.map(({ previous }) => previous),
      changed.map(({ after }) => after),
    ],
  );
  await client.query(`SET LOCAL sendmux.amending = 'off'`);
  await client.query(
    `UPDATE stream_spans s SET last_hash = c.hash FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS c (stream, position, hash)
     WHERE s.stream = c.stream AND s.last_position = c.position`,
    [changed.map(({ stream }) => stream), changed.map(({ position }) => position), changed.map(({ after }) => after)],
  );
  return changed.sort((a, b) => a.position - b.position);
}

async function previousOf(client: Connection, position: number): Promise<Buffer> {
  const { rows } = await client.query<{ previous: Buffer }>('SELECT previous FROM events WHERE position = $1', [
    position,
  ]);
  return rows[0]!.previous;
}

/**
 * Gives names of streams with a prefix after a name, in the order of the database, and says of which some event is of
 * these types and of this schema version.
 */
export async function streamsWithVersion(
  client: Connection,
  {
    prefix,
    after,
    types,
    schemaVersion,
    limit,
  }: {
    readonly prefix: string;
    readonly after: string;
    readonly types: readonly string[];
    readonly schemaVersion: number;
    readonly limit: number;
  },
): Promise<{ stream: string; hasVersion: boolean }[]> {
  const { rows } = await client.query<{ stream: string; hasVersion: boolean }>(
    `SELECT first.stream, EXISTS (
       SELECT FROM events e WHERE e.stream = first.stream AND e.type = ANY ($3) AND e.schema_version = $4
     ) AS "hasVersion"
     FROM events first WHERE first.version = 1 AND first.stream > $2 AND starts_with(first.stream, $1)
     ORDER BY first.stream LIMIT $5`,
    [prefix, after, types, schemaVersion, limit],
  );
  return rows;
}
