import { createReadStream, createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PassThrough, pipeline as joined, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { readAmendment, readRestoration, readStatement, type Change, type Seal } from '@app/audit';
import type { KeptRestore } from '@app/event-store';
import { z } from 'zod';

/** The first line of an export. */
export interface ExportHeader {
  readonly format: 'sendmux-export/1';
  /** Number of lines with events, which follow this one. */
  readonly events: number;
  /** Number of lines with seals, which follow the events. */
  readonly seals: number;
  /** The identity of the log, in an export of everything; absent in those of earlier releases. */
  readonly log?: string;
  /** Number of lines with restores of the log, which come between them; absent for none. */
  readonly restores?: number;
  /** Number of lines with amendments, which come after the restores; absent for none. */
  readonly amendments?: number;
  /** The last settled position of the log when the export began. */
  readonly head: number;
}

const envelope = (type: string, id: string, time: string, data: unknown): string =>
  JSON.stringify({
    specversion: '1.0',
    id,
    source: '/sendmux-domains',
    type: `com.sendmux.${type}`,
    time,
    datacontenttype: 'application/json',
    data,
  });

/** The first line of an archive: what it has of the log. */
export interface ArchiveHeader {
  readonly format: 'sendmux-archive/1';
  /** The log, as its seals name it. */
  readonly log: string;
  /** The number of the partition. */
  readonly partition: number;
  /** All events with a position above `after`, up to and including `upTo`. */
  readonly after: number;
  readonly upTo: number;
  /** Numbers of lines: of events, then of amendments that have changed some of them, then of seals that cover them. */
  readonly events: number;
  readonly amendments: number;
  readonly seals: number;
}

/** Gives the same line whenever it is made of the same archive. @param time of its newest seal. */
export const archiveHeaderLine = (header: ArchiveHeader, time: string): string =>
  envelope('archive.Begun', `archive/${header.log}/${header.partition}`, time, header);

/** @param id of this export. */
export const headerLine = (id: string, header: ExportHeader, now: Date): string =>
  envelope('export.Begun', id, now.toISOString(), header);

export function sealLine({ statement, signer, signature }: Seal): string {
  const { log, number, time } = readStatement(statement)!;
  return envelope('audit.Sealed', `seal/${log}/${number}`, time, { statement, signer, signature });
}

/** A restore of the log, with its statement as the key of the sealer has signed it; undefined where none has. */
export interface SignedRestore {
  readonly restore: KeptRestore;
  readonly restoration: Seal | undefined;
}

export function restoreLine(log: string, restore: KeptRestore, restoration: Seal | undefined): string {
  const { statement, signer, signature } = restoration ?? {};
  return envelope('log.Restored', `restore/${log}/${restore.epoch}`, restore.restoredAt, {
    ...restore,
    ...(restoration && { restoration: { statement, signer, signature } }),
  });
}

const restoreForm = z.object({
  epoch: z.int().min(2),
  after: z.int().min(0),
  upTo: z.int().min(0),
  goesOnAfter: z.int().min(0),
  lostFrom: z.iso.datetime().nullable(),
  restoredAt: z.iso.datetime(),
  reason: z.string(),
  restoration: z.object({ statement: z.string(), signer: z.string(), signature: z.string() }).optional(),
});

/** Reads the line of a restore; undefined when the line is something else. */
export function readRestoreLine(line: string): SignedRestore | undefined {
  const read = restoreForm.safeParse(dataOf('log.Restored', line));
  if (!read.success) return undefined;
  const { restoration, ...restore } = read.data;
  return restoration && readRestoration(restoration.statement)?.epoch !== restore.epoch
    ? undefined
    : { restore, restoration };
}

/** An amendment with what it has changed. */
export interface KeptAmendment {
  readonly amendment: Seal;
  readonly changes: readonly Change[];
}

export function amendmentLine({ amendment, changes }: KeptAmendment): string {
  const { log, number, time } = readAmendment(amendment.statement)!;
  return envelope('audit.Amended', `amendment/${log}/${number}`, time, {
    statement: amendment.statement,
    signer: amendment.signer,
    signature: amendment.signature,
    changes: changes.map(({ position, before, after }) => [position, before.toString('hex'), after.toString('hex')]),
  });
}

const hashForm = /^[0-9a-f]{64}$/;
const isChange = (given: unknown): boolean =>
  Array.isArray(given) &&
  Number.isSafeInteger(given[0]) &&
  [1, 2].every((at) => typeof given[at] === 'string' && hashForm.test(given[at]));

/** Reads the line of an amendment; undefined when the line is something else. */
export function readAmendmentLine(line: string): KeptAmendment | undefined {
  const data = dataOf<Seal & { changes: [number, string, string][] }>('audit.Amended', line);
  if (!data || !readAmendment(data.statement)) return undefined;
  if (!Array.isArray(data.changes) || !data.changes.every(isChange)) return undefined;
  const { changes, ...amendment } = data;
  return {
    amendment,
    changes: changes.map(([position, before, after]) => ({
      position,
      before: Buffer.from(before, 'hex'),
      after: Buffer.from(after, 'hex'),
    })),
  };
}

/** Gives the data of a line of this type; undefined when the line is something else. */
function dataOf<T>(type: string, line: string): T | undefined {
  try {
    const event = JSON.parse(line) as { type?: string; data?: T };
    return event.type === `com.sendmux.${type}` ? event.data : undefined;
  } catch {
    return undefined;
  }
}

/** Tells whether a line is the first one of an archive. */
export const isArchiveHeader = (line: string): boolean =>
  dataOf<{ format?: string }>('archive.Begun', line)?.format === 'sendmux-archive/1';

export function readHeader(line: string): ExportHeader | undefined {
  const header = dataOf<ExportHeader>('export.Begun', line);
  return header?.format === 'sendmux-export/1' ? header : undefined;
}

export function readSeal(line: string): Seal | undefined {
  const seal = dataOf<Seal>('audit.Sealed', line);
  return seal && readStatement(seal.statement) ? seal : undefined;
}

/**
 * Writes lines to a file, compressed when its name ends with `.gz`, or to standard output when `file` is absent. The
 * file appears only when it is complete; a file that it replaces stays until then.
 */
export async function writeLines(file: string | undefined, lines: AsyncIterable<string>): Promise<void> {
  const ended = async function* () {
    for await (const line of lines) yield `${line}\n`;
  };
  const source = Readable.from(ended());
  if (file === undefined) {
    // Standard output must stay open for other output of the process.
    const out = new PassThrough();
    out.pipe(process.stdout, { end: false });
    return pipeline(source, out);
  }
  const draft = `${file}.${process.pid}.part`;
  try {
    const target = createWriteStream(draft, { flags: 'wx', mode: 0o600 });
    await (file.endsWith('.gz') ? pipeline(source, createGzip(), target) : pipeline(source, target));
    await synced(draft);
    await rename(draft, file);
    await synced(dirname(file));
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

async function synced(path: string): Promise<void> {
  const handle = await open(path, 'r');
  await handle.sync().finally(() => handle.close());
}

/** Characters in a line at most. One event of an early release may have megabytes. */
const longestLine = 256_000_000;

/**
 * Reads the lines of a file that `writeLines` has written. A line ends with LF or CRLF alone: JSON may have the other
 * line separators of Unicode in a text, where DNS has them.
 *
 * @throws {Error} of the file or of gzip, and for a line that is longer than any of an export.
 */
export async function* readLines(file: string): AsyncGenerator<string, void> {
  const bytes = createReadStream(file);
  // Whoever reads the result is told of its errors.
  const whole = file.endsWith('.gz') ? joined(bytes, createGunzip(), () => undefined) : bytes;
  whole.setEncoding('utf8');
  let begun: string[] = [];
  let length = 0;
  for await (const text of whole as AsyncIterable<string>) {
    const [more, ...lines] = text.split('\n');
    begun.push(more!);
    length += more!.length;
    if (length > longestLine) throw new Error(`${file} has a line of more than 256 million characters.`);
    for (const line of lines) {
      yield withoutReturn(begun.join(''));
      [begun, length] = [[line], line.length];
    }
  }
  const last = begun.join('');
  if (last !== '') yield withoutReturn(last);
}

const withoutReturn = (line: string): string => (line.endsWith('\r') ? line.slice(0, -1) : line);
