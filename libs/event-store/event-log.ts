import { setTimeout as delay } from 'node:timers/promises';
import { NotThePrimary, openSession } from '@app/database';
import { backOffMs } from '@app/runtime';
import type { Client, Pool } from 'pg';
import { archiveAbove, eventsOf } from './archives';
import { LogWentBack } from './errors';
import type { RecordedEvent } from './event';
import type { Span } from './event-archive';
import { fenceSql, type FenceRow } from './in-flight';
import { recordedOf } from './kept-event';
import { LogEpochs } from './log-epochs';

export const eventsChannel = 'sendmux_events';

/**
 * Milliseconds between reads while an append in flight holds events back. The poll is needed because an append that is
 * rolled back sends no notification.
 */
const heldBackMs = 10;
const reconnect = { baseMs: 100, capMs: 5_000 };
const pageSize = 1_000;

export type EventRow = Omit<RecordedEvent, 'time'> & { readonly time: Date };
/** A query that sorts by the position names its table too, since the index has no order of the number that is given. */
export const eventColumns = `position::float8 AS position, stream, version, type, schema_version AS "schemaVersion",
  data, metadata, time`;
export const recordedEvent = (row: EventRow): RecordedEvent => ({ ...row, time: row.time.toISOString() });

/** A row that has the fence, and another one for each event, which has null in its place. */
type PageRow = EventRow & FenceRow;
const recordedOfPage = ({ drawn: _, first: __, standby: ___, ...row }: PageRow): RecordedEvent => recordedEvent(row);

/** The most by which the times of two events may be in another order than their positions, in milliseconds. */
const disorderMs = 3_600_000;

/** Which events a page has: of these types and times, and of these streams, or of those of which a condition holds. */
export interface PageSelection {
  readonly types: readonly string[];
  /** The earliest time, inclusive. */
  readonly from: Date;
  /** The end of the times, exclusive. */
  readonly to: Date;
  /**
   * The names of a thousand streams at most, so that their index finds the events; or an SQL condition on the column
   * `stream`, with its parameters from `$7`, for a part of the log that is read from end to end.
   */
  readonly streams: readonly string[] | { readonly condition: string; readonly values: readonly unknown[] };
}

/** Positions that a page covers at most where a condition says which streams it has. */
const windowSize = 20_000;

/**
 * Gives the newest settled position: that before the first append in flight, or the newest that was drawn.
 *
 * @throws {NotThePrimary} for a standby, to which a pooler may have led since it was reached.
 */
function settledIn({ drawn, first, standby }: FenceRow): number {
  if (standby) throw new NotThePrimary();
  return Math.min(drawn, first ?? Infinity);
}

export interface LogPage {
  readonly events: RecordedEvent[];
  /** Every position at or below is read or will never be used. It grows past gaps, so that a checkpoint can. */
  readonly settledUpTo: number;
}

/**
 * Reads all events in the order of their positions, up to the newest, without losing any and without blocking appends.
 *
 * Positions come from a sequence and commit out of order, so the reader stops at the *in-flight fence*: the smallest
 * value that an append in flight has put into an advisory lock before it drew its position, or the sequence's value
 * when no append is in flight. Every position at or below the fence is settled: committed and visible, or never to be
 * used. Transactions that append nothing do not hold the fence back.
 *
 * This holds under READ COMMITTED, on the primary, with a sequence of CACHE 1.
 */
export class EventLog {
  private listener: Promise<Client | undefined> | undefined;
  private readonly followers = new Set<Follower>();
  private closed = false;
  private failures = 0;
  private readonly epochs: LogEpochs;

  /**
   * @param pollMs milliseconds between polls. Notifications make the reader prompt; the poll covers a notification that
   * was lost.
   */
  constructor(
    private readonly pool: Pool,
    private readonly pollMs = 250,
  ) {
    this.epochs = LogEpochs.of(pool);
  }

  /** Gives the newest settled position; 0 for an empty log. */
  head(): Promise<number> {
    return this.fence();
  }

  /** Gives the age of the oldest event above a position, in seconds by the clock of the database; 0 for none. */
  async ageAbove(position: number): Promise<number> {
    const { rows } = await this.pool.query<{ seconds: number }>(
      `SELECT extract(epoch FROM now() - time)::float8 AS seconds FROM events
       WHERE position > $1 ORDER BY position LIMIT 1`,
      [position],
    );
    return rows[0]?.seconds ?? 0;
  }

  /**
   * Reads at most `limit` settled events above `after`, in the order of the log, and the position up to which the
   * reader now has everything.
   */
  async read({ after, limit }: { after: number; limit: number }): Promise<LogPage> {
    const { events, settledUpTo } = await this.page(after, limit);
    return { events, settledUpTo };
  }

