import { hash } from 'node:crypto';
import { Client, type Pool } from 'pg';
import { copyRows } from '@app/database';
import { hashedColumns, hashLength, noHash, type EventLog } from '@app/event-store';
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

/** Something that is not as it was when it was recorded or sealed. */
export interface Fault {
  /** Position of the event; of a seal, that of the first event that it covers. The first bad place has the least. */
  readonly position: number;
  /** The number of the seal, where the fault is one of a seal itself. */
  readonly seal?: number;
  /** `stream/version`, where it is known. */
  readonly event?: string;
  readonly code: FaultCode;
  readonly message: string;
}

export type FaultCode =
  /** The event is not what its hash says. */
  | 'event_changed'
  /** Not the event that was sealed in this place, though it is what its own hash says. */
  | 'event_replaced'
  | 'event_removed'
  | 'event_inserted'
  /** The event does not name the hash of the one before it in its stream, or there is none. */
  | 'event_unlinked'
  /** In another place of the log than it was recorded in. */
  | 'event_moved'
  /** The seal is not as it was signed, or not by a trusted key. */
  | 'seal_unsigned'
  /** The seal does not follow the one before it, or one is missing. */
  | 'seal_unlinked'
  /** The hashes that are kept beside the seal are not those that it was made of. */
  | 'seal_leaves_changed'
  /** An event that should have been sealed by now is not: the sealer does not run, or the seals were taken away. */
  | 'seal_missing'
  /** A witness has another seal of this number. */
  | 'seal_replaced'
  /** A witness has seen a seal that is not here: the end of the log is cut off. */
  | 'seal_removed';

export interface Verified {
  readonly events: number;
  /** Events after the newest seal: hashed and linked, and signed by nobody yet. */
  readonly unsealed: number;
  readonly seals: number;
  /** What the newest seal says; undefined when there is none. */
  readonly newest: Statement | undefined;
  /** In the order of the log, `mostFaults` at most. Empty: all is as it was. */
  readonly faults: readonly Fault[];
  /** Of all faults. */
  readonly faultCount: number;
}

const mostFaults = 20;

export interface VerifyOptions {
  readonly trusted: TrustedKeys;
  /** Seals that were kept elsewhere: from the logs of the sealer or from its topic. */
  readonly witness?: readonly Seal[];
  /** Events from before this time have to be sealed; absent: none has to be. */
  readonly sealedBefore?: Date;
  readonly signal?: AbortSignal;
  /** @param position up to which all is looked at. */
  readonly reached?: (position: number) => void;
}

interface StoredSeal extends Seal {
  readonly number: number;
  readonly upTo: number;
  readonly leaves: Buffer;
}

/** A seal that may be believed, and where its events are being gathered. */
interface OpenSeal {
  readonly says: Statement;
  readonly leaves: Buffer;
}

/**
 * Reads the whole log and says whether each event is the one that was recorded: by its own hash, by the signed seal that covers
 * it, and after the newest seal by the chain of its stream. Nothing is written, and memory does not grow with the log.
 *
 * What nobody has sealed yet may be taken from the end without a trace, and the newest seals with it, unless a witness has seen
 * them.
 */
export class Verification {
  private readonly faults: Fault[] = [];
  private faultCount = 0;
  private events = 0;

  /** Of the events that are being gathered for the open seal: their positions and hashes. */
  private positions: number[] = [];
  private hashes = Buffer.alloc(10_000 * hashLength);

  constructor(
    private readonly pool: Pool,
    private readonly log: Pick<EventLog, 'head'>,
    private readonly options: VerifyOptions,
  ) {}

  /** @throws {Error} of the database, or the reason of `signal`. */
  async run(): Promise<Verified> {
    const { signal, reached } = this.options;
    const { rows } = await this.pool.query<{ count: number }>(
      'SELECT coalesce(max(number), 0) AS count FROM audit_seals',
    );
    const { count } = rows[0]!;
    const head = await this.log.head();
    // Of its own: no other statement may take as long as these.
    const client = new Client({ ...this.pool.options, statement_timeout: 0 });
    client.on('error', () => undefined);
    await client.connect();
    const interrupt = () => void client.end();
    signal?.addEventListener('abort', interrupt, { once: true });
    try {
      const newest = await this.readAll(client, this.seals(count), head);
      reached?.(head);
      const unsealed = await this.readEnd(client, newest?.upTo ?? 0, head);
      this.faults.sort((a, b) => a.position - b.position);
      const { faults, faultCount, events } = this;
      return { events, unsealed, seals: count, newest, faults: faults.slice(0, mostFaults), faultCount };
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', interrupt);
      await client.end();
    }
  }

