import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { InstallationFull, QuotaExceeded } from '@app/commands';
import { AddressRefused, MailboxRuleBroken } from '@app/mailbox';
import { backOffMs } from '@app/runtime';
import { ReplayRefused, WebhookRuleBroken } from '@app/webhooks';
import { Pool } from 'pg';
import { AllShardsClosed } from '../domains/open-shards';
import { ApiError } from '../http/api-error';

/** How long an answer is kept, as a PostgreSQL interval. */
const keptFor = '24 hours';
const purgeEveryMs = 3_600_000;
/** Wait after an attempt to free a claim that the database has not taken. */
const freeing = { baseMs: 100, capMs: 1_000 };

/** An answer that is kept for its key. */
export interface Answer {
  readonly status: number;
  readonly body: object;
  readonly etag: string | null;
}

/** The creation that a request asks for, with its key. */
export interface CreationRequest {
  readonly team: string;
  /** What is done. Keys of different operations have nothing to do with each other. */
  readonly operation:
    | 'addDomain'
    | 'claimDomain'
    | 'createMailbox'
    | 'createWebhook'
    | 'rotateWebhookSecret'
    | 'testWebhook'
    | 'redeliverWebhook'
    | 'replayWebhook';
  /** The header as it was sent; undefined without one. */
  readonly key: string | undefined;
  readonly body: object;
  readonly requestId: string;
  /** A new id. A repeated request continues with the id of the first one. */
  readonly id: string;
  /** The longest that the creation may take, in milliseconds. */
  readonly withinMs: number;
}

/** A claim that this request holds. */
export interface HeldClaim {
  readonly team: string;
  readonly key: string;
  /**
   * The id for the creation. A claim that was left by a process that died keeps its id, so that what was created is
   * found and not created twice.
   */
  readonly id: string;
  /**
   * The end of the lease as PostgreSQL writes it. It distinguishes this claim from a later one that has taken it over.
   */
  readonly until: string;
}

/** The result of a claim: the kept answer, or a claim that this request now holds. */
type Claim = { readonly answer: Answer } | HeldClaim;

/**
 * Makes creations idempotent by `Idempotency-Key`. The claims are in the database, since they must outlive the process.
 */