  /**
   * Gives a part of the log in which all events of a range of times are, up to the newest that is settled. It also has
   * some that are older or newer, since processes give events their times, and their clocks differ a little.
   *
   * @param from the earliest time, inclusive.
   * @param to the end of the range, exclusive.
   */
  async spanOf(from: Date, to: Date): Promise<Span> {
    const head = await this.head();
    const { older } = await this.lastBefore(new Date(from.getTime() - disorderMs), head);
    const { beforeNewer } = await this.lastBefore(new Date(to.getTime() + disorderMs), head);
    return { after: older, upTo: beforeNewer };
  }

  /**
   * Reads at most `limit` events of a selection in a part of the log that is settled, in the order of the log. With a
   * condition a page may be empty before the end; `settledUpTo` says how far it has come.
   */
  async readSelected({ after, upTo }: Span, selection: PageSelection, limit: number): Promise<LogPage> {
    const { types, from, to, streams } = selection;
    const isList = 'length' in streams;
    const end = isList ? upTo : Math.min(upTo, after + windowSize);
    const where = `position > $1 AND position <= $2 AND type = ANY ($3) AND time >= $4 AND time < $5`;
    const { rows } = await this.pool.query<EventRow>({
      // A statement with a condition is planned for each page anew, since no name stands for its text.
      ...(isList && { name: 'log selected' }),
      text: isList
        ? `SELECT ${eventColumns} FROM unnest($7::text[]) AS of_stream,
             LATERAL (SELECT * FROM events WHERE stream = of_stream AND ${where}) AS found
           ORDER BY found.position LIMIT $6`
        : `SELECT ${eventColumns} FROM events WHERE ${where} AND (${streams.condition}) ORDER BY events.position LIMIT $6`,
      values: [after, end, types, from, to, limit, ...(isList ? [streams] : streams.values)],
    });
    const events = await this.epochs.place(rows.map(recordedEvent));
    return { events, settledUpTo: rows.length === limit ? events.at(-1)!.position : end };
  }

  /**
   * Gives the time of the newest event of an archive that has what ended of these streams in a part of the log, and
   * events of a range of times; undefined where all of it can be read by `readSelected`.
   */
  async archivedIn(
    { after, upTo }: Span,
    { from, to, streams }: Pick<PageSelection, 'from' | 'to' | 'streams'>,
  ): Promise<Date | undefined> {
    const isList = 'length' in streams;
    // A condition on streams names its parameters from $7 on, as in `readSelected`; PostgreSQL wants all to be used.
    const { rows } = await this.pool.query<{ time: Date | null }>(
      `SELECT max(a.to_time) AS time FROM stream_spans
         JOIN event_archives a ON last_position > a.lower AND last_position <= a.upper
       WHERE blocks IS NOT NULL AND last_position > $1 AND first_position <= $2
         AND a.to_time >= $3 AND a.from_time < $4 AND ($5::text IS NULL AND $6::text IS NULL)
         AND (${isList ? 'stream = ANY ($7::text[])' : streams.condition})`,
      [after, upTo, from, to, null, null, ...(isList ? [streams] : streams.values)],
    );
    return rows[0]!.time ?? undefined;
  }

  /**
   * Gives the position of the last event of which all at or below are older than a time, but for the disorder of times,
   * and the last position before the next one. Events in archives may be between the two.
   */
  private async lastBefore(time: Date, head: number): Promise<{ older: number; beforeNewer: number }> {
    let [older, newer, beforeNewer] = [0, head + 1, head];
    while (newer - older > 1) {
      const middle = Math.floor((older + newer) / 2);
      const { rows } = await this.pool.query<{ position: number; isOlder: boolean }>({
        name: 'log at',
        text: `SELECT position::float8 AS position, time < $3 AS "isOlder" FROM events
          WHERE position >= $1 AND position < $2 ORDER BY events.position LIMIT 1`,
        values: [middle, newer, time],
      });
      if (rows[0]?.isOlder) older = rows[0].position;
      else {
        newer = middle;
        if (rows[0]) beforeNewer = rows[0].position - 1;
      }
    }
    return { older, beforeNewer };
  }

