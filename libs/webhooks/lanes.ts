import { inTransaction } from '@app/database';
import { TaskList } from '@app/tasks';
import type { Pool } from 'pg';
import type { DeliveryStatus } from './deliveries';
import type { Lane, testType, WebhookType } from './event-types';
import { noticeKeyOf, webhookNotices, type WebhookNotice } from './notices';

/** Says which lane a process works on, and that it still holds it. */
export interface LaneKey {
  readonly webhook: string;
  readonly lane: Lane;
  readonly token: string;
}

/** An endpoint as the process that sends to it sees it. Secrets are nonce, ciphertext and tag. */
export interface Endpoint {
  readonly id: string;
  readonly team: string;
  readonly url: string;
  readonly secret: Buffer;
  readonly secretKeyId: string;
  /** The one before, which signs as well until `oldSecretUntil`; null where there is none. */
  readonly oldSecret: Buffer | null;
  readonly oldSecretKeyId: string | null;
  readonly oldSecretUntil: Date | null;
  /** The first failure after the last success; null while deliveries succeed. */
  readonly failingSince: Date | null;
  readonly version: number;
}

/** A lane that was claimed. */
export interface ClaimedLane extends LaneKey {
  /** Failures since the last success. */
  readonly failures: number;
  readonly endpoint: Endpoint;
}

/** A delivery that waits, as it is read for its tries. */
export interface WaitingDelivery {
  readonly id: string;
  readonly message: string;
  readonly type: WebhookType | typeof testType;
  /** Empty where it belongs to no replay. */
  readonly replay: string;
  readonly tries: number;
  readonly createdAt: Date;
  /** The span that has led to it, as W3C `traceparent`; null where that was not traced. */
  readonly traceparent: string | null;
}

/** The first deliveries of a subject, in their order. */
export interface DueSubject {
  readonly subject: string;
  /** What was put on until it was read: pass it on when the subject is recorded. */
  readonly additions: string;
  /** Empty where all have been removed. */
  readonly deliveries: WaitingDelivery[];
  /** Whether there may be more. */
  readonly more: boolean;
}

/** What is due on a lane. */
export interface DuePage {
  /** That of the endpoint; null where it is gone or disabled, or nothing is due. */
  readonly version: number | null;
  readonly subjects: DueSubject[];
  /** Whether as many subjects are due as may be read, so that there may be more. */
  readonly isFull: boolean;
}

/** The outcome of a try. */
export interface Outcome {
  readonly key: LaneKey;
  readonly id: string;
  /** `waiting`: it is tried again. */
  readonly status: DeliveryStatus;
  readonly tries: number;
  readonly durationMs: number;
  readonly responseStatus: number | null;
  readonly response: Buffer | null;
  readonly error: string | null;
}

/** What follows for a subject after the tries of those of its deliveries that were read. */
export interface SubjectOutcome {
  readonly key: LaneKey;
  readonly subject: string;
  readonly additions: string;
  /** Milliseconds until its next try; undefined where all that was read is done, and the subject with it. */
  readonly nextInMs: number | undefined;
}

/** How a lane is after some outcomes. */
export interface LaneOutcome {
  readonly key: LaneKey;
  readonly failures: number;
  /** Milliseconds for which nothing more is tried on this lane; undefined for none. */
  readonly pausedMs: number | undefined;
}

/**
 * Which lanes a process claims, each kind apart, so that none waits for another: those whose last try has not failed,
 * those that have failed of late, and those that have failed so often in a row that nobody may be there.
 */
export type LaneHealth = 'steady' | 'failing' | 'down';

/** Failures in a row after which a lane is down. */
export const downFailures = 3;

export function healthOf(failures: number): LaneHealth {
  if (failures === 0) return 'steady';
  return failures < downFailures ? 'failing' : 'down';
}

const ofHealth: Readonly<Record<LaneHealth, string>> = {
  steady: 'l.failures = 0',
  failing: `l.failures > 0 AND l.failures < ${downFailures}`,
  down: `l.failures >= ${downFailures}`,
};