  /** @returns what the newest seal says that can be believed. */
  private async readAll(client: Client, seals: AsyncGenerator<OpenSeal>, head: number): Promise<Statement | undefined> {
    let newest: Statement | undefined;
    let open: OpenSeal | undefined;
    const next = async () => {
      open = ((await seals.next()) as { value?: OpenSeal }).value;
      newest = open?.says ?? newest;
    };
    await next();
    const columns = [...hashedColumns, 'hash'].join(', ');
    const query = `SELECT ${columns} FROM events WHERE position <= ${head} ORDER BY position`;
    for await (const { bytes, starts } of copyRows(client, query)) {
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
    }
    while (open) {
      await this.close(open);
      await next();
    }
    return newest;
  }

  /** One event: its own hash, and its place among those of the open seal. */
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

  /** All events of a seal are gathered: they have to be those that it was made of. */
  private async close({ says, leaves }: OpenSeal): Promise<void> {
    const found = this.hashes.subarray(0, this.positions.length * hashLength);
    const { positions } = this;
    this.positions = [];
    const isWhole = positions.length === says.events && merkleRoot(found).toString('hex') === says.root;
    const at = says.after + 1;
    if (isWhole && found.equals(leaves)) return;
    if (isWhole || leaves.length !== says.events * hashLength || merkleRoot(leaves).toString('hex') !== says.root)
      this.report({
        ...{ position: at, seal: says.number, code: 'seal_leaves_changed' },
        message: `The hashes that are kept beside seal ${says.number} are not those that it was made of${isWhole ? '; its events are' : `, nor are its events (positions ${at} to ${says.upTo}): ${positions.length} where ${says.events} were sealed`}`,
      });
    else await this.compare(says, leaves, found, positions);
  }

  /** The first place of a seal where another event is than was sealed there. */
  private async compare(says: Statement, sealed: Buffer, found: Buffer, positions: number[]): Promise<void> {
    const listed = (hashes: Buffer): string[] => (hashes.toString('hex').match(/.{64}/g) as string[] | null) ?? [];
    const [was, is] = [listed(sealed), listed(found)];
    const i = was.findIndex((hash, place) => hash !== is[place]);
    // All that were sealed are there: what comes after them was added.
    const place = i < 0 ? was.length : i;
    const position = positions[place] ?? says.upTo;
    const here = is[place] === undefined ? undefined : await this.nameOf('position', position);
    const isLost = was[place] !== undefined && !is.includes(was[place]);
    const isForeign = is[place] !== undefined && !was.includes(is[place]);
    const before = positions[place - 1] ?? says.after;
    const where = `after position ${before}, as seal ${says.number} of ${says.time} has it`;
    if (isForeign && isLost && is.length === was.length)
      this.report({
        ...{ position: before + 1, ...(here && { event: here }), code: 'event_replaced' },
        message: `${here} is not the event that was sealed ${where}`,
      });
    else if (isForeign)
      this.report({
        ...{ position, ...(here && { event: here }), code: 'event_inserted' },
        message: `${here} was not sealed: there was no such event ${where}`,
      });
    else if (isLost) {
      // Another may follow it in its stream.
      const lost = await this.nameOf('previous', Buffer.from(was[place]!, 'hex'));
      this.report({
        ...{ position: before + 1, ...(lost && { event: lost }), code: 'event_removed' },
        message: `${lost ?? 'An event'} is missing ${where}`,
      });
    } else {
      const moved = await this.nameOf('hash', Buffer.from(was[place]!, 'hex'));
      this.report({
        ...{ position: before + 1, ...(moved && { event: moved }), code: 'event_moved' },
        message: `${moved ?? 'An event'} is not in its place any more, ${where}`,
      });
    }
  }

