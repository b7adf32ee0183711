import { inTransaction, type Connection } from '@app/database';
import { newId } from '@app/runtime';
import { DatabaseError, type Pool } from 'pg';
import { WebhookDeliveries, type ReplayedMessage } from './deliveries';
import type { WebhookType } from './event-types';

/** The most deliveries of a replay that wait at a time. */
export const mostWaiting = 1_000;

/** Milliseconds by which the clock of whoever asks may be ahead of ours. */
const aheadMs = 5_000;

export type ReplayStatus = 'running' | 'stopped' | 'completed';

/** What is to be sent once more. */
export interface ReplayRequest {
  /** An id for the replay; a new one when absent. One that was begun with it before is given as it is. */
  readonly id?: string | undefined;
  /** The earliest time of an event, inclusive. */
  readonly from: Date;
  /** The end of the times, exclusive; the current time when absent. */
  readonly to?: Date | undefined;
  /** The types of messages; those that the endpoint gets when absent. */
  readonly types?: readonly WebhookType[] | undefined;
  /** The ids of domains, with the mailboxes on them; those of which the endpoint is told when absent. */
  readonly domains?: readonly string[] | undefined;
}

/** A part of the log: positions above `after`, up to and including `upTo`. */
export interface ReplaySpan {
  readonly after: number;
  readonly upTo: number;
}

export interface WebhookReplay {
  /** `rpl_…` */
  readonly id: string;
  readonly webhook: string;
  readonly from: Date;
  readonly to: Date;
  /** Null for all. */
  readonly types: WebhookType[] | null;
  /** Null for all. */
  readonly domains: string[] | null;
  readonly status: ReplayStatus;
  /** The part of the log that it reads, and the position up to which everything is put on. */
  readonly span: ReplaySpan;
  readonly position: number;
  /** Messages that were put on, and those of them that were delivered or have failed for good. */
  readonly queued: number;
  readonly delivered: number;
  readonly failed: number;
  readonly createdAt: Date;
  /** Null while it runs. */
  readonly endedAt: Date | null;
}

/** A replay that a process feeds, until its lease ends. */
export interface ClaimedReplay extends WebhookReplay {
  readonly team: string;
  readonly token: string;
  /** Its deliveries that wait. */
  readonly waiting: number;
}

/** Thrown when a replay cannot be begun. The message is for the customer. */
export class ReplayRefused extends Error {
  override readonly name = 'ReplayRefused';

  /** @param param the field of the request that is wrong; absent where another replay runs. */
  constructor(
    message: string,
    readonly param?: 'from' | 'to',
  ) {
    super(message);
  }
}

/**
 * Keeps the replays of endpoints: what they send once more, how far they have come, and who feeds them.
 *
 * Who locks a lane and a replay locks the lane first, as where outcomes are written.
 */
export class WebhookReplays {
  private readonly deliveries: WebhookDeliveries;

  constructor(private readonly pool: Pool) {
    this.deliveries = new WebhookDeliveries(pool);
  }

  /**
   * Begins a replay; it is fed from then on, while the endpoint is enabled.
   *
   * @param spanOf gives a part of the log that has all events of a range of times, and nothing that is not settled.
   * @returns undefined where there is no such endpoint.
   * @throws {ReplayRefused} when the times are no range of the past, or another replay of the endpoint runs.
   */
  async begin(
    webhook: string,
    { id = newId('rpl'), from, to, types, domains }: ReplayRequest,
    spanOf: (from: Date, to: Date) => Promise<ReplaySpan>,
    now = new Date(),
  ): Promise<WebhookReplay | undefined> {
    const latest = now.getTime() + aheadMs;
    if (from.getTime() > latest)
      throw new ReplayRefused('"from" is yet to come, so there is nothing to replay.', 'from');
    if (to && to.getTime() > latest)
      throw new ReplayRefused('"to" is yet to come. Leave it out to replay everything until now.', 'to');
    const end = to ?? new Date(Math.max(now.getTime(), from.getTime() + 1));
    if (from >= end) throw new ReplayRefused('"from" must be before "to".', 'from');
    const { after, upTo } = await spanOf(from, end);
    try {
      const { rows } = await this.pool.query<WebhookReplay & PositionsOfRow>({
        name: 'webhook-replay-begin',
        text: `
          INSERT INTO webhook_replays AS r
            (id, webhook, from_time, to_time, event_types, domains, begins_after, after, up_to)
          SELECT $2, w.id, $3, $4, coalesce($5::text[], w.event_types), coalesce($6::text[], w.domains), $7, $7, $8
          FROM webhooks w WHERE w.id = $1
          ON CONFLICT (id) DO NOTHING
          RETURNING ${columns}`,
        values: [webhook, id, from, end, types ?? null, domains ?? null, after, upTo],
      });
      return rows.map(replayOf)[0] ?? (await this.find(webhook, id));
    } catch (error) {
      if (error instanceof DatabaseError && error.constraint === 'webhook_replays_running')
        throw new ReplayRefused('Another replay of this endpoint is running. Stop it, or wait until it is completed.');
      throw error;
    }
  }

