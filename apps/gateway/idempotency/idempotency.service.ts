import { createHash } from 'node:crypto';
import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { AddressRefused, MailboxRuleBroken } from '@app/mailbox';
import { Pool } from 'pg';
import { ApiError } from '../http/api-error';

/** How long an answer is kept (a PostgreSQL interval). */
const keptFor = '24 hours';
const purgeEveryMs = 3_600_000;

/** An answer that is worth keeping. */
export interface Answer {
  readonly status: number;
  readonly body: object;
  readonly etag: string | null;
}

/** What a request asks to be created, and under which key. */
export interface Wish {
  readonly team: string;
  /** The header as it came; undefined without one. */
  readonly key: string | undefined;
  readonly body: object;
  /** A new id; a repeated request goes on with that of the first. */
  readonly id: string;
  /** The longest that the creation may take, in milliseconds. */
  readonly withinMs: number;
}

/** A key that is this request's to answer. */
export interface HeldClaim {
  readonly team: string;
  readonly key: string;
  /**
   * The id that the creation uses: a claim that was left by a process that died comes with the id that it had, so that what
   * it made is found again instead of made twice.
   */
  readonly id: string;
  /** Tells this claim from a later one that has taken it over; as PostgreSQL writes it. */
  readonly until: string;
}

/** What a claim turned out to be. */
type Claim = { readonly answer: Answer } | HeldClaim;

/** `Idempotency-Key` of the requests that create something. The claims are in the database: they outlive the process that made them. */
@Injectable()
export class IdempotencyKeys implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly logger = new Logger(IdempotencyKeys.name);
  private timer: NodeJS.Timeout | undefined;

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Creates once for each key: a repeated request gets the first answer again. Without a key, creates.
   *
   * @param create may be called again with the id of a request that died; gives the answer, or throws.
   * @throws {ApiError} `invalid_parameter` for a key that is none, `idempotency_conflict`; and whatever `create` throws.
   */
  async once(
    { team, key, body, id, withinMs }: Wish,
    create: (id: string) => Promise<Answer>,
  ): Promise<Answer & { readonly isReplayed: boolean }> {
    if (key === undefined) return { ...(await create(id)), isReplayed: false };
    if (!/^[\x20-\x7e]{1,255}$/.test(key))
      throw new ApiError('invalid_parameter', 'An Idempotency-Key has 1 to 255 printable ASCII characters.', {
        param: 'Idempotency-Key',
      });
    const claim = await this.claim(team, key, body, id, withinMs);
    if ('answer' in claim) return { ...claim.answer, isReplayed: true };
    try {
      const answer = await create(claim.id);
      await this.keep(claim, answer);
      return { ...answer, isReplayed: false };
    } catch (error) {
      if (isRefusal(error)) await this.release(claim);
      else await this.handOver(claim);
      throw error;
    }
  }

  /**
   * Claims a key, or gives the answer that it got before.
   *
   * @param leaseMs after this long a claim without an answer was left by a process that died.
   * @throws {ApiError} `idempotency_conflict`: the key came with another body, or its first request still runs.
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
      // Released between the two statements: claim again.
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

  /** The outcome is final: the key gives this answer from now on. Of a claim that was taken over, nothing is kept. */
  async keep({ team, key, until }: HeldClaim, { status, body, etag }: Answer): Promise<void> {
    await this.pool.query({
      name: 'idempotency-keep',
      text: `UPDATE idempotency_keys SET status = $4, response = $5, etag = $6 WHERE ${isMine}`,
      values: [team, key, until, status, JSON.stringify(body), etag],
    });
  }

  /** Nothing has come of it: the key is as new. */
  async release({ team, key, until }: HeldClaim): Promise<void> {
    await this.pool.query(`DELETE FROM idempotency_keys WHERE ${isMine}`, [team, key, until]);
  }

  /** It is not known what has come of it: the next request with the key finds out, with the same id. */
  async handOver({ team, key, until }: HeldClaim): Promise<void> {
    await this.pool.query(`UPDATE idempotency_keys SET claimed_until = now() WHERE ${isMine}`, [team, key, until]);
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.purge();
    this.timer = setInterval(() => {
      this.purge().catch((error: Error) => this.logger.warn({ error: error.message }, 'old keys stay for now'));
    }, purgeEveryMs).unref();
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
  }

  private async purge(): Promise<void> {
    await this.pool.query(`DELETE FROM idempotency_keys AS held WHERE ${isOld}`);
  }
}

/** Nothing was created, and that is certain. */
const isRefusal = (error: unknown): boolean =>
  error instanceof MailboxRuleBroken ||
  error instanceof AddressRefused ||
  (error instanceof ApiError && error.code !== 'service_unavailable');

const isMine = 'team = $1 AND key = $2 AND claimed_until = $3::timestamptz AND status IS NULL';
const isOld = `held.created_at < now() - interval '${keptFor}'`;
