import { hash } from 'node:crypto';
import type { Pool } from 'pg';
import { copyRows, openSession, type Connection, type CopiedRows } from '@app/database';
import {
  ArchiveAway,
  ArchiveBroken,
  archivesOf,
  chainedSql,
  copiedRow,
  eventHashSql,
  eventsInFile,
  hashedColumns,
  hashLength,
  noHash,
  readEpochs,
  sha256Of,
  streamsMoved,
  type Archive,
  type EventLog,
  type KeptEvent,
} from '@app/event-store';
import { merkleRoot } from './merkle';
import {
  hashOfStatement,
  isSigned,
  nothingBefore,
  readStatement,
  type Seal,
  type Statement,
  type TrustedKeys,
} from './seal';
import type { RestorationStatement } from './restoration';
import { checkAmendments, hashesBefore } from './stored-amendments';
import { checkRestorations, replacedBy } from './stored-restorations';

/** A difference from what was recorded or sealed. */
export interface Fault {
  /**
   * Position of the event; for a seal, that of the first event that it covers. The first faulty place has the lowest.
   */
  readonly position: number;
  /** The number of the seal, when the fault is in the seal itself. */
  readonly seal?: number;
  /** `stream/version`, where it is known. */
  readonly event?: string;
  readonly code: FaultCode;
  readonly message: string;
}

export type FaultCode =
  /** The event does not have its own hash. */
  | 'event_changed'
  /** The event in this place is not the one that was sealed, although it has its own hash. */
  | 'event_replaced'
  | 'event_removed'
  | 'event_inserted'
  /** The event does not name the hash of the one before it in its stream, or there is no such event. */
  | 'event_unlinked'
  /** The event is at another place of the log than where it was recorded. */
  | 'event_moved'
  /** The seal is not as it was signed, or not signed by a trusted key. */
  | 'seal_unsigned'
  /** The seal does not follow the one before it, or one is missing. */
  | 'seal_unlinked'
  /** The hashes that are stored beside the seal are not those that it was made from. */
  | 'seal_leaves_changed'
  /** An event that should have been sealed by now is not: the sealer does not run, or the seals were removed. */
  | 'seal_missing'
  /** The amendment is not as it was signed, or its changes are others: what it has changed counts as changed. */
  | 'amendment_unsigned'
  /** The log was restored, and no trusted key has signed that: witnesses may have seen what it does not have. */
  | 'restore_unsigned'
  /** The file of an archive cannot be read: what it has is not known, and the seals over it are not compared. */
  | 'archive_missing'
  /** The file of an archive is not the one that was written. */
  | 'archive_changed'
  /** A witness has another seal of this number. */
  | 'seal_replaced'
  /** A witness has seen a seal that is missing here: the end of the log is cut off. */
  | 'seal_removed';

export interface Verified {
  readonly events: number;
  /** The number of events after the newest seal, which are hashed and linked but not signed yet. */
  readonly unsealed: number;
  readonly seals: number;
  /** The number of signed amendments, and of the events that they have changed. */
  readonly amendments: number;
  readonly amended: number;
  /** The signed statements that the log was restored to an earlier moment, the oldest first. */
  readonly restorations: readonly RestorationStatement[];
  /** The number of seals of witnesses that were replaced by a restore. */
  readonly replaced: number;
  /** The statement of the newest seal; undefined when there is none. */
  readonly newest: Statement | undefined;
  /** The first `mostFaults` faults in the order of the log. Empty when the log is as it was recorded. */
  readonly faults: readonly Fault[];
  /** The number of all faults, including those that `faults` leaves out. */
  readonly faultCount: number;
}

const mostFaults = 20;
/** Events whose links are checked in one statement. */
const linksAtATime = 50_000;
const isUnlinkedSql = 'previous IS DISTINCT FROM before';

/** The check of the links of some events. */
interface Links {
  readonly count: number;
  readonly upTo: number;
  /** `stream/version` and position of those that do not follow the event before them; null where all do. */
  readonly events: readonly string[] | null;
  readonly positions: readonly number[] | null;
}

