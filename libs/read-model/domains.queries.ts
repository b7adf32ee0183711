import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';
import type { MailDomain, SesDkimStatus } from '@app/mail-domain';
import { domainRow, domainsProjection } from './domains.projection';

/** A domain as its team sees it: from provisioned until gone. */
export interface DomainView {
  readonly id: string;
  readonly name: string;
  readonly team: string;
  readonly status: 'pending' | 'verified' | 'failed' | 'deleting';
  readonly sesDkimStatus: SesDkimStatus;
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
  readonly verifiedAt: Date | null;
  /** Of the last recorded check. */
  readonly checkedAt: Date | null;
  /** Null for Sendmux SES. */
  readonly outboundProvider: string | null;
  readonly createdAt: Date;
  readonly version: number;
}

const visibleStatuses: readonly string[] = [
  'pending',
  'verified',
  'failed',
  'deleting',
] satisfies DomainView['status'][];
const visible = `status IN (${visibleStatuses.map((status) => `'${status}'`).join(', ')})`;
/** As the unique index on names has it, so that a name is found by that index. */
const reserving = `status NOT IN ('rolled_back', 'deleted')`;

/** Where the fields of a view are in a row. */
const columnOf: Record<keyof DomainView, string> = {
  ...{ id: 'id', name: 'name', team: 'team', status: 'status' },
  ...{ sesDkimStatus: 'ses_dkim_status', dkimTokens: 'dkim_tokens', dkimZone: 'dkim_zone' },
  ...{ verifiedAt: 'verified_at', checkedAt: 'checked_at', createdAt: 'created_at' },
  ...{ outboundProvider: 'outbound_provider', version: 'version' },
};
const columns = Object.entries(columnOf)
  .map(([field, column]) => `${column} AS "${field}"`)
  .join(', ');

/** What a read of the row of a state gives; undefined of one that no read shows. */
export function domainView(state: MailDomain, version: number): DomainView | undefined {
  if (state.status === 'absent' || !visibleStatuses.includes(state.status)) return undefined;
  // No view has the time of the last event.
  const row = domainRow(state, version, state.addedAt);
  const fields = Object.entries(columnOf).map(([field, column]) => {
    const value = row[column];
    const isTime = domainsProjection.columns[column] === 'timestamptz' && value !== null;
    return [field, isTime ? new Date(value as string) : value];
  });
  return Object.fromEntries(fields) as DomainView;
}

/** Reads of the `domains` table. A half-provisioned domain is in none of them. */
@Injectable()
export class DomainsReadModel {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /** Undefined when there is none, or it is another team's: the two cannot be told apart. */
  async find(id: string, team: string): Promise<DomainView | undefined> {
    const { rows } = await this.pool.query<DomainView>({
      name: 'domain-find',
      text: `SELECT ${columns} FROM domains WHERE id = $1 AND team = $2 AND ${visible}`,
      values: [id, team],
    });
    return rows[0];
  }

  /** Whether a domain is the team's, whatever became of it. */
  async isOf(id: string, team: string): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'domain-of-team',
      text: 'SELECT FROM domains WHERE id = $1 AND team = $2',
      values: [id, team],
    });
    return rowCount === 1;
  }

  /** The newest first, at most `limit`, below the id `before`. */
  async page(team: string, limit: number, before?: string): Promise<DomainView[]> {
    const { rows } = await this.pool.query<DomainView>({
      name: 'domain-page',
      text: `SELECT ${columns} FROM domains
        WHERE team = $1 AND ${visible} AND ($3::text IS NULL OR id < $3) ORDER BY id DESC LIMIT $2`,
      values: [team, limit, before ?? null],
    });
    return rows;
  }

  /** The team's domain of a name, for a mailbox to live on; null when the team has none. */
  async homeOf(name: string, team: string): Promise<{ domainId: string; status: string } | null> {
    const { rows } = await this.pool.query<{ domainId: string; status: string }>({
      name: 'domain-home',
      text: `SELECT id AS "domainId", status FROM domains
        WHERE name = $1 AND ${reserving} AND team = $2 AND ${visible}`,
      values: [name, team],
    });
    return rows[0] ?? null;
  }

  /** Who holds a name, in whatever state. */
  async holderOf(name: string): Promise<{ id: string; team: string; status: string } | undefined> {
    const { rows } = await this.pool.query<{ id: string; team: string; status: string }>({
      name: 'domain-holder',
      text: `SELECT id, team, status FROM domains WHERE name = $1 AND ${reserving}`,
      values: [name],
    });
    return rows[0];
  }
}
