import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { eventHash, microsecondsOf } from './event-hash';
import { fromLine, LineRefused } from './event-line';
import type { KeptEvent } from './kept-event';

const [packed, unpacked] = [promisify(gzip), promisify(gunzip)];

/** Events in a block at most, and octets of their lines after which it ends: a block is read within milliseconds. */
const mostInBlock = { events: 500, octets: 1_048_576 };
/** The most octets that a block may become when it is read. One event of an early release may have megabytes. */
const mostUnpacked = 256 * 1_048_576;

/** Tells where the events of an archive are in its file. */
export interface ArchiveIndex {
  /** The position of the first event of each block, in the order of the log. */
  readonly positions: readonly number[];
  /** The octet at which each block begins, and that after the last one. */
  readonly offsets: readonly number[];
}

/** A file with its index, as it was written or is to be read. */
export interface ArchiveFile extends ArchiveIndex {
  readonly file: string;
}

export interface WrittenArchive extends ArchiveFile {
  readonly sha256: Buffer;
  readonly octets: number;
  readonly events: number;
  /** The earliest and the latest time of an event. */
  readonly from: Date;
  readonly to: Date;
}

/** What an archive is made of. */
export interface ArchiveParts {
  /** The first line. */
  readonly header: string;
  /** The events in the order of the log. */
  readonly pages: AsyncIterable<readonly KeptEvent[]>;
  readonly lineOf: (event: KeptEvent) => string;
  /** The lines after the events. */
  readonly footer: AsyncIterable<string>;
  /** Called with the whole file before it gets its name. */
  readonly check: (draft: WrittenArchive) => Promise<void>;
}

/** Thrown when the file of an archive is not there, or cannot be read. */
export class ArchiveAway extends Error {
  override readonly name = 'ArchiveAway';
  constructor(
    readonly file: string,
    override readonly cause: unknown,
  ) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    const isForbidden = code === 'EACCES' || code === 'EPERM';
    super(
      `The archive ${file} cannot be read (${code}): ${isForbidden ? 'let the user of this process read it, and enter its folder' : 'put the file there again, or name the folder that has it: `sendmux events archives --moved-to FOLDER`'}`,
    );
  }
}

/** Thrown when the file of an archive is not what was written. */
export class ArchiveBroken extends Error {
  override readonly name = 'ArchiveBroken';
  constructor(
    readonly file: string,
    why: string,
    options?: ErrorOptions,
  ) {
    super(`The archive ${file} is not what was written: ${why}. Put a good copy of it there`, options);
  }
}

/**
 * Writes an archive: its lines in gzip members of some hundred events each, which any gzip reads as one file, and of
 * which each can be read alone. The file is on the disk, with its name, when this returns; a file that is there already
 * stays, and has to be the same.
 *
 * @throws {Error} where another file of the name is there; whatever the parts throw. Nothing is left then.
 */
export async function writeArchive(
  file: string,
  { header, pages, lineOf, footer, check }: ArchiveParts,
): Promise<WrittenArchive> {
  const draft = `${file}.part`;
  const target = await open(draft, 'w', 0o600);
  try {
    const hash = createHash('sha256');
    let octets = 0;
    const write = async (lines: readonly string[]) => {
      const member = await packed(lines.map((line) => `${line}\n`).join(''));
      hash.update(member);
      await target.writeFile(member);
      octets += member.length;
    };
    const [positions, offsets]: [number[], number[]] = [[], []];
    let [events, from, to] = [0, Infinity, -Infinity];
    let block: string[] = [];
    let length = 0;
    const end = async () => {
      if (block.length > 0) await write(block);
      [block, length] = [[], 0];
    };
    await write([header]);
    for await (const page of pages)
      for (const event of page) {
        if (block.length === 0) {
          positions.push(event.position);
          offsets.push(octets);
        }
        const line = lineOf(event);
        block.push(line);
        length += line.length;
        events++;
        const time = Date.parse(event.time);
        [from, to] = [Math.min(from, time), Math.max(to, time)];
        if (block.length >= mostInBlock.events || length >= mostInBlock.octets) await end();
      }
    await end();
    offsets.push(octets);
    for await (const line of footer) await write([line]);
    await target.sync();
    await target.close();
    const sha256 = hash.digest();
    const times = { from: new Date(events === 0 ? 0 : from), to: new Date(events === 0 ? 0 : to) };
    const written = { file: draft, positions, offsets, sha256, octets, events, ...times };
    await check(written);
    await putInPlace(draft, file, sha256);
    return { ...written, file };
  } catch (error) {
    await target.close().catch(() => undefined);
    await rm(draft, { force: true });
    throw error;
  }
}