export interface VerifyOptions {
  readonly trusted: TrustedKeys;
  /** Seals that were kept elsewhere, in the sealer's logs or on its topic. */
  readonly witness?: readonly Seal[];
  /** Events from before this time must be sealed. When absent, no event has to be. */
  readonly sealedBefore?: Date;
  readonly signal?: AbortSignal;
  /** @param position the position up to which everything has been read. */
  readonly reached?: (position: number) => void;
}

interface StoredSeal extends Seal {
  readonly number: number;
  readonly upTo: number;
  readonly leaves: Buffer;
}

/** A valid seal whose events are being gathered. */
interface OpenSeal {
  readonly says: Statement;
  readonly leaves: Buffer;
}

/**
 * Reads the whole log, with what is in archives, and checks that each event is the one that was recorded: by its own
 * hash, by the signed seal that covers it, and after the newest seal by the chain of its stream. It writes nothing,
 * and its memory does not grow with the log.
 *
 * Events that are not sealed yet can be removed from the end without a trace, and so can the newest seals with their
 * events, unless a witness has seen these seals.
 */
export class Verification {
  private readonly faults: Fault[] = [];
  private faultCount = 0;
  private events = 0;
  /** The numbers of the amendments that are valid. */
  private amendments: readonly number[] = [];
  private archives: readonly Archive[] = [];
  private restorations: readonly RestorationStatement[] = [];
  private replaced = 0;

  /** The positions of the events that were gathered for the open seal. */
  private positions: number[] = [];
  private hashes = Buffer.alloc(10_000 * hashLength);

  constructor(
    private readonly pool: Pool,
    private readonly log: Pick<EventLog, 'head'>,
    private readonly options: VerifyOptions,
  ) {}

  /** @throws {Error} the error of the database, or the reason of `signal`. */
  async run(): Promise<Verified> {
    const { signal, reached } = this.options;
    const { rows } = await this.pool.query<{ count: number }>(
      'SELECT coalesce(max(number), 0) AS count FROM audit_seals',
    );
    const { count } = rows[0]!;
    const head = await this.log.head();
    // A separate connection, since no other statement may take as long as these.
    const client = await openSession(this.pool, { statement_timeout: 0 });
    const interrupt = () => void client.end();
    signal?.addEventListener('abort', interrupt, { once: true });
    try {
      // The events and the amendments of one moment: one that is made meanwhile would count as tampering.
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
      // Before the snapshot is taken: no partition is exchanged for a table that it does not see.
      await client.query('LOCK TABLE events IN ACCESS SHARE MODE');
      this.archives = await archivesOf(client);
      const { valid, events: amended, faults: amiss } = await checkAmendments(client, this.options.trusted);
      this.amendments = valid;
      for (const { message, position } of amiss) this.report({ position, code: 'amendment_unsigned', message });
      const restored = await checkRestorations(client, await readEpochs(client), this.options.trusted);
      this.restorations = restored.valid;
      for (const { after, message } of restored.faults)
        this.report({ position: after + 1, code: 'restore_unsigned', message });
      const newest = await this.readAll(client, this.seals(count), head);
      reached?.(head);
      const unsealed = await this.readEnd(client, newest?.upTo ?? 0, head);
      this.faults.sort((a, b) => a.position - b.position);
      const { faults, faultCount, events, restorations, replaced } = this;
      const checked = { events, unsealed, seals: count, amendments: valid.length, amended, restorations, replaced };
      return { ...checked, newest, faults: faults.slice(0, mostFaults), faultCount };
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', interrupt);
      await client.end();
    }
  }

