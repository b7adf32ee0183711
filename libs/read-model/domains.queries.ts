import { Inject, Injectable } from '@nestjs/common';
import { ofAnyLength, Together } from '@app/database';
import { Pool } from 'pg';
import type { MailDomain } from '@app/mail-domain';
import type { DomainMode, SesDkimStatus, SesMailFromStatus, SesStanding } from '@app/mail-records';
import { holding } from './quotas';
import { domainRow, domainsProjection, type LastLook } from './domains.projection';

/** A domain as its team sees it, from provisioned until deleted. */
export interface DomainView {
  readonly id: string;
  readonly name: string;
  readonly team: string;
  readonly status: 'pending' | 'verified' | 'failed' | 'deleting';
  readonly mode: DomainMode;
  readonly sesDkimStatus: SesDkimStatus;
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
  readonly sesRegion: string;
  /** The shard of SES that has its identity. */
  readonly sesShard: string;
  /** The DKIM records of an identity in another shard that the domain moves to; null where it does not. */
  readonly nextDkim: { readonly dkimTokens: readonly string[]; readonly dkimZone: string } | null;
  /** Null until a look has asked. */
  readonly sesMailFromStatus: SesMailFromStatus | null;
  /** Null until a look has asked. */
  readonly sesIdentity: SesStanding | null;
  /** Null before the first look. */
  readonly lastLook: LastLook | null;
  readonly verifiedAt: Date | null;
  /** The time of the last recorded look. */
  readonly checkedAt: Date | null;
  /** Null for Sendmux SES. */
  readonly outboundProvider: string | null;
  readonly createdAt: Date;
  /** Null where it could always receive, or only sends. */
  readonly receivingSince: Date | null;
  /** Active mailboxes on it. */
  readonly mailboxCount: number;
  readonly version: number;
}

/** What a list of domains is limited to. */
export interface DomainFilter {
  /** The id of the last domain of the page before. */
  readonly before?: string | undefined;
  /** As the API shows it: a domain that is being deleted is pending. */
  readonly status?: 'pending' | 'verified' | 'failed' | undefined;
  readonly mode?: DomainMode | undefined;
  /** A part of the name: lower case, with letters, digits, hyphens and dots only. */
  readonly namePart?: string | undefined;
}

/** A domain that was never verified. */
export interface ExpiringDomain {
  readonly id: string;
  readonly addedAt: Date;
  /** Null until it was announced. */
  readonly expiresAt: Date | null;
}

/** Gives the SQL expression for the Region of the domain with the id of a column; null where it has none. */
export const sesRegionOf = (column: string): string => `(SELECT ses_region FROM domains WHERE domains.id = ${column})`;

/** Gives the SQL expression for the status of the domain with the id of a column; null where there is none. */
export const domainStatusOf = (column: string): string => `(SELECT status FROM domains WHERE domains.id = ${column})`;

/** Gives the SQL condition that there is no domain any more, or none yet, of the id that an expression gives. */
export const isGoneSql = (id: string): string =>
  `NOT EXISTS (SELECT FROM domains d WHERE d.id = ${id} AND d.${holding})`;

const visibleStatuses: readonly string[] = [
  'pending',
  'verified',
  'failed',
  'deleting',
] satisfies DomainView['status'][];
/** The status that customers see. Indexes have the same expression. */
export const shownStatus = `(CASE status WHEN 'deleting' THEN 'pending' ELSE status END)`;
const visible = `status IN (${visibleStatuses.map((status) => `'${status}'`).join(', ')})`;
/** The condition of the unique index on names. A query with the same condition can use that index. */
const reserving = `status NOT IN ('rolled_back', 'deleted', 'released')`;

/** The column of each field of a view. */
const columnOf: Record<Exclude<keyof DomainView, 'mailboxCount'>, string> = {
  id: 'id',
  name: 'name',
  team: 'team',
  status: 'status',
  mode: 'mode',
  sesDkimStatus: 'ses_dkim_status',
  dkimTokens: 'dkim_tokens',
  dkimZone: 'dkim_zone',
  sesRegion: 'ses_region',
  sesShard: 'ses_shard',
  nextDkim: 'next_dkim',
  sesMailFromStatus: 'ses_mail_from_status',
  sesIdentity: 'ses_identity',
  lastLook: 'last_look',
  verifiedAt: 'verified_at',
  checkedAt: 'checked_at',
  createdAt: 'created_at',
  receivingSince: 'receiving_since',
  outboundProvider: 'outbound_provider',
  version: 'version',
};
const columns = Object.entries(columnOf)
  .map(([field, column]) => `${column} AS "${field}"`)
  .concat(
    `(SELECT count(*)::int FROM mailboxes m WHERE m.domain_id = domains.id AND m.status = 'active') AS "mailboxCount"`,
  )
  .join(', ');

