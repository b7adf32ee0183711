import { Inject, Injectable } from '@nestjs/common';
import type { Connection } from '@app/database';
import { Pool } from 'pg';

/** What a team can have only so many of; also the table that has a row for each of them. */
export const quotaKinds = ['domains', 'mailboxes'] as const;
export type QuotaKind = (typeof quotaKinds)[number];
/** The word for one of a kind. */
export const singular: Readonly<Record<QuotaKind, string>> = { domains: 'domain', mailboxes: 'mailbox' };

/** The condition for a row that holds a place: a domain whose name is reserved, a mailbox that is there. */
export const holding = `status NOT IN ('rolled_back', 'deleted')`;

/** The column by which people know what a row stands for. */
const nameOf: Record<QuotaKind, string> = { domains: 'name', mailboxes: 'address' };

/** What runs statements: a connection, or a migration. */
interface Queries {
  query(text: string, values: string[]): Promise<unknown>;
}

export interface QuotaUse {
  readonly current: number;
  /** Null where there is no limit: no gateway has been started yet. */
  readonly limit: number | null;
}
export type QuotaUses = Readonly<Record<QuotaKind, QuotaUse>>;

/** The limits of the settings. */
export interface CommonQuotas {
  /** The most that a team can have for which an operator has set no other limit. */
  readonly perTeam: Readonly<Record<QuotaKind, number>>;
  /** The most domains that all teams can have together. */
  readonly domainsInAll: number;
}

const uses = `SELECT jsonb_object_agg(kind, jsonb_build_object(
    'current', coalesce(held.used, 0), 'limit', coalesce(held.allowed, common.per_team))) AS uses
  FROM unnest($1::text[]) WITH ORDINALITY AS given (team, place) CROSS JOIN common_quotas AS common
  LEFT JOIN team_quotas AS held USING (kind, team) GROUP BY place ORDER BY place`;

/** Reads and sets how many domains and mailboxes teams may have. Triggers count what they have, and hold the limits. */
@Injectable()
export class Quotas {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /** Gives what a team has and may have. One that never had anything has 0, whether it is there or not. */
  async of(team: string): Promise<QuotaUses> {
    const [only] = await this.ofAll([team]);
    return only!;
  }

  /** Gives what some teams have and may have, in their order. */
  ofAll(teams: readonly string[]): Promise<QuotaUses[]> {
    return usesOf(this.pool, teams);
  }

  /** Gives how many domains all teams have together, and may have. */
  async domainsInAll(): Promise<QuotaUse> {
    const { rows } = await this.pool.query<QuotaUse>(
      `SELECT used AS current, in_all AS limit FROM common_quotas WHERE kind = 'domains'`,
    );
    return rows[0]!;
  }

  /** Gives the teams whose own limit would let them have all the domains that there may be, the least id first. */
  async unboundedTeams(): Promise<{ readonly team: string; readonly quota: number; readonly limit: number }[]> {
    const { rows } = await this.pool.query<{ team: string; quota: number; limit: number }>(
      `SELECT team, allowed AS quota, in_all AS limit FROM team_quotas JOIN common_quotas USING (kind)
        WHERE kind = 'domains' AND allowed >= in_all ORDER BY team`,
    );
    return rows;
  }

  /** Stores the limits of the settings, which apply to the next creations, of whichever process. */
  async setCommon({ perTeam, domainsInAll }: CommonQuotas): Promise<void> {
    await this.pool.query(
      `UPDATE common_quotas SET per_team = CASE kind WHEN 'domains' THEN $1::integer ELSE $2::integer END,
        in_all = CASE kind WHEN 'domains' THEN $3::integer END`,
      [perTeam.domains, perTeam.mailboxes, domainsInAll],
    );
  }
}

/**
 * Sets how many a team may have; null for as many as the settings say. What the team has beyond it stays.
 *
 * @param client a transaction in which the team is locked, so that it is not deleted meanwhile.
 */
export async function allow(client: Connection, team: string, kind: QuotaKind, most: number | null): Promise<void> {
  await client.query(
    `INSERT INTO team_quotas AS held (kind, team, allowed) VALUES ($1, $2, $3)
      ON CONFLICT (kind, team) DO UPDATE SET allowed = excluded.allowed`,
    [kind, team, most],
  );
}

/**
 * Gives the most domains that all teams can have together, which stays as it is until the transaction ends; null where
 * there is no limit. Within a transaction, it is called after what changes the row of a team: creations lock in that
 * order too.
 */
export async function heldDomainsInAll(client: Connection): Promise<number | null> {
  const { rows } = await client.query<{ limit: number | null }>(
    `SELECT in_all AS limit FROM common_quotas WHERE kind = 'domains' FOR SHARE`,
  );
  return rows[0]!.limit;
}

/**
 * Ends all creations of a team, those under way too: either they are committed, and counted in what is given, or they
 * find that the team may have nothing.
 */
export async function closeQuotas(client: Connection, team: string): Promise<QuotaUses> {
  for (const kind of quotaKinds) await allow(client, team, kind, 0);
  const [only] = await usesOf(client, [team]);
  return only!;
}

async function usesOf(client: Pick<Connection, 'query'>, teams: readonly string[]): Promise<QuotaUses[]> {
  const { rows } = await client.query<{ uses: QuotaUses }>({ name: 'quota-uses', text: uses, values: [teams] });
  return rows.map(({ uses }) => uses);
}

/** Names what a team has, the oldest first, with the status. */
export async function heldBy(
  client: Connection,
  kind: QuotaKind,
  team: string,
  limit: number,
): Promise<{ readonly name: string; readonly status: string }[]> {
  const { rows } = await client.query<{ name: string; status: string }>(
    `SELECT ${nameOf[kind]} AS name, status FROM ${kind} WHERE team = $1 AND ${holding} ORDER BY id LIMIT $2`,
    [team, limit],
  );
  return rows;
}

/**
 * Counts anew what the teams have.
 *
 * @param client a transaction in which nobody else can write to the table of the kind.
 * @param table the table whose rows are counted.
 */
export async function recountQuotas(client: Queries, kind: QuotaKind, table: string = kind): Promise<void> {
  await client.query(
    `INSERT INTO team_quotas AS held (kind, team, used)
      SELECT $1::text, team, coalesce(counted.used, 0)
      FROM (SELECT team, count(*)::integer AS used FROM ${table} WHERE ${holding} GROUP BY team) AS counted
      FULL JOIN (SELECT team, used FROM team_quotas WHERE kind = $1) AS known USING (team)
      WHERE coalesce(counted.used, 0) IS DISTINCT FROM known.used ORDER BY team
      ON CONFLICT (kind, team) DO UPDATE SET used = excluded.used`,
    [kind],
  );
  await client.query(
    `UPDATE common_quotas SET used = (SELECT coalesce(sum(used), 0) FROM team_quotas WHERE kind = $1)
      WHERE kind = $1 AND used IS NOT NULL`,
    [kind],
  );
}
