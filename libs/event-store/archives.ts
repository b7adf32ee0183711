import { openSession, type Connection } from '@app/database';
import type { Pool } from 'pg';
import { ArchiveBroken, readArchive, readBlocks, sha256Of, type ArchiveFile } from './archive-file';
import { keptColumns, keptEvent, type KeptEvent } from './kept-event';

type Queryable = Pick<Connection, 'query'>;

/** A part of the log that is in a file: positions above `after`, up to and including `upTo`. */
export interface Archive {
  /** The number of its partition. */
  readonly number: number;
  readonly after: number;
  readonly upTo: number;
  readonly file: string;
  readonly sha256: Buffer;
  readonly octets: number;
  readonly events: number;
  /** The earliest and the latest time of an event. */
  readonly from: Date;
  readonly to: Date;
  readonly archivedAt: Date;
  /** Whether the partition has only what stays of it, or is gone. */
  readonly isThin: boolean;
}

const archiveColumns = `number, lower::float8 AS after, upper::float8 AS "upTo", file, sha256, octets::float8 AS octets,
  events::float8 AS events, from_time AS "from", to_time AS "to", archived_at AS "archivedAt", is_thin AS "isThin"`;

/** Gives the archives of a log in its order. They begin at its beginning, without a gap. */
export async function archivesOf(client: Queryable): Promise<Archive[]> {
  const { rows } = await client.query<Archive>(`SELECT ${archiveColumns} FROM event_archives ORDER BY lower`);
  return rows;
}

/** Gives the archive of the first event above a position; undefined where it is in no archive. */
export async function archiveAbove(client: Queryable, after: number): Promise<Archive | undefined> {
  const { rows } = await client.query<Archive>(
    `SELECT ${archiveColumns} FROM event_archives WHERE upper > $1 ORDER BY upper LIMIT 1`,
    [after],
  );
  return rows[0];
}

/**
 * Checks that the file of an archive is the one that was written.
 *
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function assertUnchanged({ file, sha256 }: Archive): Promise<void> {
  if (!(await sha256Of(file)).equals(sha256)) throw new ArchiveBroken(file, 'its SHA-256 is another one');
}

/**
 * Reads the events of an archive above a position, after its file was compared with its SHA-256.
 *
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function* eventsOf(client: Queryable, archive: Archive, after = 0): AsyncGenerator<KeptEvent[], void> {
  await assertUnchanged(archive);
  yield* eventsInFile(client, archive, after);
}

/**
 * Reads the events that the file of an archive has above a position, each checked against its own hash alone: a file
 * that was changed may have fewer than were written.
 *
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function* eventsInFile(
  client: Queryable,
  { number, file }: Archive,
  after = 0,
): AsyncGenerator<KeptEvent[], void> {
  const { rows } = await client.query<ArchiveFile>(
    `SELECT block_positions::float8[] AS positions, block_offsets::float8[] AS offsets FROM event_archives
     WHERE number = $1`,
    [number],
  );
  yield* readArchive({ ...rows[0]!, file }, after);
}

/** Records where the files of archives are now. */
export async function moveArchives(
  client: Queryable,
  moved: readonly { readonly number: number; readonly file: string }[],
): Promise<void> {
  await client.query(
    `UPDATE event_archives a SET file = m.file FROM unnest($1::int[], $2::text[]) AS m (number, file)
     WHERE a.number = m.number`,
    [moved.map(({ number }) => number), moved.map(({ file }) => file)],
  );
}

/** Tells of the streams of events in a part of an archive which are read from it, and not from the store. */
export async function streamsMoved(
  client: Queryable,
  { after, upTo }: Pick<Archive, 'after' | 'upTo'>,
  events: readonly KeptEvent[],
): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ stream: string }>(
    `SELECT DISTINCT stream FROM stream_spans WHERE stream = ANY ($1) AND blocks IS NOT NULL
       AND last_position > $2 AND first_position <= $3`,
    [[...new Set(events.map(({ stream }) => stream))], after, upTo],
  );
  return new Set(rows.map(({ stream }) => stream));
}

/** Key of the advisory lock that is held, shared, by whoever reads the log in several statements. */
export const wholeLogLock = 0x5e51;

/** Keeps partitions from being removed. */
export interface HeldLog {
  /** Checks that nothing was removed up to now. @throws {Error} when the connection that keeps it so was lost. */
  readonly assertHeld: () => Promise<void>;
  readonly release: () => Promise<void>;
}

