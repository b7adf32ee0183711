import { inTransaction, type Connection } from '@app/database';
import { eventId, EventStore, type Epoch, type RecordedEvent } from '@app/event-store';
import type { Pool, QueryResult, QueryResultRow } from 'pg';
import type { ReceivedMessage } from './cloud-event';
import { describeError } from './describe-error';

export type Query = <Row extends QueryResultRow>(text: string, values?: unknown[]) => Promise<QueryResult<Row>>;

/** A whole message of a topic that is not an event; `key` and `value` are base64. */
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
  /** The id of the event, or `topic/partition/offset` of a message that is not an event. Unique in its group. */
  readonly message: string;
  /** The type of the event; null when the message could not be read. */
  readonly type: string | null;
  /** The event, or null when the message is not an event. Either this or `raw` is present. */
  readonly event: RecordedEvent | null;
  readonly raw: RawMessage | null;
  readonly error: string;
  /** Calls of the handler so far. */
  readonly attempts: number;
  readonly parkedAt: Date;
  /** When an operator requested another attempt that has not been made yet; null otherwise. */
  readonly redriveAskedAt: Date | null;
}

/** What is parked of a message; the error and the attempts are added when it has failed. */
export type MessageToPark = Pick<ParkedMessage, 'message' | 'type' | 'event' | 'raw'>;

export const parkedEvent = (event: RecordedEvent): MessageToPark => ({
  message: eventId(event),
  type: event.type,
  event,
  raw: null,
});

export const parkedRaw = (topic: string, received: ReceivedMessage, type: string | undefined): MessageToPark => ({
  message: `${topic}/${received.partition}/${received.offset}`,
  type: type ?? null,
  event: null,
  raw: {
    topic,
    partition: received.partition,
    offset: received.offset,
    headers: received.headers,
    key: received.key?.toString('base64') ?? null,
    value: received.value?.toString('base64') ?? null,
  },
});

const columns = `consumer_group AS "group", message, type, event, raw, error, attempts, parked_at AS "parkedAt",
  redrive_asked_at AS "redriveAskedAt"`;

/**
 * Stores the messages that consumers could not handle, and the events that brokers refuse, with their errors. They wait
 * for an operator while later messages are handled.
 */
export class ParkedMessages {
  constructor(private readonly query: Query) {}

  /** Counts the parked messages of each group that has any, by its name. */
  async counts(): Promise<{ group: string; count: number }[]> {
    const { rows } = await this.query<{ group: string; count: number }>(
      'SELECT consumer_group AS "group", count(*)::int AS count FROM parked_messages GROUP BY 1 ORDER BY 1',
      [],
    );
    return rows;
  }

  async park(group: string, what: MessageToPark, error: unknown, attempts: number): Promise<void> {
    await this.query(
      `INSERT INTO parked_messages AS parked
         (consumer_group, message, type, event, raw, error, attempts, stream, position)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       ON CONFLICT (consumer_group, message) DO UPDATE SET
         error = excluded.error, attempts = parked.attempts + excluded.attempts, parked_at = now()`,
      [
        group,
        what.message,
        what.type?.replaceAll('\0', '') ?? null,
        // The column is json, which accepts an escaped NUL. The text columns accept no NUL.
        what.event && JSON.stringify(what.event),
        what.raw && JSON.stringify(what.raw),
        describeError(error),
        attempts,
        what.event?.stream ?? null,
        what.event?.position ?? null,
      ],
    );
  }

  /**
   * Parks events that wait for an earlier one of their stream, so that a redrive keeps the order. Those that are parked
   * already stay as they are.
   */
  async parkBehind(group: string, events: readonly RecordedEvent[]): Promise<void> {
    await this.query(
      `INSERT INTO parked_messages (consumer_group, message, type, event, error, attempts, stream, position)
       SELECT $1, message, type, event, 'It waits for an earlier event of ' || stream || '.', 0, stream, position
       FROM unnest($2::text[], $3::text[], $4::json[], $5::text[], $6::bigint[])
         AS waiting(message, type, event, stream, position)
       ON CONFLICT (consumer_group, message) DO NOTHING`,
      [
        group,
        events.map(eventId),
        events.map(({ type }) => type),
        events.map((event) => JSON.stringify(event)),
        events.map(({ stream }) => stream),
        events.map(({ position }) => position),
      ],
    );
  }

  /** Gives the streams of which events are parked. */
  async streams(group: string): Promise<string[]> {
    const { rows } = await this.query<{ stream: string }>(
      'SELECT DISTINCT stream FROM parked_messages WHERE consumer_group = $1 AND stream IS NOT NULL',
      [group],
    );
    return rows.map(({ stream }) => stream);
  }

  /**
   * Gives the first parked events of one stream of which a redrive is requested, in their order; none where no redrive
   * is requested. A request for any event of a stream counts for all of them.
   */
  async toRedrive(group: string, limit: number): Promise<RecordedEvent[]> {
    const { rows } = await this.query<{ event: RecordedEvent }>(
      `SELECT event FROM parked_messages WHERE consumer_group = $1 AND stream = (
         SELECT stream FROM parked_messages WHERE consumer_group = $1 AND redrive_asked_at IS NOT NULL
           AND stream IS NOT NULL
         ORDER BY redrive_asked_at, stream LIMIT 1
       ) ORDER BY position LIMIT $2`,
      [group, limit],
    );
    return rows.map(({ event }) => event);
  }