  private async nameOf(column: 'position' | 'hash' | 'previous', value: number | Buffer): Promise<string | undefined> {
    const { rows } = await this.pool.query<{ stream: string; version: number }>(
      `SELECT stream, version FROM events WHERE ${column} = $1`,
      [value],
    );
    if (!rows[0]) return undefined;
    const { stream, version } = rows[0];
    return `${stream}/${column === 'previous' ? version - 1 : version}`;
  }

  /**
   * The seals that can be believed, in their order. What is wrong with one is a fault; events are held against the others.
   *
   * @param count of the newest; later ones are of a log that has grown meanwhile.
   */
  private async *seals(count: number): AsyncGenerator<OpenSeal, void> {
    const { trusted, witness = [] } = this.options;
    const seen = new Map<number, string>();
    for (const seal of witness) {
      const says = readStatement(seal.statement);
      if (says && isSigned(seal, trusted)) seen.set(says.number, seal.statement);
    }
    /** The newest that was believed. */
    let before: Statement | undefined;
    /** Of the seal before, if it was believed. */
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
        if (!isNext || (before && says.log !== before.log))
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
        ...{ position: (before?.upTo ?? 0) + 1, seal: gone, code: 'seal_removed' },
        message: `A witness has seen seal ${gone}, and it is not here: the log is cut off after position ${before?.upTo ?? 0}`,
      });
  }

  /**
   * Whether the events after the newest seal name the hash before them (whoever sealed the others has looked before signing), and
   * no event has a position that was never drawn.
   *
   * @returns how many come after the newest seal.
   */
  private async readEnd(client: Client, after: number, head: number): Promise<number> {
    const { rows: unlinked } = await client.query<{ event: string; position: number }>(
      `SELECT e.stream || '/' || e.version AS event, e.position::float8 AS position
       FROM events e LEFT JOIN events before ON before.stream = e.stream AND before.version = e.version - 1
       WHERE e.position > $1 AND e.position <= $2
         AND (before.position > e.position
           OR e.previous IS DISTINCT FROM CASE e.version WHEN 1 THEN $3::bytea ELSE before.hash END)
       ORDER BY e.position LIMIT ${mostFaults}`,
      [after, head, noHash],
    );
    for (const { event, position } of unlinked)
      this.report({
        ...{ position, event, code: 'event_unlinked' },
        message: `${event} does not follow the event before it in its stream: that one is missing, or another`,
      });
    const { rows: strange } = await client.query<{ event: string; position: number }>(
      `SELECT stream || '/' || version AS event, position::float8 AS position FROM events
       WHERE position < 1 OR position > (SELECT last_value FROM event_positions) ORDER BY position LIMIT ${mostFaults}`,
    );
    for (const { event, position } of strange)
      this.report({
        ...{ position, event, code: 'event_moved' },
        message: `${event} has the position ${position}, which was never given to an event`,
      });
    const { rows: late } = await client.query<{ event: string; position: number; time: Date }>(
      `SELECT stream || '/' || version AS event, position::float8 AS position, time FROM events
       WHERE position > $1 AND position <= $2 AND time < $3 ORDER BY position LIMIT 1`,
      [after, head, this.options.sealedBefore ?? '-infinity'],
    );
    for (const { event, position, time } of late)
      this.report({
        ...{ position, event, code: 'seal_missing' },
        message: `${event} of ${time.toISOString()} is not sealed yet: the sealer does not run, or its seals were taken away`,
      });
    const { rows } = await client.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM events WHERE position > $1 AND position <= $2',
      [after, head],
    );
    return rows[0]!.count;
  }

  /** One fault a place: what follows from it is not told. */
  private report(fault: Fault): void {
    if (this.faults.some(({ position, seal }) => position === fault.position && seal === fault.seal)) return;
    this.faultCount++;
    if (this.faults.length < 10 * mostFaults) this.faults.push(fault);
  }
}

/** `stream/version` of the row that begins there: the third and fourth of its fields. */
function nameAt(bytes: Buffer, start: number): string {
  let at = start;
  for (let field = 0; field < 2; field++) at += 4 + bytes.readInt32BE(at);
  const length = bytes.readInt32BE(at);
  return `${bytes.toString('utf8', at + 4, at + 4 + length)}/${bytes.readInt32BE(at + 8 + length)}`;
}
