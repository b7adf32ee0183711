import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { inTransaction, type Connection } from '@app/database';
import type { Pool } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { archivesOf, eventsOf, holdLog, type Archive } from './archives';
import { eventHash, microsecondsOf, noHash } from './event-hash';
import { keptColumns, keptEvent, type KeptEvent } from './kept-event';
import { openEmptyUpTo } from './partition-table';
import { isStreamSql } from './partitions';

/** Selects events; without any field, all of them. */
export interface Selection {
  /** The earliest time of an event, inclusive. */
  readonly from?: Date | undefined;
  /** The end of the range of times, exclusive. */
  readonly to?: Date | undefined;
  readonly streams?: readonly string[] | undefined;
  readonly types?: readonly string[] | undefined;
}

/** A part of the log: positions above `after`, up to and including `upTo`. */
export interface Span {
  readonly after: number;
  readonly upTo: number;
}

/** Positions that one statement covers, so that each statement is short, however few events match. */
const windowSize = 5_000;

const where = `position > $1 AND position <= $2
  AND ($3::timestamptz IS NULL OR time >= $3) AND ($4::timestamptz IS NULL OR time < $4)
  AND ($5::text[] IS NULL OR stream = ANY ($5)) AND ($6::text[] IS NULL OR type = ANY ($6))`;
const values = ({ after, upTo }: Span, { from, to, streams, types }: Selection) => [
  after,
  upTo,
  from?.toISOString() ?? null,
  to?.toISOString() ?? null,
  streams ?? null,
  types ?? null,
];

const isEmpty = (selection: Selection): boolean => Object.values(selection).every((part) => part === undefined);

/** Tells as `where` does whether an event is selected. */
function selects({ from, to, streams, types }: Selection, { after, upTo }: Span): (event: KeptEvent) => boolean {
  const [first, end] = [from?.getTime() ?? -Infinity, to?.getTime() ?? Infinity];
  return ({ position, stream, type, time }) => {
    const at = Date.parse(time);
    const isInTime = at >= first && at < end;
    const isNamed = (!streams || streams.includes(stream)) && (!types || types.includes(type));
    return position > after && position <= upTo && isInTime && isNamed;
  };
}

/** Reads stored events out of a store and its archives, and writes them into an empty store. */
export class EventArchive {
  constructor(private readonly pool: Pool) {}

  /**
   * Counts the events and streams of a selection. Archives are read for it, unless all of their events are selected.
   *
   * @returns `streams` is undefined where archives were read: they may be too many to hold in memory.
   * @throws {ArchiveAway} {ArchiveBroken}
   */
  async count(selection: Selection, span: Span): Promise<{ events: number; streams: number | undefined }> {
    let archived = 0;
    let { after } = span;
    for (const archive of await this.archivesIn(span)) {
      if (isEmpty(selection) && after <= archive.after && archive.upTo <= span.upTo) archived += archive.events;
      else
        for await (const events of eventsOf(this.pool, archive, after))
          archived += events.filter(selects(selection, span)).length;
      after = archive.upTo;
    }
    const { rows } = await this.pool.query<{ events: number; streams: number }>(
      `SELECT count(*)::float8 AS events, count(DISTINCT stream)::float8 AS streams FROM events WHERE ${where}`,
      values({ ...span, after }, selection),
    );
    const { events, streams } = rows[0]!;
    return { events: archived + events, streams: after === span.after ? streams : undefined };
  }

  private async archivesIn({ after, upTo }: Span): Promise<Archive[]> {
    return (await archivesOf(this.pool)).filter((archive) => archive.upTo > after && archive.after < upTo);
  }