/**
 * Gives processes the lanes on which something is due, each to one process at a time, and writes what became of the
 * tries. Everything is fenced by the token of the lease: what a process writes after another one has the lane changes
 * nothing.
 *
 * Statements lock lanes first and in their order, then deliveries and queues.
 */
export class WebhookLanes {
  private readonly tasks: TaskList;

  constructor(private readonly pool: Pool) {
    this.tasks = new TaskList(pool);
  }

  /**
   * Claims up to `limit` lanes of enabled endpoints for `leaseMs`, the one that is due longest first.
   *
   * @param keyIds of the keys that this process has. A lane of an endpoint whose secrets need another one is left to a
   * process that can sign; all are claimed where this is absent.
   */
  async claim(health: LaneHealth, limit: number, leaseMs: number, keyIds?: readonly string[]): Promise<ClaimedLane[]> {
    const { rows } = await this.pool.query<LaneKey & { failures: number } & Endpoint>({
      name: `webhooks-claim-${health}`,
      text: `
        WITH ${relaxed}, free AS MATERIALIZED (
          SELECT l.webhook, l.lane FROM webhook_lanes l JOIN webhooks w ON w.id = l.webhook AND w.enabled
            AND ($3::text[] IS NULL OR ${neededKeys} <@ $3)
          WHERE l.due <= now() AND (l.lease_until IS NULL OR l.lease_until <= now())
            AND (l.paused_until IS NULL OR l.paused_until <= now()) AND ${ofHealth[health]}
          ORDER BY l.due LIMIT $1 FOR UPDATE OF l SKIP LOCKED
        )
        UPDATE webhook_lanes l SET lease_token = gen_random_uuid(), lease_until = now() + $2 * interval '1 ms'
        FROM free JOIN webhooks w ON w.id = free.webhook, relaxed
        WHERE l.webhook = free.webhook AND l.lane = free.lane
        RETURNING l.webhook, l.lane, l.lease_token AS token, l.failures, ${endpointColumns}`,
      values: [limit, leaseMs, keyIds ?? null],
    });
    return rows.map(({ webhook, lane, token, failures, ...endpoint }) => ({
      webhook,
      lane,
      token,
      failures,
      endpoint,
    }));
  }

  /** Reads an enabled endpoint; undefined where it is gone or disabled. */
  async endpoint(id: string): Promise<Endpoint | undefined> {
    const { rows } = await this.pool.query<Endpoint>({
      name: 'webhooks-endpoint',
      text: `SELECT ${endpointColumns} FROM webhooks w WHERE w.id = $1 AND w.enabled`,
      values: [id],
    });
    return rows[0];
  }

  /** Extends leases. @returns the tokens of those that are still held. */
  async renew(lanes: readonly LaneKey[], leaseMs: number): Promise<Set<string>> {
    const { rows } = await this.pool.query<{ token: string }>({
      name: 'webhooks-renew',
      text: `
        WITH ${relaxed}, ${held()}
        UPDATE webhook_lanes l SET lease_until = now() + $4 * interval '1 ms'
        FROM held h, relaxed WHERE l.webhook = h.webhook AND l.lane = h.lane RETURNING l.lease_token AS token`,
      values: [...keysOf(lanes), leaseMs],
    });
    return new Set(rows.map(({ token }) => token));
  }