  /** Finds a replay of an endpoint. */
  async find(webhook: string, id: string): Promise<WebhookReplay | undefined> {
    const { rows } = await this.pool.query<WebhookReplay & PositionsOfRow>({
      name: 'webhook-replay',
      text: `SELECT ${columns} FROM webhook_replays r WHERE r.webhook = $1 AND r.id = $2`,
      values: [webhook, id],
    });
    return rows.map(replayOf)[0];
  }

  /** Lists at most `limit` replays of an endpoint, the newest first: those below the id `before`, if it is given. */
  async page(webhook: string, limit: number, before?: string): Promise<WebhookReplay[]> {
    const { rows } = await this.pool.query<WebhookReplay & PositionsOfRow>({
      name: 'webhook-replays',
      text: `SELECT ${columns} FROM webhook_replays r WHERE r.webhook = $1 AND ($3::text IS NULL OR r.id < $3)
        ORDER BY r.id DESC LIMIT $2`,
      values: [webhook, limit, before ?? null],
    });
    return rows.map(replayOf);
  }

  /**
   * Stops a replay, and removes what of it waits. A try that is under way may still arrive. One that has ended stays
   * as it is.
   *
   * @returns the replay after it; undefined where the endpoint has none of this id.
   */
  async stop(webhook: string, id: string): Promise<WebhookReplay | undefined> {
    await inTransaction(this.pool, async (client) => {
      // The lane has to be there, so that its lock holds back whoever feeds the replay.
      await client.query(`INSERT INTO webhook_lanes (webhook, lane) VALUES ($1, 'replay') ON CONFLICT DO NOTHING`, [
        webhook,
      ]);
      await client.query(`SELECT FROM webhook_lanes WHERE webhook = $1 AND lane = 'replay' FOR UPDATE`, [webhook]);
      const { rowCount } = await client.query(
        `UPDATE webhook_replays SET status = 'stopped', ended_at = now(), lease_token = NULL, lease_until = NULL
         WHERE webhook = $1 AND id = $2 AND status = 'running'`,
        [webhook, id],
      );
      if (rowCount === 0) return;
      // Whoever works on the lane has read messages of this replay, and sends them no more.
      await client.query(
        `UPDATE webhook_lanes SET lease_token = NULL, lease_until = NULL WHERE webhook = $1 AND lane = 'replay'`,
        [webhook],
      );
      await client.query(
        `DELETE FROM webhook_deliveries WHERE webhook = $1 AND lane = 'replay' AND replay = $2 AND status = 'waiting'`,
        [webhook, id],
      );
      await client.query(
        `DELETE FROM webhook_queues q WHERE webhook = $1 AND lane = 'replay' AND NOT EXISTS (
           SELECT FROM webhook_deliveries d
           WHERE d.webhook = q.webhook AND d.lane = q.lane AND d.subject = q.subject AND d.status = 'waiting'
         )`,
        [webhook],
      );
    });
    return this.find(webhook, id);
  }