  /** Finds the stream of this name. Gives one name or none. */
  async streamsNamed(name: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ stream: string }>(`SELECT $1 AS stream WHERE ${isStreamSql('$1')}`, [
      name,
    ]);
    return rows.map(({ stream }) => stream);
  }

  /**
   * Finds the streams that have an event of this type whose data hold this text in `field`, in the order of these
   * events.
   */
  async streamsWith(type: string, field: string, text: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ stream: string }>(
      'SELECT stream FROM events WHERE type = $1 AND data->>$2 = $3 ORDER BY position',
      [type, field, text],
    );
    return rows.map(({ stream }) => stream);
  }

  /**
   * Reads the selected events in the order of the log, page by page, those of archives from their files. Each page
   * comes with the position up to which the selection has been read.
   *
   * @throws {ArchiveAway} {ArchiveBroken}
   */
  async *read(selection: Selection, span: Span): AsyncGenerator<{ events: KeptEvent[]; position: number }> {
    const held = await holdLog(this.pool);
    try {
      let { after } = span;
      for (const archive of await this.archivesIn(span)) {
        for await (const events of eventsOf(this.pool, archive, after))
          yield {
            events: events.filter(selects(selection, span)),
            position: Math.min(span.upTo, events.at(-1)!.position),
          };
        after = Math.min(span.upTo, archive.upTo);
      }
      for await (const page of this.readStored(selection, { after, upTo: span.upTo })) {
        await held.assertHeld();
        yield page;
      }
    } finally {
      await held.release();
    }
  }

  /** Reads what is in no archive, and of those what is still in the store. */
  async *readStored(
    selection: Selection,
    { after, upTo }: Span,
  ): AsyncGenerator<{ events: KeptEvent[]; position: number }> {
    const page = async (start: number) => {
      const position = Math.min(upTo, start + windowSize);
      const { rows } = await this.pool.query<KeptEvent>({
        name: 'archive read',
        text: `SELECT ${keptColumns} FROM events WHERE ${where} ORDER BY events.position`,
        values: values({ after: start, upTo: position }, selection),
      });
      return { position, events: rows.map(keptEvent) };
    };
    for (let next = after < upTo ? page(after) : undefined; next;) {
      const read = await next;
      // The next page is read while the caller handles this one.
      next = read.position < upTo ? page(read.position) : undefined;
      next?.catch(() => undefined);
      yield read;
    }
  }

  /**
   * Fills an empty store with events in the order of the log, in one transaction: all of them, or none. It does not
   * check their hashes; `checkChain` does.
   *
   * @param head the last position that the source store has drawn, at or above those of all events; new events get
   * positions above it.
   * @param complete is called when the events are written but not committed. It writes what belongs to them.
   * @throws {StoreNotEmpty} nothing was written; the same holds for whatever `pages` and `complete` throw.
   */
  async fill(
    pages: AsyncIterable<readonly KeptEvent[]>,
    head: number,
    complete: (client: Connection) => Promise<void>,
  ): Promise<void> {
    await inTransaction(this.pool, async (client) => {
      // Other appends wait until the end of the transaction; readers see none of these events before it.
      await client.query('LOCK TABLE events IN EXCLUSIVE MODE');
      await assertEmpty(client);
      await openEmptyUpTo(client, head);
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
      await complete(client);
      // The last statement, because `setval` is not undone by a rollback.
      if (head > 0) await client.query(`SELECT setval('event_positions', $1)`, [head]);
    });
  }
}

/** Thrown when a store has, or once had, events of its own, since others may already refer to their positions. */
export class StoreNotEmpty extends Error {
  override readonly name = 'StoreNotEmpty';
}

async function assertEmpty(client: Connection): Promise<void> {
  const { rows } = await client.query<{ filled: boolean; reader: string | null }>(
    `SELECT EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM event_archives) AS filled, (SELECT name FROM checkpoints WHERE position > 0 LIMIT 1) AS reader`,
  );
  const { filled, reader } = rows[0]!;
  if (filled) throw new StoreNotEmpty('The store has events already. Import into an empty one.');
  if (reader !== null)
    throw new StoreNotEmpty(
      `The reader "${reader}" has read events of this store that are gone, and would skip as many. Import into a new database.`,
    );
}

/** Writes an event as a line in the text format of COPY. */
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

/** Thrown when an event is not what was appended, or does not follow the one before it. */
export class ChainBroken extends Error {
  override readonly name = 'ChainBroken';
}

/**
 * Checks the hashes of events that come in the order of the log, with each stream from its first event.
 *
 * @returns a function that takes one event after another.
 * @throws {ChainBroken} from that function, saying what is wrong with the event.
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