  /** @returns the statement of the newest valid seal. */
  private async readAll(
    client: Connection,
    seals: AsyncGenerator<OpenSeal>,
    head: number,
  ): Promise<Statement | undefined> {
    let newest: Statement | undefined;
    let open: OpenSeal | undefined;
    const next = async () => {
      open = ((await seals.next()) as { value?: OpenSeal }).value;
      newest = open?.says ?? newest;
    };
    await next();
    const takeAll = async ({ bytes, starts }: CopiedRows) => {
      let position = 0;
      for (const start of starts) {
        position = bytes.readInt32BE(start + 4) * 0x1_0000_0000 + bytes.readUInt32BE(start + 8);
        while (open && position > open.says.upTo) {
          await this.close(open);
          await next();
        }
        this.take(bytes, start, position, open !== undefined && position > open.says.after);
      }
      this.options.signal?.throwIfAborted();
      this.options.reached?.(position);
    };
    let archived = 0;
    for (const archive of this.archives) {
      archived = archive.upTo;
      if (await this.readArchive(client, archive, takeAll)) continue;
      // What the seals over it cover is not known.
      this.positions = [];
      while (open && open.says.after < archived) await next();
    }
    const columns = [...hashedColumns, 'hash'].join(', ');
    const query = `SELECT ${columns} FROM events
      WHERE (position > ${archived} OR position < 1) AND position <= ${head} ORDER BY position`;
    for await (const rows of copyRows(client, query)) await takeAll(rows);
    while (open) {
      await this.close(open);
      await next();
    }
    return newest;
  }

  /**
   * Reads an archive, and compares what the store still has of it.
   *
   * @returns whether it could be read to its end.
   */
  private async readArchive(
    client: Connection,
    archive: Archive,
    takeAll: (rows: CopiedRows) => Promise<void>,
  ): Promise<boolean> {
    const { file, sha256, upTo } = archive;
    let { after } = archive;
    const report = (code: FaultCode, message: string) => this.report({ position: archive.after + 1, code, message });
    try {
      if (!(await sha256Of(file)).equals(sha256)) report('archive_changed', `The archive ${file} has another SHA-256`);
      for await (const events of eventsInFile(client, archive)) {
        const last = events.at(-1)!.position;
        await this.compareStored(client, { after, upTo: last }, events);
        after = last;
        await takeAll(copied(events));
      }
      await this.compareStored(client, { after, upTo }, []);
      return true;
    } catch (error) {
      const isAway = error instanceof ArchiveAway;
      if (!isAway && !(error instanceof ArchiveBroken)) throw error;
      report(isAway ? 'archive_missing' : 'archive_changed', error.message);
      return false;
    }
  }

  /** Compares what the store has of a part of an archive: the events of the streams that have not moved to it. */
  private async compareStored(
    client: Connection,
    { after, upTo }: { after: number; upTo: number },
    events: readonly KeptEvent[],
  ): Promise<void> {
    const { rows: stored } = await client.query<{ position: number; event: string; hash: Buffer; isTrue: boolean }>(
      `SELECT position::float8 AS position, stream || '/' || version AS event, hash, hash = ${eventHashSql()} AS "isTrue"
       FROM events WHERE position > $1 AND position <= $2 ORDER BY events.position`,
      [after, upTo],
    );
    const there = new Map(stored.map((row) => [row.position, row]));
    const hasMoved = await streamsMoved(client, { after, upTo }, events);
    for (const { position, stream, version, hash } of events) {
      const event = `${stream}/${version}`;
      const row = there.get(position);
      there.delete(position);
      const fault = (code: FaultCode, message: string) => this.report({ position, event, code, message });
      if (!row && !hasMoved.has(stream)) fault('event_removed', `${event} is missing in the store; its archive has it`);
      else if (row && !row.isTrue) fault('event_changed', `${event} is not what its hash says`);
      else if (row && !row.hash.equals(hash)) fault('event_replaced', `${event} is another event in its archive`);
    }
    for (const { position, event } of there.values())
      this.report({
        position,
        event,
        code: 'event_inserted',
        message: `${event} is not in the archive of its position`,
      });
  }

