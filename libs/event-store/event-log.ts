import { Client, type Pool } from 'pg';
import type { RecordedEvent } from './event';
import { inFlightTag } from './event-store.migration';

export const eventsChannel = 'sendmux_events';

/** A wake-up makes the tail prompt; this poll makes it certain, in milliseconds. */
const pollMs = 250;
const reconnectMs = 500;
const pageSize = 1_000;

/**
 * The log of all events in the order of their positions, read from the tail without losing or waiting.
 *
 * Positions come from a sequence and commit out of order, so the reader stops at the *in-flight fence*: the smallest
 * value that an append in flight has put into an advisory lock before it drew its position, or the sequence's value when
 * nobody is in flight. All at or below the fence is settled: committed and visible, or never to come. Transactions that
 * append nothing do not hold it.
 *
 * Holds under READ COMMITTED, on the primary, with a sequence of CACHE 1.
 */
export class EventLog {
  private listener: Promise<Client | undefined> | undefined;
  private wakeUps = 0;
  private readonly sleepers = new Set<() => void>();
  private closed = false;

  constructor(private readonly pool: Pool) {}

  /** The newest settled position; 0 of an empty log. */
  async head(): Promise<number> {
    // The order of the two reads is the point: an append that the second does not see has drawn its position before the
    // first, or draws it after, above the value.
    const { rows: sequence } = await this.pool.query<{ last: number }>({
      name: 'log-sequence',
      text: 'SELECT (last_value - (NOT is_called)::int)::float8 AS last FROM event_positions',
    });
    const { rows: flights } = await this.pool.query<{ first: number | null }>({
      name: 'log-in-flight',
      text: `SELECT min(((classid::int8 << 32) | objid::int8) & ((1::int8 << 48) - 1))::float8 AS first
        FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND classid::int8 >> 16 = ${inFlightTag}
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    });
    return Math.min(sequence[0]!.last, flights[0]?.first ?? Infinity);
  }

  /**
   * Settled events above `after`, in the order of the log, at most `limit`, and the position up to which the reader now
   * has everything.
   */
  async read({ after, limit }: { after: number; limit: number }): Promise<{
    events: RecordedEvent[];
    settledUpTo: number;
  }> {
    const fence = await this.head();
    if (fence <= after) return { events: [], settledUpTo: after };
    const { rows } = await this.pool.query<Omit<RecordedEvent, 'time'> & { time: Date }>({
      name: 'log-read',
      text: `SELECT position::float8 AS position, stream, version, type, schema_version AS "schemaVersion", data,
               metadata, time FROM events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3`,
      values: [after, fence, limit],
    });
    const events = rows.map((row) => ({ ...row, time: row.time.toISOString() }));
    return { events, settledUpTo: rows.length === limit ? events.at(-1)!.position : fence };
  }

  /** Settled events above `after`, a non-empty batch at a time, as they come; ends when the signal aborts. */
  async *follow({ after, signal }: { after: number; signal: AbortSignal }): AsyncGenerator<RecordedEvent[], void> {
    let position = after;
    while (!signal.aborted && !this.closed) {
      this.listen();
      const heard = this.wakeUps;
      const { events, settledUpTo } = await this.read({ after: position, limit: pageSize });
      position = settledUpTo;
      if (events.length > 0) yield events;
      else if (heard === this.wakeUps) await this.sleep(signal);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    this.wake();
    const client = await this.listener;
    await client?.end();
  }

  private listen(): void {
    this.listener ??= this.connect();
  }

  /** Without the connection the poll goes on; it is tried again until it is there. */
  private async connect(): Promise<Client | undefined> {
    const client = new Client(this.pool.options);
    let lost = false;
    const onLost = () => {
      if (lost) return;
      lost = true;
      setTimeout(() => {
        this.listener = undefined;
        this.wake();
      }, reconnectMs).unref();
    };
    client.on('error', onLost);
    client.on('notification', () => this.wake());
    try {
      await client.connect();
      await client.query(`LISTEN ${eventsChannel}`);
      return client;
    } catch {
      onLost();
      await client.end();
      return undefined;
    }
  }

  private wake(): void {
    this.wakeUps++;
    for (const sleeper of this.sleepers) sleeper();
  }

  private sleep(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.sleepers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, pollMs);
      signal.addEventListener('abort', done, { once: true });
      this.sleepers.add(done);
    });
  }
}