/**
 * Keeps partitions from being removed until it is released, for whoever reads the log in several statements and asks
 * once which parts of it are in archives.
 */
export async function holdLog(pool: Pool): Promise<HeldLog> {
  const session = await openSession(pool);
  try {
    await session.query('SELECT pg_advisory_lock_shared($1)', [wholeLogLock]);
  } catch (error) {
    await session.end();
    throw error;
  }
  const assertHeld = async () => {
    await session.query('SELECT').catch((error: unknown) => {
      throw new Error('The connection that keeps the log from being archived meanwhile was lost', { cause: error });
    });
  };
  return { assertHeld, release: () => session.end() };
}

/** The events of a stream from a version to another one, both included. */
interface Versions {
  readonly first: number;
  readonly last: number;
}

interface ArchivedSpan {
  readonly file: string;
  readonly lastVersion: number;
  readonly lastHash: Buffer;
  readonly positions: readonly number[];
  readonly offsets: readonly number[];
}

/**
 * Reads events of a stream wherever they are, those in archives from the files, in the order of their versions. Those
 * of a file have to be the ones that the database knows to be there, up to the hash of the last one.
 *
 * @param limit the most events; all when absent.
 * @throws {ArchiveAway} {ArchiveBroken} where a file is not there, or does not have what it should.
 */
export async function keptStream(
  client: Queryable,
  stream: string,
  { first, last }: Versions = { first: 1, last: 2 ** 31 - 1 },
  limit = Infinity,
): Promise<KeptEvent[]> {
  // The store first: what a run of archiving moves to the files meanwhile is then found in both, and never in neither.
  const { rows } = await client.query<KeptEvent>(
    `SELECT ${keptColumns} FROM events
     WHERE stream = $1 AND version BETWEEN $2 AND $3 AND NOT EXISTS (
       SELECT FROM stream_spans s WHERE s.stream = events.stream AND blocks IS NOT NULL
         AND events.position BETWEEN s.first_position AND s.last_position
     ) ORDER BY version LIMIT $4`,
    [stream, first, last, limit === Infinity ? null : limit],
  );
  const { rows: spans } = await client.query<ArchivedSpan>(
    `SELECT a.file, last_version AS "lastVersion", last_hash AS "lastHash",
       ARRAY(SELECT block_positions[b]::float8 FROM unnest(blocks) WITH ORDINALITY AS u (b, n) ORDER BY n) AS positions,
       ARRAY(
         SELECT block_offsets[b + i]::float8 FROM unnest(blocks) WITH ORDINALITY AS u (b, n), generate_series(0, 1) AS i
         ORDER BY n, i
       ) AS offsets
     FROM stream_spans s JOIN event_archives a ON s.last_position > a.lower AND s.last_position <= a.upper
     WHERE s.stream = $1 AND blocks IS NOT NULL AND last_version >= $2 ORDER BY last_position`,
    [stream, first],
  );
  const archived: KeptEvent[] = [];
  const isEnough = () => archived.length >= limit || (archived.at(-1)?.version ?? 0) >= last;
  const isWanted = ({ version }: KeptEvent) => version >= first && version <= last;
  let before: KeptEvent | undefined;
  for (const { file, positions, offsets, lastVersion, lastHash } of spans) {
    for (const [i, position] of positions.entries()) {
      if (isEnough()) break;
      const block = { file, positions: [position], offsets: offsets.slice(2 * i, 2 * i + 2) };
      for await (const events of readBlocks(block, [0]))
        for (const event of events.filter((each) => each.stream === stream)) {
          const follows = !before || (event.version === before.version + 1 && event.previous.equals(before.hash));
          if (!follows) throw missing(file, stream, before!.version + 1);
          before = event;
          if (isWanted(event)) archived.push(event);
        }
    }
    if (isEnough()) break;
    if (before?.version !== lastVersion || !before.hash.equals(lastHash)) throw missing(file, stream, lastVersion);
  }
  const found = new Map([...rows.map(keptEvent), ...archived].map((event) => [event.version, event]));
  const whole = [...found.values()].sort((a, b) => a.version - b.version).slice(0, limit);
  if (spans.length > 0)
    for (const [i, { version }] of whole.entries())
      if (version !== first + i) throw missing(spans[0]!.file, stream, first + i);
  return whole;
}

const missing = (file: string, stream: string, version: number): ArchiveBroken =>
  new ArchiveBroken(file, `${stream}/${version} is missing in it, or another event`);
