import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';

/** A mailbox as its team sees it: until it is deleted. */
export interface MailboxView {
  readonly id: string;
  readonly address: string;
  readonly team: string;
  /** Null on the shared domain. */
  readonly domainId: string | null;
  readonly status: 'active' | 'suspended';
  /** Its own choice, else null. */
  readonly provider: string | null;
  /** The choice of its domain, else null. */
  readonly domainProvider: string | null;
  readonly createdAt: Date;
  readonly version: number;
}

const visible = `m.status <> 'deleted'`;
const columns = `m.id, m.address, m.team, m.domain_id AS "domainId", m.status, m.outbound_provider AS "provider",
  d.outbound_provider AS "domainProvider", m.created_at AS "createdAt", m.version`;
const from = 'FROM mailboxes m LEFT JOIN domains d ON d.id = m.domain_id';

/** Reads of the `mailboxes` table. */
@Injectable()
export class MailboxesReadModel {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /** Undefined when there is none, or it is another team's: the two cannot be told apart. */
  async find(id: string, team: string): Promise<MailboxView | undefined> {
    const { rows } = await this.pool.query<MailboxView>({
      name: 'mailbox-find',
      text: `SELECT ${columns} ${from} WHERE m.id = $1 AND m.team = $2 AND ${visible}`,
      values: [id, team],
    });
    return rows[0];
  }

  /** The newest first, at most `limit`, below the id `before`; of one domain only, where it is named. */
  async page(team: string, limit: number, before?: string, domainId?: string): Promise<MailboxView[]> {
    const { rows } = await this.pool.query<MailboxView>({
      name: 'mailbox-page',
      text: `SELECT ${columns} ${from}
        WHERE m.team = $1 AND ${visible} AND ($3::text IS NULL OR m.id < $3) AND ($4::text IS NULL OR m.domain_id = $4)
        ORDER BY m.id DESC LIMIT $2`,
      values: [team, limit, before ?? null, domainId ?? null],
    });
    return rows;
  }
}