  /**
   * Reads the subjects of a lane that are due, the one that is due longest first.
   *
   * @param limit the most deliveries, which the subjects share, and those of one subject.
   * @param except subjects that are not read.
   */
  async due(
    { webhook, lane }: LaneKey,
    limit: { readonly all: number; readonly subject: number },
    except: readonly string[],
  ): Promise<DuePage> {
    const { rows } = await this.pool.query<
      WaitingDelivery & { subject: string; additions: string; share: number; endpoint: number | null }
    >({
      name: 'webhooks-due',
      text: `
        SELECT q.subject, q.additions, q.share, d.id, d.message, d.type, d.replay, d.tries,
          d.created_at AS "createdAt", d.traceparent,
          (SELECT version FROM webhooks WHERE id = $1 AND enabled) AS endpoint
        FROM (
          SELECT *, least($5::integer, $4::integer / count(*) OVER ())::integer AS share FROM (
            SELECT subject, additions, due FROM webhook_queues
            WHERE webhook = $1 AND lane = $2 AND due <= now() AND subject <> ALL ($3)
            ORDER BY due LIMIT $6
          ) first
        ) q
        LEFT JOIN LATERAL (
          SELECT * FROM webhook_deliveries d
          WHERE d.webhook = $1 AND d.lane = $2 AND d.subject = q.subject AND d.status = 'waiting'
          ORDER BY d.position LIMIT q.share
        ) d ON true
        ORDER BY q.due, q.subject, d.position`,
      values: [webhook, lane, except, limit.all, limit.subject, subjectsOf(limit.all)],
    });
    const subjects = new Map<string, DueSubject & { more: boolean }>();
    for (const { subject, additions, share, endpoint: _, ...delivery } of rows) {
      const found = subjects.get(subject) ?? { subject, additions, deliveries: [], more: false };
      if (delivery.id !== null) found.deliveries.push(delivery);
      found.more = found.deliveries.length === share;
      subjects.set(subject, found);
    }
    const all = [...subjects.values()];
    const isFull = all.length === subjectsOf(limit.all);
    return { version: rows[0]?.endpoint ?? null, subjects: all, isFull };
  }

  /**
   * Writes outcomes of tries, what follows for their subjects, and how their lanes are then, all or none. Those of a
   * lane that another process has now are left out.
   *
   * @returns the tokens of the lanes that this process still holds.
   */
  async record(
    lanes: readonly LaneOutcome[],
    outcomes: readonly Outcome[],
    subjects: readonly SubjectOutcome[],
  ): Promise<Set<string>> {
    const { rows } = await this.pool.query<{ token: string }>({
      name: 'webhooks-record',
      text: record,
      values: [
        ...keysOf(lanes.map(({ key }) => key)),
        lanes.map(({ failures }) => failures),
        lanes.map(({ pausedMs }) => pausedMs ?? null),
        outcomes.map(({ key }) => key.token),
        outcomes.map(({ key }) => key.webhook),
        outcomes.map(({ id }) => id),
        outcomes.map(({ status }) => status),
        outcomes.map(({ tries }) => tries),
        outcomes.map(({ durationMs }) => Math.round(durationMs)),
        outcomes.map(({ responseStatus }) => responseStatus),
        outcomes.map(({ response }) => response),
        outcomes.map(({ error }) => error),
        subjects.map(({ key }) => key.token),
        subjects.map(({ subject }) => subject),
        subjects.map(({ additions }) => additions),
        subjects.map(({ nextInMs }) => nextInMs ?? null),
      ],
    });
    return new Set(rows.map(({ token }) => token));
  }

  /**
   * Gives lanes back, each due when the first of its subjects is. One to which something was added meanwhile is kept.
   *
   * @returns the tokens of those that are still held.
   */
  async release(lanes: readonly LaneKey[]): Promise<Set<string>> {
    const { rows } = await this.pool.query<{ token: string }>({
      name: 'webhooks-release',
      text: release,
      values: keysOf(lanes),
    });
    return new Set(rows.map(({ token }) => token));
  }

  /** Notes that deliveries of an endpoint fail, from now on where they did not before, or that one has succeeded. */
  async noteHealth(webhook: string, isFailing: boolean): Promise<void> {
    await this.pool.query({
      name: `webhooks-note-${isFailing ? 'failing' : 'success'}`,
      text: isFailing
        ? 'UPDATE webhooks SET failing_since = now() WHERE id = $1 AND failing_since IS NULL'
        : 'UPDATE webhooks SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL',
      values: [webhook],
    });
  }

