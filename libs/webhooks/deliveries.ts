import type { Connection } from '@app/database';
import { newId } from '@app/runtime';
import { carried } from '@app/tracing';
import type { Pool } from 'pg';
import { testType, type Lane, type WebhookType } from './event-types';

/** Milliseconds for which deliveries are kept; older events are not put on any more. */
export const keptMs = 30 * 86_400_000;

/** The most messages in one statement. */
const batchLimit = 500;

/** A message about an event, for whichever endpoints want it. */
export interface Message {
  readonly team: string;
  /** The id of the domain that it is about, or that its mailbox belongs to; null for a mailbox without one. */
  readonly domain: string | null;
  /** The id of the event, such as `mdom_…/12`. */
  readonly message: string;
  readonly type: WebhookType;
  /** The stream of the event. */
  readonly subject: string;
  readonly version: number;
  readonly position: number;
  /** ISO 8601. */
  readonly occurredAt: string;
  /** The span that has led to it, as W3C `traceparent`; that of the caller when absent. */
  readonly traceparent?: string | undefined;
}

/** A message of a replay, for its endpoint alone. */
export type ReplayedMessage = Omit<Message, 'team' | 'domain'>;

export type DeliveryStatus = 'waiting' | 'delivered' | 'failed';

/** A message to an endpoint, as its team sees it. */
export interface Delivery {
  readonly id: string;
  readonly lane: Lane;
  /** Null where it belongs to no replay. */
  readonly replay: string | null;
  readonly message: string;
  readonly type: WebhookType | typeof testType;
  readonly subject: string;
  readonly status: DeliveryStatus;
  readonly tries: number;
  readonly triedAt: Date | null;
  /** Milliseconds that the last try took. */
  readonly durationMs: number | null;
  readonly responseStatus: number | null;
  /** The first KiB of the last answer. */
  readonly response: Buffer | null;
  /** Why the last try failed. */
  readonly error: string | null;
  /** The time of the next try; null where none is due, or an earlier message of its subject comes first. */
  readonly nextTryAt: Date | null;
  readonly createdAt: Date;
}

/** How many deliveries were put on a lane. */
export interface Added {
  readonly webhook: string;
  readonly lane: Lane;
  readonly count: number;
}

interface Waiting {
  readonly message: Message;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Puts messages on the lanes of endpoints, and shows what became of them. */
export class WebhookDeliveries {
  private waiting: Waiting[] = [];
  private sending = false;

  /** @param added is told of what this object has put on. */
  constructor(
    private readonly pool: Pool,
    private readonly added: (lanes: readonly Added[]) => void = () => undefined,
  ) {}

