import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import {
  amendmentsOver,
  changesOf,
  newestSeal,
  readStatement,
  SealedPart,
  sealsOver,
  type TrustedKeys,
} from '@app/audit';
import { inSession } from '@app/database';
import {
  archiveAlone,
  archivesOf,
  closedPartitions,
  consumerBefore,
  EventArchive,
  eventsInPartition,
  isOneTable,
  moveEnded,
  placeOf,
  placesIn,
  readArchive,
  recordArchive,
  thin,
  writeArchive,
  type Archive,
  type ClosedPartition,
  type KeptEvent,
  type WrittenArchive,
} from '@app/event-store';
import { finalEvents } from '@app/mail-domain';
import { finalMailboxEvents, isUnencrypted } from '@app/mailbox';
import { toLine } from '@app/messaging';
import { allMailboxesGoneSql } from '@app/read-model';
import { messageBefore, replayBefore } from '@app/webhooks';
import type { Client, Pool } from 'pg';
import { amendmentLine, archiveHeaderLine, sealLine, type ArchiveHeader } from './event-file';

/** Thrown when a partition cannot be archived as things are; nothing has changed about it. */
export class ArchivingRefused extends Error {
  override readonly name = 'ArchivingRefused';
}

export interface ArchivingOptions {
  /** Partitions whose newest event is older are archived. */
  readonly before: Date;
  /** The folder of the files. It is made when it is absent. */
  readonly directory: string;
  /** The keys whose signatures count. */
  readonly trusted: TrustedKeys;
  /** Milliseconds to wait for others that hold the log; 60,000 when absent. */
  readonly patienceMs?: number;
  readonly signal?: AbortSignal;
  /** Told of what begins, such as the writing of a file. */
  readonly begins?: (step: Step, partition: number) => void;
}

export type Step = 'write' | 'check' | 'record' | 'move' | 'thin';

/** What a run has done. */
export interface Archived {
  /** The archives that it has written. */
  readonly written: readonly Pick<Archive, 'number' | 'after' | 'upTo' | 'file' | 'events' | 'octets'>[];
  /** Domains and mailboxes that have ended, and are read from the files from now on. */
  readonly moved: number;
  /** Events that it has taken out of the store. */
  readonly removed: number;
  /** How long readers of the log waited, at most, in milliseconds. */
  readonly lockedMs: number;
}

/** What a run would do. */
export interface Archivable extends ClosedPartition {
  readonly events: number;
}

/** Messages about a mailbox name the provider of its domain, which stays for those that outlive it. */
const ends = { types: [...finalEvents, ...finalMailboxEvents], condition: allMailboxesGoneSql('e.stream', 'e.time') };

/**
 * Archives the partitions of a log that are closed, sealed and old enough, and takes what has ended out of the store.
 * Each step is complete in itself: a run that dies is continued by the next one.
 */
export class Archiving {
  constructor(private readonly pool: Pool) {}

  /**
   * Gives the partitions that `run` would archive, the oldest first.
   *
   * @throws {ArchivingRefused}
   */
  async plan(before: Date): Promise<Archivable[]> {
    return inSession(this.pool, undefined, (session) => this.planned(session, before));
  }

  /**
   * @throws {ArchivingRefused} where a partition is still needed, has personal data in clear, or is not what was
   * sealed.
   * @throws {Error} when another run is under way, or others hold the log for too long.
   * @throws the reason of the signal, when it is aborted.
   */
  async run({ signal, ...options }: ArchivingOptions): Promise<Archived> {
    const directory = resolve(options.directory);
    return inSession(this.pool, signal, async (session) => {
      await archiveAlone(session);
      const planned = await this.planned(session, options.before);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const written: Archived['written'][number][] = [];
      for (const partition of planned) {
        const { number, after, upTo } = partition;
        options.begins?.('write', number);
        const file = await this.write(session, partition, directory, signal, async (draft) => {
          options.begins?.('check', number);
          await this.check(session, partition, draft, options.trusted, signal);
        });
        options.begins?.('record', number);
        await recordArchive(session, partition, file);
        written.push({ number, after, upTo, file: file.file, events: file.events, octets: file.octets });
      }
      options.begins?.('move', 0);
      const moved = await moveEnded(session, ends);
      let removed = 0;
      let lockedMs = 0;
      for (const archive of await archivesOf(session)) {
        if (archive.isThin) continue;
        signal?.throwIfAborted();
        options.begins?.('thin', archive.number);
        const thinned = await thin(session, archive, {
          needed: (client) => reasonToKeep(client, archive.upTo),
          patienceMs: options.patienceMs ?? 60_000,
          ...(signal && { signal }),
        });
        removed += thinned.removed;
        lockedMs = Math.max(lockedMs, thinned.lockedMs);
      }
      return { written, moved, removed, lockedMs };
    });
  }

