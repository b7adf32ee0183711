import type { EventMetadata, RecordedEvent } from './event';
import { hashedOctets, microsecondsOf, type HashedEvent } from './event-hash';

/** An event as it is stored, with every column as text. */
export interface KeptEvent extends Omit<HashedEvent, 'microseconds'> {
  /** ISO 8601, UTC, with three fractional digits, or six where the time has microseconds. */
  readonly time: string;
  readonly hash: Buffer;
}

/** The columns of a row that is read as a `KeptEvent`. */
export const keptColumns = `position::float8 AS position, stream, version, type, schema_version AS "schemaVersion",
  data::text AS data, metadata::text AS metadata, previous, hash,
  to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time`;

/** Gives the event of a row with `keptColumns`. */
export const keptEvent = (row: KeptEvent): KeptEvent => ({ ...row, time: row.time.replace(/000Z$/, 'Z') });

/** Gives an event as a stream has it. */
export const recordedOf = ({ previous: _, hash: __, data, metadata, ...event }: KeptEvent): RecordedEvent => ({
  ...event,
  data: JSON.parse(data) as unknown,
  metadata: JSON.parse(metadata) as EventMetadata,
  time: new Date(event.time).toISOString(),
});

/** Gives the row of an event as `COPY … (FORMAT binary)` gives that of `hashedColumns` and its hash. */
export function copiedRow(event: KeptEvent): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(event.hash.length);
  return Buffer.concat([hashedOctets({ ...event, microseconds: microsecondsOf(event.time) }), length, event.hash]);
}