  /** Claims up to `limit` due replays of enabled endpoints for `leaseMs`, the one first that is due longest. */
  async claim(limit: number, leaseMs: number): Promise<ClaimedReplay[]> {
    const { rows } = await this.pool.query<ClaimedReplay & PositionsOfRow>({
      name: 'webhook-replays-claim',
      text: `
        WITH free AS MATERIALIZED (
          SELECT r.id FROM webhook_replays r JOIN webhooks w ON w.id = r.webhook AND w.enabled
          WHERE r.status = 'running' AND r.due <= now() AND (r.lease_until IS NULL OR r.lease_until <= now())
          ORDER BY r.due LIMIT $1 FOR UPDATE OF r SKIP LOCKED
        )
        UPDATE webhook_replays r SET lease_token = gen_random_uuid(), lease_until = now() + $2 * interval '1 ms'
        FROM free, webhooks w WHERE r.id = free.id AND w.id = r.webhook
        RETURNING ${columns}, w.team, r.lease_token AS token, (
          SELECT count(*)::int FROM webhook_deliveries d
          WHERE d.webhook = r.webhook AND d.lane = 'replay' AND d.replay = r.id AND d.status = 'waiting'
        ) AS waiting`,
      values: [limit, leaseMs],
    });
    return rows.map(replayOf);
  }

  /**
   * Puts the next messages of a replay on its lane, and notes how far it has come, both or neither.
   *
   * @param upTo the position up to which these are all that there is.
   * @returns whether the lease was still held; nothing was put on where it was not.
   */
  async feed(
    { webhook, id, token }: ClaimedReplay,
    messages: readonly ReplayedMessage[],
    upTo: number,
  ): Promise<boolean> {
    try {
      await inTransaction(this.pool, async (client) => {
        const queued = messages.length > 0 ? await this.deliveries.enqueueReplay(webhook, id, messages, client) : 0;
        const { rowCount } = await client.query(
          `UPDATE webhook_replays SET after = greatest(after, $3), queued = queued + $4
           WHERE id = $1 AND lease_token = $2 AND status = 'running'`,
          [id, token, upTo, queued],
        );
        if (rowCount === 0) throw new LeaseLost();
      });
      return true;
    } catch (error) {
      if (error instanceof LeaseLost) return false;
      throw error;
    }
  }

  /**
   * Gives a replay back. One of which everything is put on and nothing waits is completed; another one is due again
   * after `pauseMs`.
   */
  async release({ id, token }: ClaimedReplay, pauseMs: number): Promise<void> {
    await this.pool.query({
      name: 'webhook-replay-release',
      text: `
        WITH done AS (
          SELECT r.after >= r.up_to AND NOT EXISTS (
            SELECT FROM webhook_deliveries d
            WHERE d.webhook = r.webhook AND d.lane = 'replay' AND d.replay = r.id AND d.status = 'waiting'
          ) AS done FROM webhook_replays r WHERE r.id = $1
        )
        UPDATE webhook_replays r SET lease_token = NULL, lease_until = NULL, due = now() + $3 * interval '1 ms',
          status = CASE WHEN done THEN 'completed' ELSE status END, ended_at = CASE WHEN done THEN now() END
        FROM done WHERE r.id = $1 AND r.lease_token = $2 AND r.status = 'running'`,
      values: [id, token, pauseMs],
    });
  }
}

class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

interface PositionsOfRow {
  readonly beginsAfter: number;
  readonly upTo: number;
}

const columns = `r.id, r.webhook, r.from_time AS "from", r.to_time AS "to", r.event_types AS types, r.domains, r.status,
  r.begins_after::float8 AS "beginsAfter", r.after::float8 AS position, r.up_to::float8 AS "upTo",
  r.queued, r.delivered, r.failed, r.created_at AS "createdAt", r.ended_at AS "endedAt"`;

const replayOf = <Row extends WebhookReplay>({ beginsAfter, upTo, ...row }: Row & PositionsOfRow) => ({
  ...(row as unknown as Row),
  span: { after: beginsAfter, upTo },
});

/** Gives a running replay that has not come to a position of the log; undefined where there is none. */
export async function replayBefore(database: Pick<Connection, 'query'>, position: number): Promise<string | undefined> {
  const { rows } = await database.query<{ id: string }>(
    `SELECT id FROM webhook_replays WHERE status = 'running' AND after < $1 LIMIT 1`,
    [position],
  );
  return rows[0]?.id;
}