  /**
   * Puts a message on the lane `live` of each enabled endpoint of its team that wants it, once. Messages that wait at
   * the same time go in one statement.
   */
  enqueue(message: Message): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ message: { ...carried(), ...message }, resolve, reject });
      if (!this.sending) void this.send();
    });
  }

  /**
   * Puts messages on the lane `replay` of an endpoint, each once for a replay.
   *
   * @param client with a transaction in which they are put on, after whose end the caller tells whom it concerns; none
   * when absent.
   * @returns how many were put on.
   */
  async enqueueReplay(
    webhook: string,
    replay: string,
    messages: readonly ReplayedMessage[],
    client: Pick<Connection, 'query'> = this.pool,
  ): Promise<number> {
    const { rows } = await client.query<Added>({
      name: 'webhooks-enqueue-replay',
      text: enqueueReplay,
      values: [webhook, replay, ...columnsOf(messages)],
    });
    if (client === this.pool) this.added(rows);
    return rows.reduce((sum, { count }) => sum + count, 0);
  }

  /**
   * Puts a message of the type `sendmux.test` on the lane `requested`, once for each id of a message.
   *
   * @returns the id of the delivery.
   */
  async enqueueTest(webhook: string, message = newId('msg')): Promise<string> {
    const id = newId('wdlv');
    const { rows } = await this.pool.query<Added>({
      name: 'webhooks-enqueue-test',
      text: enqueueTest,
      values: [webhook, id, message, testType, carried()?.traceparent ?? null],
    });
    this.added(rows);
    return id;
  }

  /**
   * Has a message delivered once more, on the lane `requested`. One that still waits keeps its place, and is tried at
   * once.
   *
   * @returns whether the endpoint has such a delivery.
   */
  async redeliver(webhook: string, id: string): Promise<boolean> {
    const again = await this.pool.query<Added>({
      name: 'webhooks-redeliver',
      text: redeliver,
      values: [webhook, id],
    });
    if (again.rows.length > 0) {
      this.added(again.rows);
      return true;
    }
    const { rows } = await this.pool.query<Added>({
      name: 'webhooks-try-now',
      text: tryNow,
      values: [webhook, id],
    });
    this.added(rows);
    return rows.length > 0;
  }

  /** Finds a delivery of an endpoint. */
  async find(webhook: string, id: string): Promise<Delivery | undefined> {
    const { rows } = await this.pool.query<Delivery>({
      name: 'webhooks-delivery',
      text: `SELECT ${deliveryColumns} FROM webhook_deliveries d ${withQueue} WHERE d.webhook = $1 AND d.id = $2`,
      values: [webhook, id],
    });
    return rows[0];
  }

  /** Lists at most `limit` deliveries of an endpoint, the newest first: those below the id `before`, if it is given. */
  async page(
    webhook: string,
    limit: number,
    {
      before,
      status,
      type,
    }: { readonly before?: string; readonly status?: DeliveryStatus; readonly type?: string } = {},
  ): Promise<Delivery[]> {
    const { rows } = await this.pool.query<Delivery>({
      name: `webhooks-deliveries-${status ?? 'all'}`,
      // The index of those that failed is used only by a statement that names the status.
      text: `
        SELECT ${deliveryColumns} FROM webhook_deliveries d ${withQueue}
        WHERE d.webhook = $1 AND d.id < coalesce($3, '~') AND d.id >= $5
          AND ($4::text IS NULL OR d.type = $4) ${status ? `AND d.status = '${status}'` : ''}
        ORDER BY d.id DESC LIMIT $2`,
      values: [webhook, limit, before ?? null, type ?? null, oldestId()],
    });
    return rows;
  }

  /**
   * Removes deliveries that are older than 30 days, and all that is left of endpoints that are gone, in small
   * statements.
   *
   * @param limit the most deliveries of one statement.
   * @returns how many deliveries were removed.
   */
  async removeOld(signal?: AbortSignal, limit = 1_000): Promise<number> {
    let removed = 0;
    for (let after = ''; !signal?.aborted;) {
      const { rows } = await this.pool.query<{ webhook: string; exists: boolean }>(
        `SELECT webhook, EXISTS (SELECT FROM webhooks w WHERE w.id = webhook) AS exists
         FROM webhook_deliveries WHERE webhook > $1 ORDER BY webhook LIMIT 1`,
        [after],
      );
      if (!rows[0]) break;
      const { webhook, exists } = rows[0];
      for (let count = limit; count === limit && !signal?.aborted;) {
        const { rowCount } = await this.pool.query(
          `DELETE FROM webhook_deliveries WHERE webhook = $1 AND id IN
             (SELECT id FROM webhook_deliveries WHERE webhook = $1 AND id < $2 ORDER BY id LIMIT $3)`,
          [webhook, exists ? oldestId() : '~', limit],
        );
        removed += count = rowCount ?? 0;
      }
      after = webhook;
    }
    for (const table of ['webhook_queues', 'webhook_lanes', 'webhook_replays'])
      await this.pool.query(`DELETE FROM ${table} q WHERE NOT EXISTS (SELECT FROM webhooks w WHERE w.id = q.webhook)`);
    return removed;
  }

  private async send(): Promise<void> {
    this.sending = true;
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, batchLimit);
      try {
        const messages = batch.map(({ message }) => message);
        const { rows } = await this.pool.query<Added>({
          name: 'webhooks-enqueue',
          text: enqueue,
          values: [messages.map(({ team }) => team), messages.map(({ domain }) => domain), ...columnsOf(messages)],
        });
        for (const { resolve } of batch) resolve();
        this.added(rows);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.sending = false;
  }
}

/** Gives the lowest id that a delivery of the last 30 days can have. */
const oldestId = (): string => newId('wdlv', Date.now() - keptMs).slice(0, -16);

/** The columns of messages as parameters, with a new id of a delivery for each. */
const columnsOf = (messages: readonly ReplayedMessage[]): unknown[][] => [
  messages.map(() => newId('wdlv')),
  messages.map(({ message }) => message),
  messages.map(({ type }) => type),
  messages.map(({ subject }) => subject),
  messages.map(({ version }) => version),
  messages.map(({ position }) => position),
  messages.map(({ occurredAt }) => occurredAt),
  messages.map(({ traceparent }) => traceparent ?? null),
];

const messageColumns = 'id, message, type, subject, version, position, occurred_at, traceparent';
const messageTypes = (first: number): string =>
  ['text', 'text', 'text', 'text', 'integer', 'bigint', 'timestamptz', 'text']
    .map((type, i) => `$${first + i}::${type}[]`)
    .join(', ');

/**
 * Puts rows on their lanes and queues. Lanes are locked before queues, and in their order, as everywhere. What is there
 * already adds nothing, so that a message that comes again is sent no second time.
 *
 * @param added a statement that puts deliveries on, and gives webhook, lane and subject of each.
 */
const putOn = (added: string): string => `
  WITH added AS (${added}),
  woken AS (
    INSERT INTO webhook_lanes AS l (webhook, lane, due, additions)
    SELECT webhook, lane, now(), count(*) FROM added GROUP BY webhook, lane ORDER BY webhook, lane
    ON CONFLICT (webhook, lane) DO UPDATE SET
      due = least(l.due, excluded.due), additions = l.additions + excluded.additions
    RETURNING webhook, lane, additions
  ),
  queued AS (
    INSERT INTO webhook_queues (webhook, lane, subject, additions)
    SELECT DISTINCT webhook, lane, subject, additions FROM added JOIN woken USING (webhook, lane)
    ORDER BY webhook, lane, subject
    ON CONFLICT (webhook, lane, subject) DO UPDATE SET additions = excluded.additions
  )
  SELECT webhook, lane, count(*)::int AS count FROM added GROUP BY webhook, lane`;