const viewFields = Object.entries(columnOf).map(([field, column]) => ({
  field,
  column,
  isTime: domainsProjection.columns[column] === 'timestamptz',
}));

/** Gives what a read of the row of a state gives, without a mailbox; undefined for a state that no read shows. */
export function domainView(state: MailDomain, version: number): DomainView | undefined {
  if (state.status === 'absent' || !visibleStatuses.includes(state.status)) return undefined;
  // No view shows the time of the last event, so any time will do.
  const row = domainRow(state, version, state.addedAt);
  const view: Record<string, unknown> = { mailboxCount: 0 };
  for (const { field, column, isTime } of viewFields) {
    const value = row[column];
    view[field] = isTime && value !== null ? new Date(value as string) : value;
  }
  return view as unknown as DomainView;
}

/** A domain, for as long as it is this team's. */
type OfTeam = Pick<DomainView, 'id' | 'team'>;

const textOf = ({ id, team }: OfTeam): string => `${id} ${team}`;

/** The domain that reserves a name. */
interface Holder {
  readonly id: string;
  readonly team: string;
  readonly status: string;
}

/** Reads the `domains` table. Teams see no domain that is not provisioned completely. */
@Injectable()
export class DomainsReadModel {
  private readonly wanted = new Together<OfTeam, DomainView>(textOf, (wanted) => this.findAll(wanted));
  private readonly holders = new Together<string, Holder>(
    (name) => name,
    (names) => this.holdersOf(names),
  );

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Finds a team's domain. Gives undefined both when there is none and when it is another team's, so that the two
   * cannot be told apart.
   */
  find(id: string, team: string): Promise<DomainView | undefined> {
    return this.wanted.of({ id, team });
  }

  private async findAll(wanted: readonly OfTeam[]): Promise<Map<string, DomainView>> {
    const { rows } = await this.pool.query<DomainView>({
      name: 'domains-find',
      text: `SELECT ${columns} FROM domains
        WHERE id = ANY (${ofAnyLength('$1', 'text')}) AND team = ANY (${ofAnyLength('$2', 'text')}) AND ${visible}`,
      values: [wanted.map(({ id }) => id), wanted.map(({ team }) => team)],
    });
    return new Map(rows.map((view) => [textOf(view), view]));
  }