  /** Checks an event's own hash, and gathers it for the open seal. */
  private take(bytes: Buffer, start: number, position: number, sealed: boolean): void {
    let end = start;
    for (let field = 0; field < hashedColumns.length; field++) end += 4 + bytes.readInt32BE(end);
    const stored = end + 4;
    const isTrue =
      bytes.readInt32BE(end) === hashLength &&
      hash('sha256', bytes.subarray(start, end), 'binary') === bytes.toString('latin1', stored, stored + hashLength);
    this.events++;
    if (!isTrue) {
      const event = nameAt(bytes, start);
      this.report({ position, event, code: 'event_changed', message: `${event} is not what its hash says` });
    }
    if (!sealed) return;
    const at = this.positions.push(position) * hashLength;
    if (at > this.hashes.length) this.hashes = Buffer.concat([this.hashes, Buffer.alloc(this.hashes.length)]);
    this.hashes.fill(0, at - hashLength, at);
    bytes.copy(this.hashes, at - hashLength, stored, Math.min(stored + hashLength, stored + bytes.readInt32BE(end)));
  }

  /** Compares the gathered events of a seal with those that it was made from. */
  private async close({ says, leaves }: OpenSeal): Promise<void> {
    const found = await this.asSealed(says);
    const { positions } = this;
    this.positions = [];
    const isWhole = positions.length === says.events && merkleRoot(found).toString('hex') === says.root;
    const at = says.after + 1;
    if (isWhole && found.equals(leaves)) return;
    if (isWhole || leaves.length !== says.events * hashLength || merkleRoot(leaves).toString('hex') !== says.root)
      this.report({
        position: at,
        seal: says.number,
        code: 'seal_leaves_changed',
        message: `The hashes that are kept beside seal ${says.number} are not those that it was made of${isWhole ? '; its events are' : `, nor are its events (positions ${at} to ${says.upTo}): ${positions.length} where ${says.events} were sealed`}`,
      });
    else await this.compare(says, leaves, found, positions);
  }

  /** Gives the hashes that were gathered for a seal, with those that amendments have changed as they were before. */
  private async asSealed(says: Statement): Promise<Buffer> {
    const found = this.hashes.subarray(0, this.positions.length * hashLength);
    if (this.amendments.length === 0) return found;
    const before = await hashesBefore(this.pool, says.number, says, this.amendments);
    for (let at = 0; before.size > 0 && at < found.length; at += hashLength)
      before.get(found.toString('hex', at, at + hashLength))?.before.copy(found, at);
    return found;
  }

  /** Reports the first place of a seal that has another event than the sealed one. */
  private async compare(says: Statement, sealed: Buffer, found: Buffer, positions: number[]): Promise<void> {
    const listed = (hashes: Buffer): string[] => (hashes.toString('hex').match(/.{64}/g) as string[] | null) ?? [];
    const [was, is] = [listed(sealed), listed(found)];
    const i = was.findIndex((hash, place) => hash !== is[place]);
    // When all sealed events are there, an event was added after them.
    const place = i < 0 ? was.length : i;
    const position = positions[place] ?? says.upTo;
    const here = is[place] === undefined ? undefined : await this.nameOf('position', position);
    const isLost = was[place] !== undefined && !is.includes(was[place]);
    const isForeign = is[place] !== undefined && !was.includes(is[place]);
    const before = positions[place - 1] ?? says.after;
    const where = `after position ${before}, as seal ${says.number} of ${says.time} has it`;
    if (isForeign && isLost && is.length === was.length)
      this.report({
        position: before + 1,
        ...(here && { event: here }),
        code: 'event_replaced',
        message: `${here} is not the event that was sealed ${where}`,
      });
    else if (isForeign)
      this.report({
        position,
        ...(here && { event: here }),
        code: 'event_inserted',
        message: `${here} was not sealed: there was no such event ${where}`,
      });
    else if (isLost) {
      // The event that follows it in its stream, if any, names its hash.
      const lost = await this.nameOf('previous', Buffer.from(was[place]!, 'hex'));
      this.report({
        position: before + 1,
        ...(lost && { event: lost }),
        code: 'event_removed',
        message: `${lost ?? 'An event'} is missing ${where}`,
      });
    } else {
      const moved = await this.nameOf('hash', Buffer.from(was[place]!, 'hex'));
      this.report({
        position: before + 1,
        ...(moved && { event: moved }),
        code: 'event_moved',
        message: `${moved ?? 'An event'} is not in its place any more, ${where}`,
      });
    }
  }