const insertion = `
  INSERT INTO webhook_deliveries (webhook, lane, replay, ${messageColumns})`;
const returning = 'ON CONFLICT (webhook, replay, message) DO NOTHING RETURNING webhook, lane, subject';

const enqueue = putOn(`
  ${insertion}
  SELECT w.id, 'live', '', m.id, m.message, m.type, m.subject, m.version, m.position, m.occurred_at, m.traceparent
  FROM unnest($1::text[], $2::text[], ${messageTypes(3)}) AS m (team, domain, ${messageColumns})
  JOIN webhooks w ON w.team = m.team AND w.enabled AND w.from_position < m.position
    AND (w.event_types IS NULL OR m.type = ANY (w.event_types))
    AND (w.domains IS NULL OR m.domain = ANY (w.domains))
  WHERE m.occurred_at > now() - ${keptMs} * interval '1 ms'
  ${returning}`);

const enqueueReplay = putOn(`
  ${insertion}
  SELECT $1, 'replay', $2, m.* FROM unnest(${messageTypes(3)}) AS m (${messageColumns})
  ${returning}`);

/** What is requested has no place in the log: its subjects go in the order of the requests. */
const requestedNow = '(extract(epoch FROM clock_timestamp()) * 1000000)::bigint';

const enqueueTest = putOn(`
  ${insertion}
  VALUES ($1, 'requested', '', $2, $3, $4, $1, 0, ${requestedNow}, now(), $5)
  ${returning}`);

const redeliver = putOn(`
  UPDATE webhook_deliveries
  SET lane = 'requested', status = 'waiting', tries = 0, position = ${requestedNow}
  WHERE webhook = $1 AND id = $2 AND status <> 'waiting'
  RETURNING webhook, lane, subject`);

const tryNow = `
  WITH found AS (
    SELECT webhook, lane, subject FROM webhook_deliveries WHERE webhook = $1 AND id = $2 AND status = 'waiting'
  ),
  woken AS (
    UPDATE webhook_lanes l SET due = now(), additions = additions + 1, paused_until = NULL
    FROM found f WHERE l.webhook = f.webhook AND l.lane = f.lane RETURNING l.webhook
  ),
  queued AS (
    UPDATE webhook_queues q SET due = now()
    FROM found f JOIN woken USING (webhook) WHERE q.webhook = f.webhook AND q.lane = f.lane AND q.subject = f.subject
  )
  SELECT webhook, lane, 0 AS count FROM found`;

const deliveryColumns = `
  d.id, d.lane, nullif(d.replay, '') AS replay, d.message, d.type, d.subject, d.status, d.tries,
  d.tried_at AS "triedAt", d.duration_ms AS "durationMs", d.response_status AS "responseStatus", d.response, d.error,
  d.created_at AS "createdAt", q.due AS "nextTryAt"`;

/** The queue of a delivery that is the first of it. */
const withQueue = `
  LEFT JOIN webhook_queues q ON d.status = 'waiting'
    AND q.webhook = d.webhook AND q.lane = d.lane AND q.subject = d.subject
    AND NOT EXISTS (
      SELECT FROM webhook_deliveries e
      WHERE e.webhook = d.webhook AND e.lane = d.lane AND e.subject = d.subject AND e.status = 'waiting'
        AND e.position < d.position
    )`;

/** Gives a message of an event up to a position that waits to be delivered; undefined where there is none. */
export async function messageBefore(
  database: Pick<Connection, 'query'>,
  position: number,
): Promise<{ readonly webhook: string; readonly message: string } | undefined> {
  const { rows } = await database.query<{ webhook: string; message: string }>(
    `SELECT webhook, message FROM webhook_deliveries WHERE status = 'waiting' AND position <= $1 LIMIT 1`,
    [position],
  );
  return rows[0];
}

/**
 * Gives the deliveries of some events the names that their messages have in an epoch of the log. A message of the
 * history that was lost, which an endpoint may have got, has another one.
 *
 * @param events their streams and versions, side by side.
 * @returns how many deliveries there are.
 */
export async function nameDeliveries(
  client: Connection,
  epoch: number,
  { streams, versions }: { readonly streams: readonly string[]; readonly versions: readonly number[] },
): Promise<number> {
  const { rowCount } = await client.query(
    `UPDATE webhook_deliveries AS d SET message = e.stream || '/' || e.version || '/' || $1::bigint
     FROM unnest($2::text[], $3::int[]) AS e (stream, version) WHERE d.subject = e.stream AND d.version = e.version`,
    [epoch, streams, versions],
  );
  return rowCount ?? 0;
}