  /**
   * Removes parked events of one stream that are delivered, and has the later ones of the stream redriven too.
   *
   * @returns whether events of the stream are still parked.
   */
  async delivered(group: string, stream: string, events: readonly RecordedEvent[]): Promise<boolean> {
    const { rows } = await this.query(
      `WITH gone AS (
         DELETE FROM parked_messages WHERE consumer_group = $1 AND stream = $2 AND message = ANY ($3)
       ) UPDATE parked_messages SET redrive_asked_at = now()
       WHERE consumer_group = $1 AND stream = $2 AND message <> ALL ($3) RETURNING message`,
      [group, stream, events.map(eventId)],
    );
    return rows.length > 0;
  }

  /** Notes that a redrive of an event has failed: it and the later ones of its stream wait for the next request. */
  async failedAgain(group: string, event: RecordedEvent, error: unknown): Promise<void> {
    await this.query(
      `UPDATE parked_messages SET redrive_asked_at = NULL,
         error = CASE WHEN message = $3 THEN $4 ELSE error END,
         attempts = attempts + (message = $3)::int
       WHERE consumer_group = $1 AND stream = $2`,
      [group, event.stream, eventId(event), describeError(error)],
    );
  }

  /** Removes all parked messages of the group. */
  async forget(group: string): Promise<void> {
    await this.query('DELETE FROM parked_messages WHERE consumer_group = $1', [group]);
  }

  /** Lists parked messages, the oldest first. */
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

  /** Requests another attempt at these messages, or at all of the group. Returns the ones that exist. */
  async askToRedrive(group: string, messages: readonly string[] | 'all'): Promise<string[]> {
    const { rows } = await this.query<{ message: string }>(
      `UPDATE parked_messages SET redrive_asked_at = now()
       WHERE consumer_group = $1 AND ($2::text[] IS NULL OR message = ANY ($2)) RETURNING message`,
      [group, messages === 'all' ? null : messages],
    );
    return rows.map(({ message }) => message);
  }

  /** Counts the parked messages of the group. */
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
 * Makes one requested attempt at a parked message, in the order of the log. A message that succeeds is removed; one
 * that fails stays, with the new error. After a crash in between the request remains.
 *
 * @returns the message and its error, if any; undefined when no attempt is requested, or another process is making one.
 */
export function redriveOne(
  pool: Pool,
  group: string,
  handle: (parked: ParkedMessage) => Promise<void>,
): Promise<{ message: string; error?: unknown } | undefined> {
  return inTransaction(pool, async (client) => {
    // One process of the group at a time makes attempts, in the order of the log, so that the events of a domain keep
    // their order.
    const { rows } = await client.query<ParkedMessage>(
      `SELECT ${columns} FROM parked_messages WHERE consumer_group = $1 AND redrive_asked_at IS NOT NULL
         AND (SELECT pg_try_advisory_xact_lock($2::int, hashtext($1)))
       ORDER BY position, parked_at LIMIT 1 FOR UPDATE`,
      [group, redriveLocks],
    );
    const parked = rows[0];
    if (!parked) return undefined;
    const { message } = parked;
    try {
      await handle(parked);
    } catch (error) {
      await client.query(
        `UPDATE parked_messages SET error = $3, attempts = attempts + 1, redrive_asked_at = NULL
         WHERE consumer_group = $1 AND message = $2`,
        [group, message, describeError(error)],
      );
      return { message, error };
    }
    await client.query('DELETE FROM parked_messages WHERE consumer_group = $1 AND message = $2', [group, message]);
    return { message };
  });
}

/** Parked events that are read at once. */
const alignedAtOnce = 500;

/**
 * Gives parked events of some types the data and the schema version that they have in the log, where those differ: the
 * topic may have them as they were before they were amended. To do so again changes nothing.
 */
export async function alignParkedEvents(pool: Pool, types: readonly string[]): Promise<void> {
  const store = new EventStore(pool);
  for (let after = { group: '', message: '' }; ;) {
    const { rows } = await pool.query<{ group: string; message: string; event: RecordedEvent }>(
      `SELECT consumer_group AS "group", message, event FROM parked_messages
       WHERE event IS NOT NULL AND type = ANY ($1) AND (consumer_group, message) > ($2, $3)
       ORDER BY consumer_group, message LIMIT $4`,
      [types, after.group, after.message, alignedAtOnce],
    );
    for (const { group, message, event } of rows) {
      const [recorded] = await store.readStream(event.stream, event.version, 1);
      if (recorded?.version !== event.version || recorded.schemaVersion === event.schemaVersion) continue;
      const { data, schemaVersion } = recorded;
      await pool.query('UPDATE parked_messages SET event = $3 WHERE consumer_group = $1 AND message = $2', [
        group,
        message,
        JSON.stringify({ ...event, data, schemaVersion }),
      ]);
    }
    if (rows.length < alignedAtOnce) return;
    after = rows.at(-1)!;
  }
}

/**
 * Gives the parked events of an epoch that begins the names that they have in it, so that what comes again is known.
 *
 * @returns how many there are.
 */
export async function nameParkedEvents(client: Connection, epoch: Epoch): Promise<number> {
  const { rows } = await client.query<{ group: string; message: string; event: RecordedEvent }>(
    `SELECT consumer_group AS "group", message, event FROM parked_messages WHERE position > $1 AND event IS NOT NULL`,
    [epoch.after],
  );
  for (const { group, message, event } of rows)
    await client.query(
      'UPDATE parked_messages SET message = $3, event = $4 WHERE consumer_group = $1 AND message = $2',
      [group, message, eventId({ ...event, epoch }), JSON.stringify({ ...event, epoch })],
    );
  return rows.length;
}
