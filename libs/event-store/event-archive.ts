import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Pool, PoolClient } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { eventHash, microsecondsOf, noHash, type HashedEvent } from './event-hash';

/** An event as its row has it, text by text. */
export interface KeptEvent extends Omit<HashedEvent, 'microseconds'> {
  /** ISO 8601, UTC, with three digits of a second, or six where it has microseconds. */
  readonly time: string;
  readonly hash: Buffer;
}

/** Which events; absent: all. */
export interface Selection {
  /** The first moment of their time. */
  readonly from?: Date | undefined;
  /** The moment after their time. */
  readonly to?: Date | undefined;
  readonly streams?: readonly string[] | undefined;
  readonly types?: readonly string[] | undefined;
}

/** A part of the log: positions above `after`, up to `upTo`. */
export interface Span {
  readonly after: number;
  readonly upTo: number;
}

/** Positions that one statement looks at: each ends soon, however few events are wanted. */
const windowSize = 5_000;

const where = `position > $1 AND position <= $2
  AND ($3::timestamptz IS NULL OR time >= $3) AND ($4::timestamptz IS NULL OR time < $4)
  AND ($5::text[] IS NULL OR stream = ANY ($5)) AND ($6::text[] IS NULL OR type = ANY ($6))`;
const values = ({ after, upTo }: Span, { from, to, streams, types }: Selection) => [
  ...[after, upTo, from?.toISOString() ?? null, to?.toISOString() ?? null, streams ?? null, types ?? null],
];

/** Events as they are kept, out of a store and into another one. */
export class EventArchive {
  constructor(private readonly pool: Pool) {}

  /** How many events and streams a selection has. */
  async count(selection: Selection, span: Span): Promise<{ events: number; streams: number }> {
    const { rows } = await this.pool.query<{ events: number; streams: number }>(
      `SELECT count(*)::float8 AS events, count(DISTINCT stream)::float8 AS streams FROM events WHERE ${where}`,
      values(span, selection),
    );
    return rows[0]!;
  }

  /** The selected events in the order of the log, page by page, each with the position up to which all have come. */
  async *read(selection: Selection, { after, upTo }: Span): AsyncGenerator<{ events: KeptEvent[]; position: number }> {
    const page = async (start: number) => {
      const position = Math.min(upTo, start + windowSize);
      const { rows } = await this.pool.query<KeptEvent>({
        name: 'archive read',
        text: `SELECT position::float8 AS position, stream, version, type, schema_version AS "schemaVersion",
            data::text AS data, metadata::text AS metadata, previous, hash,
            to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time
          FROM events WHERE ${where} ORDER BY position`,
        values: values({ after: start, upTo: position }, selection),
      });
      return { position, events: rows.map((row) => ({ ...row, time: row.time.replace(/000Z$/, 'Z') })) };
    };
    for (let next = after < upTo ? page(after) : undefined; next;) {
      const read = await next;
      // While this page is worked on, the next one comes.
      next = read.position < upTo ? page(read.position) : undefined;
      next?.catch(() => undefined);
      yield read;
    }
  }

  /**
   * Fills an empty store with events in the order of the log, in one transaction: all of them, or none. Their hashes are not looked
   * at here: see `checkChain`.
   *
   * @param complete called when they are written, before they are there: writes what belongs to them, and gives the last position
   * that was given out in the store that they come from. New ones go above it.
   * @throws {StoreNotEmpty} nothing was written; whatever `pages` and `complete` throw, likewise.
   */
  async fill(
    pages: AsyncIterable<readonly KeptEvent[]>,
    complete: (client: PoolClient) => Promise<number>,
  ): Promise<void> {
    const client = await this.pool.connect();
    let broken: Error | undefined;
    try {
      await client.query('BEGIN');
      // Whoever appends waits until the end; whoever reads sees nothing before it.
      await client.query('LOCK TABLE events IN EXCLUSIVE MODE');
      await assertEmpty(client);
      await pipeline(
        pages,
        new Transform({
          writableObjectMode: true,
          transform: (page: readonly KeptEvent[], _, done) => done(null, page.map(copyLine).join('')),
        }),
        client.query(
          copyFrom(
            'COPY events (position, stream, version, type, schema_version, data, metadata, time, previous, hash) FROM STDIN',
          ),
        ),
      );
      const head = await complete(client);
      // At the very end: what a sequence has given out is not taken back.
      if (head > 0) await client.query(`SELECT setval('event_positions', $1)`, [head]);
      await client.query('COMMIT');
    } catch (error) {
      broken = error as Error;
      throw error;
    } finally {
      // A connection that broke off takes its transaction with it.
      client.release(broken);
    }
  }
}

/** A store that has, or had, events of its own: others may be known by their positions already. */
export class StoreNotEmpty extends Error {
  override readonly name = 'StoreNotEmpty';
}

async function assertEmpty(client: PoolClient): Promise<void> {
  const { rows } = await client.query<{ filled: boolean; reader: string | null }>(
    `SELECT EXISTS (SELECT FROM events) AS filled, (SELECT name FROM checkpoints WHERE position > 0 LIMIT 1) AS reader`,
  );
  const { filled, reader } = rows[0]!;
  if (filled) throw new StoreNotEmpty('The store has events already. Import into an empty one.');
  if (reader !== null)
    throw new StoreNotEmpty(
      `The reader "${reader}" has read events of this store that are gone, and would skip as many. Import into a new database.`,
    );
}

/** In the text format of COPY. */
function copyLine({ previous, hash, ...event }: KeptEvent): string {
  const { position, stream, version, type, schemaVersion, data, metadata, time } = event;
  const texts = [position, stream, version, type, schemaVersion, data, metadata, time].map(escaped);
  return `${[...texts, ...[previous, hash].map((bytes) => `\\\\x${bytes.toString('hex')}`)].join('\t')}\n`;
}

const escaped = (value: string | number): string =>
  String(value).replace(
    /[\\\n\r\t]/g,
    (character) => ({ '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' })[character]!,
  );

/** An event that is not what was appended, or does not follow the one before it. */
export class ChainBroken extends Error {
  override readonly name = 'ChainBroken';
}

/**
 * Looks at events in the order of their log, whole streams from their beginning.
 *
 * @returns a function that takes one after the other.
 * @throws {ChainBroken} by that function, saying what is wrong with the event.
 */
export function checkChain(): (event: KeptEvent) => void {
  const streams = new Map<string, { version: number; hash: Buffer }>();
  let position = 0;
  return (event) => {
    const { stream, version, previous, hash } = event;
    const id = `${stream}/${version}`;
    const before = streams.get(stream) ?? { version: 0, hash: noHash };
    if (event.position <= position)
      throw new ChainBroken(`${id} has position ${event.position}, after an event at ${position}`);
    if (version !== before.version + 1)
      throw new ChainBroken(`${id} comes where version ${before.version + 1} of its stream should`);
    if (!previous.equals(before.hash)) throw new ChainBroken(`${id} does not follow the event before it in its stream`);
    if (!hash.equals(eventHash({ ...event, microseconds: microsecondsOf(event.time) })))
      throw new ChainBroken(`${id} is not what its hash says`);
    position = event.position;
    streams.set(stream, { version, hash });
  };
}