/** Gives a draft its name. Where a run that died after this has left the same file, that one stays. */
async function putInPlace(draft: string, file: string, sha256: Buffer): Promise<void> {
  const there = await sha256Of(file).catch((error: unknown) => {
    if (error instanceof ArchiveAway && (error.cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  if (there && !there.equals(sha256))
    throw new Error(`There is another ${file} already. Move it away, or give another folder.`);
  await (there ? rm(draft) : rename(draft, file));
  const folder = await open(dirname(file), 'r');
  await folder.sync().finally(() => folder.close());
}

/** Hashes a file from end to end. @throws {ArchiveAway} */
export async function sha256Of(file: string): Promise<Buffer> {
  const hash = createHash('sha256');
  try {
    for await (const octets of createReadStream(file, { highWaterMark: 1_048_576 })) hash.update(octets as Buffer);
  } catch (error) {
    throw new ArchiveAway(file, error);
  }
  return hash.digest();
}

/**
 * Reads the events of an archive above a position, block by block. Each is checked against its own hash.
 *
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function* readArchive(archive: ArchiveFile, after = 0): AsyncGenerator<KeptEvent[], void> {
  const { positions } = archive;
  let first = positions.findIndex((position) => position > after);
  if (first < 0) first = positions.length;
  const blocks = Array.from({ length: positions.length - first + 1 }, (_, i) => first - 1 + i).filter((at) => at >= 0);
  for await (const events of readBlocks(archive, blocks)) {
    const above = events.filter(({ position }) => position > after);
    if (above.length > 0) yield above;
  }
}

/**
 * Reads some blocks of an archive. Each event is checked against its own hash.
 *
 * @param blocks their places, from 0.
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function* readBlocks(
  { file, positions, offsets }: ArchiveFile,
  blocks: Iterable<number>,
): AsyncGenerator<KeptEvent[], void> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    throw new ArchiveAway(file, error);
  }
  try {
    for (const block of blocks) {
      const events = eventsIn(await textOf(handle, file, offsets[block]!, offsets[block + 1]!), file);
      if (events[0]?.position !== positions[block])
        throw new ArchiveBroken(
          file,
          `it has other events at octet ${offsets[block]} than position ${positions[block]}`,
        );
      yield events;
    }
  } finally {
    await handle.close();
  }
}

async function textOf(handle: FileHandle, file: string, from: number, to: number): Promise<string> {
  const octets = Buffer.alloc(to - from);
  let read: number;
  try {
    ({ bytesRead: read } = await handle.read(octets, 0, octets.length, from));
  } catch (error) {
    throw new ArchiveAway(file, error);
  }
  if (read < octets.length) throw new ArchiveBroken(file, `it ends at octet ${from + read}`);
  try {
    return (await unpacked(octets, { maxOutputLength: mostUnpacked })).toString('utf8');
  } catch (error) {
    throw new ArchiveBroken(file, `octets ${from} to ${to} are no gzip`, { cause: error });
  }
}

function eventsIn(text: string, file: string): KeptEvent[] {
  const lines = text.split('\n');
  lines.pop();
  return lines.map((line) => {
    try {
      const event = fromLine(line);
      if (eventHash({ ...event, microseconds: microsecondsOf(event.time) }).equals(event.hash)) return event;
      throw new ArchiveBroken(file, `${event.stream}/${event.version} is not what its hash says`);
    } catch (error) {
      if (!(error instanceof LineRefused)) throw error;
      throw new ArchiveBroken(file, `a line is no event, since ${error.message}`, { cause: error });
    }
  });
}