  /**
   * Disables an endpoint, and puts the notice to its owners on the list, in one transaction. What waits stays.
   *
   * @param version of the endpoint that has failed; one that was changed meanwhile stays enabled.
   * @param failingForMs how long nothing but failures there must have been, in milliseconds; 0 for `gone`.
   * @returns whether it was disabled.
   */
  async disable(
    webhook: string,
    version: number,
    because: WebhookNotice['because'],
    failingForMs: number,
  ): Promise<boolean> {
    return inTransaction(this.pool, async (client) => {
      const { rows } = await client.query<Omit<WebhookNotice, 'because' | 'webhook'>>(
        `UPDATE webhooks SET enabled = false, disabled_because = $3, version = version + 1, updated_at = now()
         WHERE id = $1 AND version = $2 AND enabled
           AND ($4::float8 = 0 OR failing_since <= now() - $4 * interval '1 ms')
         RETURNING team, url, version, updated_at AS at, coalesce(failing_since, updated_at) AS since`,
        [webhook, version, because, failingForMs],
      );
      if (!rows[0]) return false;
      const notice: WebhookNotice = { webhook, because, ...rows[0] };
      await this.tasks.put(webhookNotices, noticeKeyOf(notice), 'TellOfDisabledWebhook', notice, undefined, client);
      return true;
    });
  }

  /** Counts subjects that wait, by lane, with the seconds for which the one that is due longest has been due. */
  async waiting(): Promise<{ lane: Lane; subjects: number; oldestDueSeconds: number }[]> {
    const { rows } = await this.pool.query<{ lane: Lane; subjects: number; oldestDueSeconds: number }>(
      `SELECT q.lane, count(*)::int AS subjects,
         greatest(0, extract(epoch FROM now() - min(greatest(q.due, l.paused_until))))::float8 AS "oldestDueSeconds"
       FROM webhook_queues q JOIN webhooks w ON w.id = q.webhook AND w.enabled
       JOIN webhook_lanes l ON l.webhook = q.webhook AND l.lane = q.lane
       GROUP BY q.lane`,
    );
    return rows;
  }

  /** Counts the enabled endpoints whose secrets need a key that is not among these, by the id of that key. */
  async withoutKey(keyIds: readonly string[]): Promise<{ keyId: string; count: number }[]> {
    const { rows } = await this.pool.query<{ keyId: string; count: number }>(
      `SELECT needed AS "keyId", count(DISTINCT w.id)::int AS count FROM webhooks w, unnest(${neededKeys}) needed
       WHERE w.enabled AND needed <> ALL($1) GROUP BY needed ORDER BY needed`,
      [keyIds],
    );
    return rows;
  }

  /** Counts the endpoints that we have disabled, by why. */
  async disabled(): Promise<{ because: WebhookNotice['because']; count: number }[]> {
    const { rows } = await this.pool.query<{ because: WebhookNotice['because']; count: number }>(
      `SELECT disabled_because AS because, count(*)::int AS count FROM webhooks
       WHERE disabled_because IS NOT NULL AND NOT enabled GROUP BY disabled_because`,
    );
    return rows;
  }
}

/** Gives how many subjects share the deliveries of a page: several of each, since each subject costs a write too. */
const subjectsOf = (deliveries: number): number => Math.ceil(deliveries / 4);

const keysOf = (lanes: readonly LaneKey[]): unknown[][] => [
  lanes.map(({ webhook }) => webhook),
  lanes.map(({ lane }) => lane),
  lanes.map(({ token }) => token),
];

const endpointColumns = `w.id, w.team, w.url, w.secret, w.secret_key_id AS "secretKeyId", w.old_secret AS "oldSecret",
  w.old_secret_key_id AS "oldSecretKeyId", w.old_secret_until AS "oldSecretUntil",
  w.failing_since AS "failingSince", w.version`;

/** The ids of the keys of the secrets that sign: the newest, and in a rotation the one before. */
const neededKeys = `array_remove(
  ARRAY[w.secret_key_id, CASE WHEN w.old_secret_until > now() THEN w.old_secret_key_id END], NULL)`;

/**
 * Has the commit of this statement not wait for the disk: should the server lose it in a crash, a try is made again, as
 * it would be after a crash of ours.
 */
const relaxed = `
  relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))`;

/** Locks the lanes of the first three parameters that this process still holds. */
const held = (types = '', columns = ''): string => `
  held AS MATERIALIZED (
    SELECT l.webhook, l.lane, l.lease_token, l.additions${columns && `, ${columns.replace(/\w+/g, 'r.$&')}`}
    FROM unnest($1::text[], $2::text[], $3::uuid[]${types}) AS r (webhook, lane, token${columns && `, ${columns}`})
    JOIN webhook_lanes l ON l.webhook = r.webhook AND l.lane = r.lane AND l.lease_token = r.token
    ORDER BY l.webhook, l.lane FOR NO KEY UPDATE OF l
  )`;