@Injectable()
export class IdempotencyKeys implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly logger = new Logger(IdempotencyKeys.name);
  private timer: NodeJS.Timeout | undefined;
  private isOver = false;

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Creates once for each key: a repeated request gets the first answer again, with its own request id. Without a key,
   * creates every time.
   *
   * @param create gives the answer or throws; may be called again with the id of a request whose process died.
   * @throws {ApiError} `invalid_parameter` for a malformed key, `idempotency_conflict`; and whatever `create` throws.
   */
  async once(
    { team, operation, key, body, requestId, id, withinMs }: CreationRequest,
    create: (id: string) => Promise<Answer>,
  ): Promise<Answer & { readonly isReplayed: boolean }> {
    if (key === undefined) return { ...(await create(id)), isReplayed: false };
    if (!/^[\x20-\x7e]{1,255}$/.test(key))
      throw new ApiError('invalid_parameter', 'An Idempotency-Key has 1 to 255 printable ASCII characters.', {
        param: 'Idempotency-Key',
      });
    const claim = await this.claim(team, scopedKey(operation, key), body, id, withinMs);
    if ('answer' in claim) return { ...withRequestId(claim.answer, requestId), isReplayed: true };
    try {
      const answer = await create(claim.id);
      await this.keep(claim, answer);
      return { ...answer, isReplayed: false };
    } catch (error) {
      // The caller gets the first error at once.
      const free = () => (isRefusal(error) ? this.release(claim) : this.endLease(claim));
      await free().catch((failure: Error) => {
        this.logger.warn({ error: failure.message }, 'a claim on an Idempotency-Key stays for now');
        void this.freeLater(free, withinMs);
      });
      throw error;
    }
  }

  /**
   * Claims a key, or gives the answer that is kept for it.
   *
   * @param key with its operation, as it is stored.
   * @param leaseMs milliseconds after which a claim without an answer counts as left by a process that died.
   * @throws {ApiError} `idempotency_conflict`: the key was sent with another body, or its first request still runs.
   */
  async claim(team: string, key: string, body: object, id: string, leaseMs: number): Promise<Claim> {
    const hash = createHash('sha256').update(JSON.stringify(body)).digest();
    for (;;) {
      const { rows: claimed } = await this.pool.query<{ id: string; until: string }>({
        name: 'idempotency-claim',
        text: `INSERT INTO idempotency_keys AS held (team, key, body_hash, created_id, claimed_until)
          VALUES ($1, $2, $3, $4, now() + $5 * interval '1 millisecond')
          ON CONFLICT (team, key) DO UPDATE SET
            body_hash = EXCLUDED.body_hash,
            claimed_until = EXCLUDED.claimed_until,
            created_id = CASE WHEN ${isOld} THEN EXCLUDED.created_id ELSE held.created_id END,
            created_at = CASE WHEN ${isOld} THEN now() ELSE held.created_at END,
            status = NULL,
            response = NULL,
            etag = NULL
          WHERE ${isOld}
            OR (held.status IS NULL AND held.claimed_until <= now() AND held.body_hash = EXCLUDED.body_hash)
          RETURNING created_id AS id, claimed_until::text AS until`,
        values: [team, key, hash, id, leaseMs],
      });
      if (claimed[0]) return { team, key, id: claimed[0].id, until: claimed[0].until };

      const { rows } = await this.pool.query<Omit<Answer, 'status'> & { same: boolean; status: number | null }>({
        name: 'idempotency-read',
        text: `SELECT body_hash = $3 AS same, status, response AS body, etag
          FROM idempotency_keys WHERE team = $1 AND key = $2`,
        values: [team, key, hash],
      });
      const held = rows[0];
      // The claim was released between the two statements: claim again.
      if (!held) continue;
      if (!held.same)
        throw new ApiError('idempotency_conflict', 'This Idempotency-Key was used with another body. Use a new one.', {
          param: 'Idempotency-Key',
        });
      if (held.status === null)
        throw new ApiError('idempotency_conflict', 'The first request with this Idempotency-Key still runs.', {
          param: 'Idempotency-Key',
          retryable: true,
          retryAfter: 2,
        });
      return { answer: { status: held.status, body: held.body, etag: held.etag } };
    }
  }

  /** Keeps the final answer for the key. Has no effect when the claim was taken over. */
  async keep({ team, key, until }: HeldClaim, { status, body, etag }: Answer): Promise<void> {
    await this.pool.query({
      name: 'idempotency-keep',
      text: `UPDATE idempotency_keys SET status = $4, response = $5, etag = $6 WHERE ${isMine}`,
      values: [team, key, until, status, JSON.stringify(body), etag],
    });
  }

  /** Removes the claim after a creation that certainly had no effect, so that the key can be used again. */
  async release({ team, key, until }: HeldClaim): Promise<void> {
    await this.pool.query(`DELETE FROM idempotency_keys WHERE ${isMine}`, [team, key, until]);
  }

  /**
   * Ends the lease after a creation whose outcome is unknown: the next request with the key continues with the same id.
   */
  async endLease({ team, key, until }: HeldClaim): Promise<void> {
    await this.pool.query(`UPDATE idempotency_keys SET claimed_until = now() WHERE ${isMine}`, [team, key, until]);
  }

  /**
   * Frees a claim as soon as the database takes it, so that the repeated request need not wait until the lease ends. It
   * never rejects, and gives up when the lease is over.
   */
  private async freeLater(free: () => Promise<void>, leaseMs: number): Promise<void> {
    const until = performance.now() + leaseMs;
    for (let failures = 1, isFree = false; !isFree && !this.isOver && performance.now() < until; failures++) {
      await delay(backOffMs(freeing, failures), undefined, { ref: false });
      isFree = await free().then(
        () => true,
        () => false,
      );
    }
  }

  onApplicationBootstrap(): void {
    void this.purge();
    this.timer = setInterval(() => void this.purge(), purgeEveryMs).unref();
  }

  onModuleDestroy(): void {
    this.isOver = true;
    clearInterval(this.timer);
  }

  /** Deletes keys that are too old to be replayed. It never rejects: a key that stays is taken for old all the same. */
  private async purge(): Promise<void> {
    await this.pool
      .query(`DELETE FROM idempotency_keys AS held WHERE ${isOld}`)
      .catch((error: Error) => this.logger.warn({ error: error.message }, 'old keys stay for now'));
  }
}

/** The key as it is stored: unique within a team. */
const scopedKey = (operation: CreationRequest['operation'], key: string): string => `${operation} ${key}`;

/** The id in an answer is that of the request that is answered, as is the header `X-Request-Id`. */
function withRequestId({ body, ...answer }: Answer, requestId: string): Answer {
  const { meta } = body as { meta?: object };
  return { ...answer, body: { ...body, ...(meta && { meta: { ...meta, request_id: requestId } }) } };
}

/** Recognises errors after which it is certain that nothing was created. */
const isRefusal = (error: unknown): boolean =>
  error instanceof MailboxRuleBroken ||
  error instanceof AddressRefused ||
  error instanceof QuotaExceeded ||
  error instanceof InstallationFull ||
  error instanceof AllShardsClosed ||
  error instanceof WebhookRuleBroken ||
  error instanceof ReplayRefused ||
  (error instanceof ApiError && error.code !== 'service_unavailable');

const isMine = 'team = $1 AND key = $2 AND claimed_until = $3::timestamptz AND status IS NULL';
const isOld = `held.created_at < now() - interval '${keptFor}'`;
