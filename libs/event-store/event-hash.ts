import { hash } from 'node:crypto';
import type { RecordedEvent } from './event';

/** Octets in a hash. */
export const hashLength = 32;
/** The previous hash of the first event of a stream. */
export const noHash = Buffer.alloc(hashLength);

/**
 * The fields of an event that its hash covers. JSON is hashed as the text that was written, since another text may have
 * the same meaning.
 */
export interface HashedEvent extends Pick<RecordedEvent, 'position' | 'stream' | 'version' | 'type' | 'schemaVersion'> {
  /** Hash of the event before it in its stream; `noHash` for the first. */
  readonly previous: Buffer;
  /** Microseconds since 2000-01-01T00:00:00Z, the epoch of PostgreSQL. */
  readonly microseconds: bigint;
  /** JSON text. */
  readonly data: string;
  /** JSON text. */
  readonly metadata: string;
}

/** Milliseconds between the epochs of Unix and PostgreSQL. */
const epoch = Date.UTC(2000, 0, 1);

/**
 * Converts a time to microseconds since the epoch of PostgreSQL.
 *
 * @param time ISO 8601, with at most six fractional digits.
 */
export function microsecondsOf(time: string): bigint {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? '';
  return BigInt(Date.parse(time) - epoch) * 1_000n + BigInt(fraction.slice(3, 6).padEnd(3, '0'));
}

/**
 * Hashes an event and the hash before it in its stream with SHA-256. Each of the nine fields is preceded by its length
 * in octets as a 32-bit number. Numbers are big-endian: position and time have 64 bits, the version 32, the schema
 * version 16. These are the octets that `COPY … (FORMAT binary)` gives of `hashedColumns`, so a reader can hash a row
 * as it comes.
 *
 * The first octet is always 0: the hash is a leaf of a Merkle tree as RFC 9162 section 2.1.1 defines it, and never one
 * of its nodes.
 */
export const eventHash = (event: HashedEvent): Buffer => hash('sha256', hashedOctets(event), 'buffer');

/** Gives the octets that the hash of an event is over. */
export function hashedOctets(event: HashedEvent): Buffer {
  const numbers = Buffer.alloc(22);
  numbers.writeBigInt64BE(BigInt(event.position), 0);
  numbers.writeInt32BE(event.version, 8);
  numbers.writeInt16BE(event.schemaVersion, 12);
  numbers.writeBigInt64BE(event.microseconds, 14);
  const fields = [
    numbers.subarray(0, 8),
    event.previous,
    Buffer.from(event.stream),
    numbers.subarray(8, 12),
    Buffer.from(event.type),
    numbers.subarray(12, 14),
    numbers.subarray(14, 22),
    Buffer.from(event.data),
    Buffer.from(event.metadata),
  ];
  const framed = fields.flatMap((field) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(field.length);
    return [length, field];
  });
  return Buffer.concat(framed);
}

/** The columns that the hash covers, in the order in which it covers them. */
export const hashedColumns = [
  'position',
  'previous',
  'stream',
  'version',
  'type',
  'schema_version',
  'time',
  'data',
  'metadata',
] as const;

/**
 * Gives the SQL expression that computes `eventHash` in PostgreSQL.
 *
 * @param of the expression for each column, by its name; the column itself where absent.
 */
export function eventHashSql(of: Readonly<Partial<Record<(typeof hashedColumns)[number], string>>> = {}): string {
  const bytes: Record<string, (value: string) => string> = {
    position: (value) => `int8send(${value})`,
    previous: (value) => value,
    version: (value) => `int4send(${value})`,
    schema_version: (value) => `int2send(${value})`,
    time: (value) => `timestamptz_send(${value})`,
  };
  const text = (value: string) => `convert_to(${value}::text, 'UTF8')`;
  const framed = hashedColumns.map((name) => {
    const field = (bytes[name] ?? text)(of[name] ?? name);
    return `int4send(octet_length(${field})) || ${field}`;
  });
  return `sha256(${framed.join(' || ')})`;
}
