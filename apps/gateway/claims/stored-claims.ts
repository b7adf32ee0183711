import { Inject, Injectable } from '@nestjs/common';
import { inTransaction } from '@app/database';
import type { DomainMode } from '@app/mail-records';
import { domainStatusOf } from '@app/read-model';
import { Pool } from 'pg';
import { ApiError } from '../http/api-error';

/** The most claims that a team can have open. */
const openLimit = 20;
/** How long a claim stays open, and how long an ended one is kept, as PostgreSQL intervals. */
const openFor = '14 days';
const keptFor = '90 days';
/** First key of the advisory locks by which a team opens one claim at a time; the second is the hash of the team. */
const teamLocks = 1_129_464_141;

/** Why a claim has not succeeded. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
}

/**
 * `pending`: its record was not seen yet. `refused`: it was, and the name is not to be had yet. Both are open.
 * `failed`: it succeeded, and the domain could not be provisioned.
 */
export type ClaimStatus = 'pending' | 'refused' | 'succeeded' | 'failed' | 'expired';

export interface StoredClaim {
  readonly id: string;
  readonly team: string;
  readonly name: string;
  readonly mode: DomainMode;
  /** The domain that the claim becomes when it succeeds. */
  readonly domainId: string;
  readonly status: ClaimStatus;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  /** Null before the first look. */
  readonly lookedAt: Date | null;
  /** Why the last look did not lead to success. */
  readonly refusal: Refusal | null;
}

const became = domainStatusOf('c.domain_id');
const isOpen = `c.expires_at > now() AND ${became} IS NULL`;
const columns = `c.id, c.team, c.name, c.mode, c.domain_id AS "domainId", c.created_at AS "createdAt",
  c.expires_at AS "expiresAt", c.looked_at AS "lookedAt", c.refusal,
  CASE
    WHEN ${became} IN ('rolling_back', 'rolled_back') THEN 'failed'
    WHEN ${became} IS NOT NULL THEN 'succeeded'
    WHEN c.expires_at <= now() THEN 'expired'
    WHEN c.refusal ->> 'code' LIKE 'held_%' THEN 'refused'
    ELSE 'pending'
  END AS status`;

/** Keeps the claims of teams. They end by themselves, and whether one has succeeded is read from the domains. */
@Injectable()
export class StoredClaims {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Opens a claim. With the id of one that is there, does nothing.
   *
   * @throws {ApiError} `conflict` when the team has an open claim to the name, and `limit_exceeded`.
   */
  async open(claim: Pick<StoredClaim, 'id' | 'team' | 'name' | 'mode' | 'domainId'>): Promise<void> {
    const { id, team, name, mode, domainId } = claim;
    await inTransaction(this.pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock($1::int, hashtext($2))', [teamLocks, team]);
      const { rows } = await client.query<{ id: string; name: string }>(
        `SELECT c.id, c.name FROM domain_claims c WHERE c.team = $1 AND ${isOpen}`,
        [team],
      );
      if (rows.some((open) => open.id === id)) return;
      const same = rows.find((open) => open.name === name);
      if (same) throw new ApiError('conflict', `Your team claims ${name} already, as ${same.id}.`, { param: 'domain' });
      if (rows.length >= openLimit)
        throw new ApiError(
          'limit_exceeded',
          `Your team has ${openLimit} open claims, and that is the most. Withdraw one first.`,
          {
            count: { current: rows.length, limit: openLimit },
          },
        );
      await client.query(
        `INSERT INTO domain_claims (id, team, name, mode, domain_id, expires_at)
          VALUES ($1, $2, $3, $4, $5, now() + interval '${openFor}')`,
        [id, team, name, mode, domainId],
      );
    });
  }

  async find(id: string, team: string): Promise<StoredClaim | undefined> {
    const { rows } = await this.pool.query<StoredClaim>({
      name: 'claim-find',
      text: `SELECT ${columns} FROM domain_claims c WHERE c.id = $1 AND c.team = $2`,
      values: [id, team],
    });
    return rows[0];
  }

  /** Lists at most `limit` claims of a team, the newest first: those below the id `before`, if it is given. */
  async page(team: string, limit: number, before: string | undefined): Promise<StoredClaim[]> {
    const { rows } = await this.pool.query<StoredClaim>({
      name: 'claim-page',
      text: `SELECT ${columns} FROM domain_claims c WHERE c.team = $1 AND ($3::text IS NULL OR c.id < $3) ORDER BY c.id DESC LIMIT $2`,
      values: [team, limit, before ?? null],
    });
    return rows;
  }

  /** Keeps what the last look has led to; null where nothing stood in the way. */
  async note(id: string, refusal: Refusal | null): Promise<void> {
    await this.pool.query({
      name: 'claim-note',
      text: 'UPDATE domain_claims SET looked_at = now(), refusal = $2 WHERE id = $1',
      values: [id, refusal && JSON.stringify(refusal)],
    });
  }

  /** Removes claims of any team that have ended long ago. */
  async purge(): Promise<void> {
    await this.pool.query(`DELETE FROM domain_claims WHERE expires_at < now() - interval '${keptFor}'`);
  }

  /** @returns whether there was such a claim of the team. */
  async remove(id: string, team: string): Promise<boolean> {
    const { rowCount } = await this.pool.query('DELETE FROM domain_claims WHERE id = $1 AND team = $2', [id, team]);
    return rowCount === 1;
  }
}