  /** Tells whether a domain is or was the team's, whatever its status. */
  async isOf(id: string, team: string): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'domain-of-team',
      text: 'SELECT FROM domains WHERE id = $1 AND team = $2',
      values: [id, team],
    });
    return rowCount === 1;
  }

  /** Gives those of the ids that are or were domains of the team, whatever their status. */
  async thoseOf(ids: readonly string[], team: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>({
      name: 'domains-of-team',
      text: 'SELECT id FROM domains WHERE id = ANY($1) AND team = $2',
      values: [ids, team],
    });
    return rows.map(({ id }) => id);
  }

  /**
   * Lists at most `limit` domains of a team, the newest first: those below the id `before`, with the status and the
   * mode, and with the part of a name, as far as these are given.
   */
  async page(
    team: string,
    limit: number,
    { before, status, mode, namePart }: DomainFilter = {},
  ): Promise<DomainView[]> {
    const values: unknown[] = [team, limit];
    const conditions: string[] = [];
    const names: string[] = ['domain-page'];
    const demand = (name: string, value: string | undefined, condition: (parameter: string) => string) => {
      if (value === undefined) return;
      conditions.push(`AND ${condition(`$${values.push(value)}`)}`);
      names.push(name);
    };
    demand('before', before, (id) => `id < ${id}`);
    demand('status', status, (wanted) => `${shownStatus} = ${wanted}`);
    demand('mode', mode, (wanted) => `mode = ${wanted}`);
    demand('name', namePart, (part) => `name LIKE '%' || ${part} || '%'`);
    const { rows } = await this.pool.query<DomainView>({
      // How rare a part of a name is decides which index fits, so that statement is planned for each part anew.
      ...(namePart === undefined && { name: names.join('-') }),
      text: `SELECT ${columns} FROM domains
        WHERE team = $1 AND ${visible} ${conditions.join(' ')} ORDER BY id DESC LIMIT $2`,
      values,
    });
    return rows;
  }

  /**
   * Finds the team's domain of a name, on which a mailbox can be created; null when the team has none. The status of a
   * domain that only sends is `send_only`.
   */
  async homeOf(name: string, team: string): Promise<{ domainId: string; status: string } | null> {
    const { rows } = await this.pool.query<{ domainId: string; status: string }>({
      name: 'domain-home',
      text: `SELECT id AS "domainId", CASE mode WHEN 'send_only' THEN mode ELSE status END AS status FROM domains
        WHERE name = $1 AND ${reserving} AND team = $2 AND ${visible}`,
      values: [name, team],
    });
    return rows[0] ?? null;
  }

  /**
   * Tells whether a domain of the team was verified before, is pending now, and had its last look at or before `at`.
   * Within a cycle from then it fails or is verified again.
   *
   * @param at ISO 8601.
   */
  async hasFirstStrikes(team: string, at: string): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'domain-first-strikes',
      text: `SELECT FROM domains
        WHERE team = $1 AND status = 'pending' AND verified_at IS NOT NULL AND checked_at <= $2 LIMIT 1`,
      values: [team, at],
    });
    return rowCount === 1;
  }

  /**
   * Finds the newest domain with this id or name, whatever its status, including deleted and rolled back ones.
   *
   * @param idOrName a name in any case.
   */
  async newestIdOf(idOrName: string): Promise<string | undefined> {
    const { rows } = await this.pool.query<{ id: string }>(
      'SELECT id FROM domains WHERE id = $1 OR name = lower($1) ORDER BY created_at DESC, id DESC LIMIT 1',
      [idOrName],
    );
    return rows[0]?.id;
  }

  /**
   * Gives ids of domains that were never verified, and that were added at or before `addedBy` without an announced
   * expiry, or expire at or before `now`. In the order of the ids: at most `limit`, above the id `after`.
   */
  async neverVerified(addedBy: Date, now: Date, after: string, limit: number): Promise<ExpiringDomain[]> {
    const { rows } = await this.pool.query<ExpiringDomain>({
      name: 'domain-never-verified',
      text: `SELECT id, created_at AS "addedAt", expires_at AS "expiresAt" FROM domains
        WHERE status = 'pending' AND first_verified_at IS NULL AND id > $3
          AND (expires_at <= $2 OR (expires_at IS NULL AND created_at <= $1)) ORDER BY id LIMIT $4`,
      values: [addedBy, now, after, limit],
    });
    return rows;
  }

  /**
   * Gives ids of domains in a shard of SES that could be moved to another one, and of which no move is under way. In
   * their order: at most `limit`, above the id `after`.
   */
  async movable(shard: string, after: string, limit: number): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>(
      `SELECT id FROM domains WHERE ses_shard = $1 AND ses_other_shard IS NULL AND id > $2
        AND status IN ('pending', 'verified', 'failed') ORDER BY id LIMIT $3`,
      [shard, after, limit],
    );
    return rows.map(({ id }) => id);
  }

  /** Counts the domains of a shard that could be moved, and those that move to another one. */
  async movesFrom(shard: string): Promise<{ readonly movable: number; readonly moving: number }> {
    const { rows } = await this.pool.query<{ movable: number; moving: number }>(
      `SELECT count(*) FILTER (WHERE ses_other_shard IS NULL)::integer AS movable,
          count(*) FILTER (WHERE ses_other_shard IS NOT NULL)::integer AS moving
        FROM domains WHERE ses_shard = $1 AND status IN ('pending', 'verified', 'failed')`,
      [shard],
    );
    return rows[0]!;
  }

  /** Finds the domain that reserves a name, whatever its status. */
  holderOf(name: string): Promise<Holder | undefined> {
    return this.holders.of(name);
  }

  private async holdersOf(names: readonly string[]): Promise<Map<string, Holder>> {
    const { rows } = await this.pool.query<Holder & { name: string }>({
      name: 'domain-holders',
      text: `SELECT name, id, team, status FROM domains
        WHERE name = ANY (${ofAnyLength('$1', 'text')}) AND ${reserving}`,
      values: [names],
    });
    return new Map(rows.map(({ name, ...holder }) => [name, holder]));
  }

  /** Gives the ids of all domains of a team, those that are gone too. */
  async everOf(team: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>('SELECT id FROM domains WHERE team = $1 ORDER BY id', [
      team,
    ]);
    return rows.map(({ id }) => id);
  }

  /** Gives the ids of the domains that have or had a name, the oldest first. */
  async everNamed(name: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>(
      'SELECT id FROM domains WHERE name = $1 ORDER BY created_at, id',
      [name],
    );
    return rows.map(({ id }) => id);
  }

  /** The teams of all domains whose names are reserved, by the id of the domain. */
  async teams(): Promise<Map<string, string>> {
    const { rows } = await this.pool.query<{ id: string; team: string }>(
      `SELECT id, team FROM domains WHERE ${reserving}`,
    );
    return new Map(rows.map(({ id, team }) => [id, team]));
  }
}