  private async nameOf(column: 'position' | 'hash' | 'previous', value: number | Buffer): Promise<string | undefined> {
    const archive = column === 'position' && this.archives.find(({ upTo }) => upTo >= (value as number));
    if (archive) {
      for await (const [event] of eventsInFile(this.pool, archive, (value as number) - 1))
        return event?.position === value ? `${event.stream}/${event.version}` : undefined;
      return undefined;
    }
    const { rows } = await this.pool.query<{ stream: string; version: number }>(
      `SELECT stream, version FROM events WHERE ${column} = $1`,
      [value],
    );
    if (!rows[0]) return undefined;
    const { stream, version } = rows[0];
    return `${stream}/${column === 'previous' ? version - 1 : version}`;
  }

  /**
   * Yields the valid seals in their order. A seal that is not valid is reported, and its events are checked by the
   * other seals only.
   *
   * @param count the number of the newest seal to read; the log may have grown since.
   */
  private async *seals(count: number): AsyncGenerator<OpenSeal, void> {
    const { trusted, witness = [] } = this.options;
    const seen = new Map<number, string>();
    for (const seal of witness) {
      const says = readStatement(seal.statement);
      if (!says || !isSigned(seal, trusted)) continue;
      if (replacedBy(seal, this.restorations)) this.replaced++;
      else seen.set(says.number, seal.statement);
    }
    /** The newest valid seal. */
    let before: Statement | undefined;
    /** The digest of the previous seal, if that seal was valid. */
    let previous: string | undefined = nothingBefore;
    let number = 0;
    while (number < count) {
      const { rows: page } = await this.pool.query<StoredSeal>(
        `SELECT number, up_to::float8 AS "upTo", statement, signer, signature, leaves FROM audit_seals
         WHERE number > $1 AND number <= $2 ORDER BY number LIMIT 4`,
        [number, count],
      );
      if (page.length === 0) break;
      for (const seal of page) {
        const position = (before?.upTo ?? 0) + 1;
        const fault = (code: FaultCode, message: string) => this.report({ position, seal: seal.number, code, message });
        if (seal.number !== number + 1) fault('seal_unlinked', `Seal ${number + 1} is missing`);
        const says = readStatement(seal.statement);
        const follows = seal.number === number + 1 ? previous : undefined;
        number = seal.number;
        if (!says || says.number !== number || says.upTo !== seal.upTo || !isSigned(seal, trusted)) {
          fault('seal_unsigned', `Seal ${number} is not as it was signed, or not by a key that is trusted here`);
          previous = undefined;
          continue;
        }
        const isNext = follows === undefined || (says.previous === follows && says.after === (before?.upTo ?? 0));
        const isOfLog = !before || (says.log === before.log && says.epoch >= before.epoch);
        if (!isNext || !isOfLog || says.epoch !== this.epochAfter(number - 1))
          fault('seal_unlinked', `Seal ${number} does not follow the one before it`);
        const other = seen.get(number);
        if (other !== undefined && other !== seal.statement)
          fault('seal_replaced', `A witness has another seal ${number}`);
        yield { says, leaves: seal.leaves };
        [before, previous] = [says, hashOfStatement(seal.statement)];
      }
    }
    const gone = [...seen.keys()].filter((each) => each > number).sort((a, b) => a - b)[0];
    if (gone !== undefined)
      this.report({
        position: (before?.upTo ?? 0) + 1,
        seal: gone,
        code: 'seal_removed',
        message: `A witness has seen seal ${gone}, and it is not here: the log is cut off after position ${before?.upTo ?? 0}`,
      });
  }