  /**
   * Yields settled events above `after` in non-empty batches as they are committed; first those that are in archives.
   * It ends when the signal aborts or the log is closed. Nothing that is not archived by then is removed below the
   * checkpoint of a consumer, so a consumer has to have one before it follows.
   *
   * @throws {ArchiveAway} {ArchiveBroken} where the file of an archive is not there, or is not what it was.
   * @throws {LogWentBack} where the log has ended before what was read.
   * @throws {NotThePrimary} where a pooler has led to a standby.
   * @throws {Error} the error of the connection; the caller follows again from the last event it got.
   */
  async *follow({ after, signal, isPromptFor, lingerMs = 0 }: Following): AsyncGenerator<RecordedEvent[], void> {
    let position = after;
    for (let archive; (archive = await archiveAbove(this.pool, position)); position = archive.upTo)
      for await (const events of eventsOf(this.pool, archive, position)) {
        if (signal.aborted || this.closed) return;
        yield await this.epochs.place(events.map(recordedOf));
      }
    const follower = new Follower(isPromptFor);
    this.followers.add(follower);
    try {
      while (!signal.aborted && !this.closed) {
        this.listen();
        const heard = follower.wakeUps;
        const { events, settledUpTo, drawn } = await this.page(position, pageSize);
        if (drawn < position) throw new LogWentBack(position, drawn);
        position = settledUpTo;
        if (events.length > 0) yield events;
        // Whatever was committed since the page was read has notified.
        const isAll = events.length < pageSize && heard === follower.wakeUps;
        if (isAll && !this.closed) await follower.sleep(position < drawn ? heldBackMs : this.pollMs, signal);
        // One that is behind by a page or more does not wait for more.
        if (lingerMs > 0 && events.length < pageSize && heard !== follower.wakeUps && !this.closed)
          await delay(lingerMs, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      this.followers.delete(follower);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.wake();
    const client = await this.listener;
    await client?.end();
  }

  /** Gives the newest position that is settled. */
  private async fence(): Promise<number> {
    const { rows } = await this.pool.query<FenceRow>({ name: 'log fence', text: fenceSql });
    return settledIn(rows[0]!);
  }

  /** Reads the events above a position up to the fence, with the newest position that was drawn. */
  private async page(after: number, limit: number): Promise<LogPage & { readonly drawn: number }> {
    const { rows } = await this.pool.query<PageRow>({
      name: 'log page',
      text: `SELECT drawn, first, standby, ${eventColumns} FROM log_page($1, $2)`,
      values: [after, limit],
    });
    // What the function gives first is the fence alone.
    const [fence, ...found] = rows;
    const settled = settledIn(fence!);
    const { drawn } = fence!;
    const events = await this.epochs.place(found.map(recordedOfPage));
    const isFull = found.length === limit;
    return { events, settledUpTo: isFull ? events.at(-1)!.position : Math.max(after, settled), drawn };
  }

  private listen(): void {
    this.listener ??= this.connect();
  }

  /** Connects for LISTEN. Without the connection polling continues, and connecting is retried. */
  private async connect(): Promise<Client | undefined> {
    let lost = false;
    const onLost = () => {
      if (lost) return;
      lost = true;
      const wait = backOffMs(reconnect, ++this.failures);
      setTimeout(() => {
        this.listener = undefined;
        this.wake();
      }, wait).unref();
    };
    let client: Client | undefined;
    try {
      client = await openSession(this.pool);
      client.on('error', onLost).on('notification', ({ payload }) => this.wake(payload));
      await client.query(`LISTEN ${eventsChannel}`);
      this.failures = 0;
      return client;
    } catch {
      onLost();
      await client?.end();
      return undefined;
    }
  }

  /** @param types of the events that were committed, with spaces between them; all of them where it is empty. */
  private wake(types = ''): void {
    for (const follower of this.followers) follower.wake(types);
  }
}

/** Where a follower begins, until when it follows, and of what it hears at once. */
export interface Following {
  readonly after: number;
  readonly signal: AbortSignal;
  /** Tells of which types an event is read at once. Others are read with these, or by the poll. All when absent. */
  readonly isPromptFor?: ((type: string) => boolean) | undefined;
  /**
   * Milliseconds after an event is heard of until it is read, with those that have come meanwhile; none when absent. A
   * reader for which nobody waits lingers, so that it takes no time from what does the work that somebody waits for.
   */
  readonly lingerMs?: number | undefined;
}

/** Sleeps until there is something to read. */
class Follower {
  /** Counts what has woken it. */
  wakeUps = 0;
  private rise = (): void => undefined;

  constructor(private readonly isPromptFor: Following['isPromptFor']) {}

  wake(types: string): void {
    const { isPromptFor } = this;
    if (types !== '' && isPromptFor && !types.split(' ').some(isPromptFor)) return;
    this.wakeUps++;
    this.rise();
  }

  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.rise = () => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener('abort', this.rise, { once: true });
    });
    signal.removeEventListener('abort', this.rise);
  }
}
