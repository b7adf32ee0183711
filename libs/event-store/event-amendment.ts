import type { Connection } from '@app/database';
import { ChainBroken, checkChain } from './event-archive';
import { eventHash, microsecondsOf } from './event-hash';
import { keptColumns, type KeptEvent } from './kept-event';

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

/**
 * Replaces data of events in the open transaction, and the hashes of all that follow them in their streams. Appends
 * wait until the end of the transaction, so it is to be short. Nothing else lifts the rule that an event is never
 * changed, and the caller has to record what was changed and why.
 *
 * The streams are checked before: a hash that is made anew over what somebody has tampered with would hide it.
 *
 * @param client whose transaction has a `lock_timeout`, since all appends wait behind this for whoever holds the table.
 * @param streams a hundred at most.
 * @param replace gives what replaces the data of an event; undefined leaves it as it is.
 * @returns the events with another hash, in the order of their positions.
 * @throws {ChainBroken} where a stream is not what was appended.
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
  const { rows } = await client.query<KeptEvent>(
    `SELECT ${keptColumns} FROM events WHERE stream = ANY ($1) ORDER BY events.position`,
    [streams],
  );
  const { rows: archives } = await client.query<{ upTo: number }>(
    'SELECT coalesce(max(upper), 0)::float8 AS "upTo" FROM event_archives',
  );
  const check = checkChain();
  const changed: (Rehashed & { previous: Buffer })[] = [];
  const newest = new Map<string, Buffer>();
  for (const event of rows) {
    check(event);
    const { position, stream, version, type, hash: before } = event;
    const replacement = replace(event);
    const { schemaVersion, data } = replacement ?? event;
    const previous = newest.get(stream) ?? event.previous;
    const after = eventHash({ ...event, previous, schemaVersion, data, microseconds: microsecondsOf(event.time) });
    if (after.equals(before)) continue;
    if (position <= archives[0]!.upTo)
      throw new ChainBroken(`${stream}/${version} is in an archive, which has the hash from before`);
    newest.set(stream, after);
    const is = { position, stream, version, type, schemaVersion, data };
    changed.push({ ...is, before, after, previous, isReplaced: !!replacement });
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
  return changed;
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