  /** Gives the epoch of the seal after one of a number: that of the newest restore which left the seals up to it. */
  private epochAfter(number: number): number {
    return this.restorations.findLast(({ seals }) => seals <= number)?.epoch ?? 1;
  }

  /**
   * Checks that the events after the newest seal name the hash before them, and that no event has a position that was
   * never drawn. (The links of sealed events were checked before signing.)
   *
   * @returns how many events come after the newest seal.
   */
  private async readEnd(client: Connection, after: number, head: number): Promise<number> {
    const unsealed = await this.checkLinks(client, after, head);
    const { rows: strange } = await client.query<{ event: string; position: number }>(
      `SELECT stream || '/' || version AS event, position::float8 AS position FROM events
       WHERE position < 1 OR position > (SELECT last_value FROM event_positions)
       ORDER BY events.position LIMIT ${mostFaults}`,
    );
    for (const { event, position } of strange)
      this.report({
        position,
        event,
        code: 'event_moved',
        message: `${event} has the position ${position}, which was never given to an event`,
      });
    const { rows: late } = await client.query<{ event: string; position: number; time: Date }>(
      `SELECT stream || '/' || version AS event, position::float8 AS position, time FROM events
       WHERE position > $1 AND position <= $2 AND time < $3 ORDER BY events.position LIMIT 1`,
      [after, head, this.options.sealedBefore ?? '-infinity'],
    );
    for (const { event, position, time } of late)
      this.report({
        position,
        event,
        code: 'seal_missing',
        message: `${event} of ${time.toISOString()} is not sealed yet: the sealer does not run, or its seals were taken away`,
      });
    return unsealed;
  }

  /** Checks that each event of a part of the log follows the one before it in its stream. @returns their number. */
  private async checkLinks(client: Connection, after: number, head: number): Promise<number> {
    let checked = 0;
    for (;;) {
      const { rows } = await client.query<Links>(
        `${chainedSql()}
         SELECT count(*)::int AS count, coalesce(max(chained.position), 0)::float8 AS "upTo",
           array_agg(stream || '/' || version ORDER BY chained.position) FILTER (WHERE ${isUnlinkedSql}) AS events,
           array_agg(chained.position::float8 ORDER BY chained.position) FILTER (WHERE ${isUnlinkedSql}) AS positions
         FROM chained`,
        [after, head, linksAtATime, noHash],
      );
      const { count, upTo, events, positions } = rows[0]!;
      for (const [i, event] of (events ?? []).entries())
        this.report({
          position: positions![i]!,
          event,
          code: 'event_unlinked',
          message: `${event} does not follow the event before it in its stream: that one is missing, or another`,
        });
      checked += count;
      if (count < linksAtATime) return checked;
      after = upTo;
      this.options.signal?.throwIfAborted();
    }
  }

  /** Reports one fault for a place, and not those that follow from it. */
  private report(fault: Fault): void {
    if (this.faults.some(({ position, seal }) => position === fault.position && seal === fault.seal)) return;
    this.faultCount++;
    if (this.faults.length < 10 * mostFaults) this.faults.push(fault);
  }
}

/** Gives events as rows of `COPY`. */
function copied(events: readonly KeptEvent[]): CopiedRows {
  const rows = events.map(copiedRow);
  let end = 0;
  const starts = rows.map(({ length }) => (end += length) - length);
  return { bytes: Buffer.concat(rows), starts };
}

/** Gives the `stream/version` of the row that begins at an offset: its third and fourth fields. */
function nameAt(bytes: Buffer, start: number): string {
  let at = start;
  for (let field = 0; field < 2; field++) at += 4 + bytes.readInt32BE(at);
  const length = bytes.readInt32BE(at);
  return `${bytes.toString('utf8', at + 4, at + 4 + length)}/${bytes.readInt32BE(at + 8 + length)}`;
}