const record = `
  WITH ${relaxed}, ${held(', $4::integer[], $5::float8[]', 'failures, paused_ms')},
  lanes AS (
    UPDATE webhook_lanes l SET failures = h.failures, paused_until = now() + h.paused_ms * interval '1 ms'
    FROM held h WHERE l.webhook = h.webhook AND l.lane = h.lane
      AND (l.failures <> h.failures OR l.paused_until IS NOT NULL OR h.paused_ms IS NOT NULL)
  ),
  tried AS (
    UPDATE webhook_deliveries d SET status = o.status, tries = o.tries, tried_at = now(), duration_ms = o.duration_ms,
      response_status = o.response_status, response = o.response, error = o.error
    FROM unnest($6::uuid[], $7::text[], $8::text[], $9::text[], $10::integer[], $11::integer[], $12::integer[],
        $13::bytea[], $14::text[])
      AS o (token, webhook, id, status, tries, duration_ms, response_status, response, error)
    JOIN held h ON h.lease_token = o.token
    WHERE d.webhook = o.webhook AND d.id = o.id AND d.lane = h.lane AND d.status = 'waiting'
    RETURNING d.lane, d.replay, d.status
  ),
  replays AS (
    UPDATE webhook_replays r SET delivered = r.delivered + c.delivered, failed = r.failed + c.failed
    FROM (
      SELECT replay, count(*) FILTER (WHERE status = 'delivered') AS delivered,
        count(*) FILTER (WHERE status = 'failed') AS failed
      FROM tried WHERE lane = 'replay' AND status <> 'waiting' GROUP BY replay
    ) c WHERE r.id = c.replay
  ),
  subjects AS MATERIALIZED (
    SELECT h.webhook, h.lane, s.subject, s.additions, s.next_ms
    FROM unnest($15::uuid[], $16::text[], $17::bigint[], $18::float8[]) AS s (token, subject, additions, next_ms)
    JOIN held h ON h.lease_token = s.token
  ),
  ended AS (
    DELETE FROM webhook_queues q USING subjects s
    WHERE s.next_ms IS NULL AND q.webhook = s.webhook AND q.lane = s.lane AND q.subject = s.subject
      AND q.additions = s.additions
  ),
  delayed AS (
    UPDATE webhook_queues q SET due = now() + s.next_ms * interval '1 ms' FROM subjects s
    WHERE s.next_ms IS NOT NULL AND q.webhook = s.webhook AND q.lane = s.lane AND q.subject = s.subject
  )
  SELECT lease_token AS token FROM held, relaxed`;

/** A lane to which something was added after this statement began is another version of its row, and stays held. */
const release = `
  WITH ${relaxed}, read AS MATERIALIZED (
    SELECT l.webhook, l.lane, l.lease_token, l.additions,
      (SELECT min(q.due) FROM webhook_queues q WHERE q.webhook = l.webhook AND q.lane = l.lane) AS due
    FROM unnest($1::text[], $2::text[], $3::uuid[]) AS r (webhook, lane, token)
    JOIN webhook_lanes l ON l.webhook = r.webhook AND l.lane = r.lane AND l.lease_token = r.token
  ),
  locked AS MATERIALIZED (
    SELECT l.webhook, l.lane, r.due FROM webhook_lanes l
    JOIN read r ON l.webhook = r.webhook AND l.lane = r.lane AND l.lease_token = r.lease_token
      AND l.additions = r.additions
    ORDER BY l.webhook, l.lane FOR NO KEY UPDATE OF l
  ),
  released AS (
    UPDATE webhook_lanes l SET lease_token = NULL, lease_until = NULL, due = k.due
    FROM locked k, relaxed WHERE l.webhook = k.webhook AND l.lane = k.lane
    RETURNING l.webhook, l.lane
  )
  SELECT r.lease_token AS token FROM read r
  WHERE NOT EXISTS (SELECT FROM released d WHERE d.webhook = r.webhook AND d.lane = r.lane)`;
