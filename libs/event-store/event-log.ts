import { openSession } from '@app/database';
import { backOffMs } from '@app/runtime';
import type { Client, Pool } from 'pg';
import type { RecordedEvent } from './event';
import { inFlightTag } from './event-store.migration';

export const eventsChannel = 'sendmux_events';

/**
 * Milliseconds between reads while an append in flight holds events back. The poll is needed because an append that is
 * rolled back sends no notification.
 */
const heldBackMs = 10;
const reconnect = { baseMs: 100, capMs: 5_000 };
const pageSize = 1_000;

export type EventRow = Omit<RecordedEvent, 'time'> & { readonly time: Date };
export const eventColumns = `position::float8 AS position, stream, version, type, schema_version AS "schemaVersion",
  data, metadata, time`;
export const recordedEvent = (row: EventRow): RecordedEvent => ({ ...row, time: row.time.toISOString() });

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
  private wakeUps = 0;
  private readonly sleepers = new Set<() => void>();
  private closed = false;
  private failures = 0;

  /**
   * @param pollMs milliseconds between polls. Notifications make the reader prompt; the poll covers a notification that
   * was lost.
   */
  constructor(
    private readonly pool: Pool,
    private readonly pollMs = 250,
  ) {}

  /** Gives the newest settled position; 0 for an empty log. */
  async head(): Promise<number> {
    return (await this.fence()).settled;
  }

  /**
   * Reads at most `limit` settled events above `after`, in the order of the log, and the position up to which the
   * reader now has everything.
   */
  async read({ after, limit }: { after: number; limit: number }): Promise<LogPage> {
    return this.page(after, await this.head(), limit);
  }

  /**
   * Yields settled events above `after` in non-empty batches as they are committed. It ends when the signal aborts or
   * the log is closed.
   *
   * @throws {Error} the error of the connection; the caller follows again from the last event it got.
   */
  async *follow({ after, signal }: { after: number; signal: AbortSignal }): AsyncGenerator<RecordedEvent[], void> {
    let position = after;
    while (!signal.aborted && !this.closed) {
      this.listen();
      const heard = this.wakeUps;
      const { settled, drawn } = await this.fence();
      const { events, settledUpTo } = await this.page(position, settled, pageSize);
      position = settledUpTo;
      if (events.length > 0) yield events;
      else if (heard === this.wakeUps) await this.sleep(settled < drawn ? heldBackMs : this.pollMs, signal);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.wake();
    const client = await this.listener;
    await client?.end();
  }

  /** Gives the newest position that was drawn, and the newest that is settled. */
  private async fence(): Promise<{ settled: number; drawn: number }> {
    // The sequence must be read before the locks: an append whose lock the second read does not see has drawn its
    // position before the first read, or draws it later, above the value that was read.
    const { rows: sequence } = await this.pool.query<{ drawn: number }>({
      name: 'log sequence',
      text: 'SELECT (last_value - (NOT is_called)::int)::float8 AS drawn FROM event_positions',
    });
    const { rows: flights } = await this.pool.query<{ first: number | null }>({
      name: 'log in flight',
      text: `SELECT min(((classid::int8 << 32) | objid::int8) & ((1::int8 << 48) - 1))::float8 AS first
        FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND classid::int8 >> 16 = ${inFlightTag}
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    });
    const { drawn } = sequence[0]!;
    return { settled: Math.min(drawn, flights[0]?.first ?? Infinity), drawn };
  }

  private async page(after: number, fence: number, limit: number): Promise<LogPage> {
    if (fence <= after) return { events: [], settledUpTo: after };
    const { rows } = await this.pool.query<EventRow>({
      name: 'log read',
      text: `SELECT ${eventColumns} FROM events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3`,
      values: [after, fence, limit],
    });
    const events = rows.map(recordedEvent);
    return { events, settledUpTo: rows.length === limit ? events.at(-1)!.position : fence };
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
      client.on('error', onLost).on('notification', () => this.wake());
      await client.query(`LISTEN ${eventsChannel}`);
      this.failures = 0;
      return client;
    } catch {
      onLost();
      await client?.end();
      return undefined;
    }
  }

  private wake(): void {
    this.wakeUps++;
    for (const sleeper of this.sleepers) sleeper();
  }

  private sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || this.closed) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.sleepers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener('abort', done, { once: true });
      this.sleepers.add(done);
    });
  }
}
