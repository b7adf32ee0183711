import { eventId, type RecordedEvent } from '@app/event-store';
import type { Pool, QueryResult, QueryResultRow } from 'pg';
import type { ReceivedMessage } from './cloud-event';
import { describeError } from './describe-error';

export type Query = <Row extends QueryResultRow>(text: string, values?: unknown[]) => Promise<QueryResult<Row>>;

/** A message of a topic that is no event, whole; `key` and `value` in base64. */
export interface RawMessage {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly headers: Readonly<Record<string, string>>;
}

export interface ParkedMessage {
  readonly group: string;
  /** The id of the event; `topic/partition/offset` of what is none. Unique in its group. */
  readonly message: string;
  /** Of the event. */
  readonly type: string | null;
  /** What was parked: one of the two. */
  readonly event: RecordedEvent | null;
  readonly raw: RawMessage | null;
  readonly error: string;
  /** Calls of the handler so far. */
  readonly attempts: number;
  readonly parkedAt: Date;
  /** Somebody asked for another try, which has not been made yet. */
  readonly redriveAskedAt: Date | null;
}

export const parkedEvent = (event: RecordedEvent) => ({
  ...{ message: eventId(event), type: event.type, event, raw: null },
});

export const parkedRaw = (topic: string, received: ReceivedMessage, type: string | undefined) => ({
  message: `${topic}/${received.partition}/${received.offset}`,
  type: type ?? null,
  event: null,
  raw: {
    ...{ topic, partition: received.partition, offset: received.offset, headers: received.headers },
    key: received.key?.toString('base64') ?? null,
    value: received.value?.toString('base64') ?? null,
  },
});

const columns = `consumer_group AS "group", message, type, event, raw, error, attempts, parked_at AS "parkedAt",
  redrive_asked_at AS "redriveAskedAt"`;

/** What consumers could not handle, with the error; it waits for an operator, and holds up nobody. */
export class ParkedMessages {
  constructor(private readonly query: Query) {}

  async park(
    group: string,
    what: Pick<ParkedMessage, 'message' | 'type' | 'event' | 'raw'>,
    error: unknown,
    attempts: number,
  ): Promise<void> {
    await this.query(
      `INSERT INTO parked_messages AS parked (consumer_group, message, type, event, raw, error, attempts)
       VALUES ($1, $2, $3, $4, $5, $6, $7)
       ON CONFLICT (consumer_group, message) DO UPDATE SET
         error = excluded.error, attempts = parked.attempts + excluded.attempts, parked_at = now()`,
      [
        ...[group, what.message, what.type?.replaceAll('\0', '') ?? null],
        // json takes an escaped NUL; no text holds a bare one.
        ...[what.event && JSON.stringify(what.event), what.raw && JSON.stringify(what.raw)],
        ...[describeError(error), attempts],
      ],
    );
  }

  /** The oldest first. */
  async list(group?: string): Promise<ParkedMessage[]> {
    const { rows } = await this.query<ParkedMessage & QueryResultRow>(
      `SELECT ${columns} FROM parked_messages WHERE $1::text IS NULL OR consumer_group = $1
       ORDER BY parked_at, consumer_group, message`,
      [group ?? null],
    );
    return rows;
  }

  async find(group: string, message: string): Promise<ParkedMessage | undefined> {
    const { rows } = await this.query<ParkedMessage & QueryResultRow>(
      `SELECT ${columns} FROM parked_messages WHERE consumer_group = $1 AND message = $2`,
      [group, message],
    );
    return rows[0];
  }

  /** Asks the consumers of the group to try again: these messages, or all. Returns those that are there. */
  async askToRedrive(group: string, messages: readonly string[] | 'all'): Promise<string[]> {
    const { rows } = await this.query<{ message: string }>(
      `UPDATE parked_messages SET redrive_asked_at = now()
       WHERE consumer_group = $1 AND ($2::text[] IS NULL OR message = ANY ($2)) RETURNING message`,
      [group, messages === 'all' ? null : messages],
    );
    return rows.map(({ message }) => message);
  }

  /** Messages of the group that are parked. */
  async count(group: string): Promise<number> {
    const { rows } = await this.query<{ count: string }>(
      'SELECT count(*) AS count FROM parked_messages WHERE consumer_group = $1',
      [group],
    );
    return Number(rows[0]!.count);
  }
}

/** First key of the advisory locks that let one process of a group redrive; the second is the hash of its name. */
const redriveLocks = 1_919_249_010;

/**
 * Tries one message that somebody asked to redrive, in the order of the log. One that succeeds is parked no more; one that
 * fails stays, with the new error. A crash in between leaves it asked for.
 *
 * @returns the message and its error, if any; undefined when none is asked for, or another process is at it.
 */
export async function redriveOne(
  pool: Pool,
  group: string,
  handle: (parked: ParkedMessage) => Promise<void>,
): Promise<{ message: string; error?: unknown } | undefined> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query('BEGIN');
    // One process of the group at a time, in the order of the log: so each domain has its order here too.
    const { rows } = await client.query<ParkedMessage>(
      `SELECT ${columns} FROM parked_messages WHERE consumer_group = $1 AND redrive_asked_at IS NOT NULL
         AND (SELECT pg_try_advisory_xact_lock($2::int, hashtext($1)))
       ORDER BY (event->>'position')::bigint, parked_at LIMIT 1 FOR UPDATE`,
      [group, redriveLocks],
    );
    const parked = rows[0];
    if (!parked) {
      await client.query('ROLLBACK');
      return undefined;
    }
    const { message } = parked;
    try {
      await handle(parked);
    } catch (error) {
      await client.query(
        `UPDATE parked_messages SET error = $3, attempts = attempts + 1, redrive_asked_at = NULL
         WHERE consumer_group = $1 AND message = $2`,
        [group, message, describeError(error)],
      );
      await client.query('COMMIT');
      return { message, error };
    }
    await client.query('DELETE FROM parked_messages WHERE consumer_group = $1 AND message = $2', [group, message]);
    await client.query('COMMIT');
    return { message };
  } catch (error) {
    broken = error as Error;
    throw error;
  } finally {
    // A connection with an open transaction goes back to nobody.
    client.release(broken);
  }
}