  private async planned(session: Client, before: Date): Promise<Archivable[]> {
    if (await isOneTable(session))
      throw new ArchivingRefused('The log is one table. Run `sendmux events partition` first.');
    const seal = await newestSeal(this.pool);
    const sealed = (seal && readStatement(seal.statement)?.upTo) ?? 0;
    const planned: Archivable[] = [];
    for (const partition of await closedPartitions(session)) {
      const { number, newest } = partition;
      if (newest && newest.time >= before) break;
      if (newest && newest.position > sealed)
        throw new ArchivingRefused(
          `The events of partition ${number} are not sealed up to its end: does the sealer run? Seals go up to position ${sealed}, and its events to ${newest.position}.`,
        );
      const why = newest && (await reasonToKeep(session, newest.position));
      if (why !== undefined) throw new ArchivingRefused(why);
      planned.push({ ...partition, events: await eventsInPartition(session, number) });
    }
    return planned;
  }

  private async write(
    session: Client,
    { number, after, upTo, events, newest }: Archivable,
    directory: string,
    signal: AbortSignal | undefined,
    check: (draft: WrittenArchive) => Promise<void>,
  ): Promise<WrittenArchive> {
    const seals = await sealsOver(session, { after, upTo: newest?.position ?? after });
    const says = seals.map(({ statement }) => readStatement(statement)!);
    const log = says[0]?.log ?? 'unsealed';
    const amendments = await amendmentsOver(session, { after, upTo });
    const header: ArchiveHeader = {
      format: 'sendmux-archive/1',
      log,
      partition: number,
      after,
      upTo,
      events,
      amendments: amendments.length,
      seals: seals.length,
    };
    const archive = new EventArchive(this.pool);
    const pages = async function* () {
      for await (const page of archive.readStored({}, { after, upTo: newest?.position ?? after })) {
        signal?.throwIfAborted();
        assertEncrypted(page.events);
        yield page.events;
      }
    };
    const footer = async function* () {
      for (const amendment of amendments)
        yield amendmentLine({ amendment, changes: await changesOf(session, amendment.number) });
      yield* seals.map(sealLine);
    };
    const time = says.at(-1)?.time ?? new Date(0).toISOString();
    const file = join(directory, `events-${log.slice(0, 8)}-${String(number).padStart(6, '0')}.ndjson.gz`);
    return writeArchive(file, {
      header: archiveHeaderLine(header, time),
      pages: pages(),
      lineOf: (event) => toLine(event),
      footer: footer(),
      check,
    });
  }

  /** Reads a file back, and compares it with the seals and with the partition. @throws {ArchivingRefused} */
  private async check(
    session: Client,
    { number, after, upTo, events, newest }: Archivable,
    written: WrittenArchive,
    trusted: TrustedKeys,
    signal?: AbortSignal,
  ): Promise<void> {
    const sealed = new SealedPart(session, trusted, { after, upTo: newest?.position ?? after });
    const read = createHash('sha256');
    let count = 0;
    try {
      for await (const page of readArchive(written)) {
        signal?.throwIfAborted();
        for (const event of page) read.update(placeOf(event));
        count += page.length;
        await sealed.take(page);
      }
      await sealed.end();
    } catch (error) {
      signal?.throwIfAborted();
      throw refused(number, (error as Error).message, error);
    }
    const stored = createHash('sha256');
    for await (const place of placesIn(session, { after, upTo })) stored.update(place);
    if (count !== events || !read.digest().equals(stored.digest()))
      throw refused(number, `the file has ${count} events, and they are not the ${events} of the partition`);
  }
}

const refused = (partition: number, why: string, cause?: unknown): ArchivingRefused =>
  new ArchivingRefused(`Partition ${partition} is not archived: ${why}. Run \`sendmux audit verify\``, { cause });

/** @throws {ArchivingRefused} for personal data in clear, which no key could make unreadable in a file. */
function assertEncrypted(events: readonly KeptEvent[]): void {
  const clear = events.find(({ type, schemaVersion }) => isUnencrypted({ type, schemaVersion }));
  if (clear)
    throw new ArchivingRefused(
      `${clear.stream}/${clear.version} has an address in clear, by an earlier release. Run \`sendmux erase migrate-log\` first.`,
    );
}

/**
 * Tells why the events up to a position are still needed in the store, and what to do; undefined when they are not.
 */
export async function reasonToKeep(client: Pick<Client, 'query'>, upTo: number): Promise<string | undefined> {
  const reader = await consumerBefore(client, upTo);
  if (reader)
    return `The consumer ${reader.name} has come to position ${reader.position}, and needs the log up to ${upTo}. Run it until it has; or remove its row of the table checkpoints, if nothing has this name any more.`;
  const replay = await replayBefore(client, upTo);
  if (replay !== undefined)
    return `The replay ${replay} of a webhook needs events up to position ${upTo}. Wait until it is completed, or stop it.`;
  const waiting = await messageBefore(client, upTo);
  if (waiting)
    return `The message ${waiting.message} waits for the webhook ${waiting.webhook}, and is made of events up to position ${upTo}. Wait until it is delivered or has failed, or disable the webhook.`;
  return undefined;
}
