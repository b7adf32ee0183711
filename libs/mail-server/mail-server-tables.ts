import { migrate, openPool, type DatabaseUrls } from '@app/database';
import type { Pool } from 'pg';
import { mailServerMigrations, sharedDomainId } from './mail-server.migration';

/** What the tables that Postfix reads have of a domain. */
export interface DomainRow {
  readonly name: string;
  readonly domainId: string;
  readonly receives: boolean;
}

/** What the tables have of the outgoing mail of a domain. */
export interface ChoiceRow {
  readonly domainId: string;
  readonly provider: string | null;
  readonly relay: string | null;
  readonly version: number;
}

/** What the tables have of a mailbox. */
export interface MailboxRow {
  readonly id: string;
  readonly address: string;
  readonly domainId: string;
  readonly status: string;
  readonly provider: string | null;
  readonly version: number;
}

/** Rows of a page. */
const pageSize = 1_000;

/** Reads the tables that Postfix reads page by page, for whoever compares them with the log. */
export class MailServerTables {
  private constructor(private readonly pool: Pool) {}

  /** Opens the tables of a database, and makes those that are missing. The caller closes it. */
  static async open(urls: DatabaseUrls & { readonly setting: string }): Promise<MailServerTables> {
    await migrate(urls, mailServerMigrations);
    return new MailServerTables(openPool(urls, 1, 0));
  }

  /** Yields the rows of all domains in the order of their names, but for that of the domain which all teams share. */
  async *domains(): AsyncGenerator<DomainRow[], void> {
    yield* pages<DomainRow>(
      this.pool,
      `SELECT domain AS name, domain_id AS "domainId", receives FROM mail_domains
       WHERE domain > $1 AND domain_id <> '${sharedDomainId}' ORDER BY domain LIMIT ${pageSize}`,
      ({ name }) => name,
    );
  }

  /** Yields the rows of all mailboxes that are not deleted, in the order of their ids. */
  async *mailboxes(): AsyncGenerator<MailboxRow[], void> {
    yield* pages<MailboxRow>(
      this.pool,
      `SELECT ${mailboxColumns} FROM mail_mailboxes WHERE id > $1 AND status <> 'deleted' ORDER BY id LIMIT ${pageSize}`,
      ({ id }) => id,
    );
  }

  /** Gives the rows of domains with one of the names. */
  async domainsNamed(names: readonly string[]): Promise<Map<string, DomainRow>> {
    const { rows } = await this.pool.query<DomainRow>(
      'SELECT domain AS name, domain_id AS "domainId", receives FROM mail_domains WHERE domain = ANY ($1)',
      [names],
    );
    return new Map(rows.map((row) => [row.name, row]));
  }

  async choicesOf(domainIds: readonly string[]): Promise<Map<string, ChoiceRow>> {
    const { rows } = await this.pool.query<ChoiceRow>(
      `SELECT domain_id AS "domainId", provider, ses_relay AS relay, version FROM mail_domain_choices
       WHERE domain_id = ANY ($1)`,
      [domainIds],
    );
    return new Map(rows.map((row) => [row.domainId, row]));
  }

  /** Gives the versions of the rules about senders, by the id of their domain. */
  async filtersOf(domainIds: readonly string[]): Promise<Map<string, number>> {
    const { rows } = await this.pool.query<{ id: string; version: number }>(
      'SELECT domain_id AS id, version FROM mail_sender_filters WHERE domain_id = ANY ($1)',
      [domainIds],
    );
    return new Map(rows.map(({ id, version }) => [id, version]));
  }

  async mailboxesOf(ids: readonly string[]): Promise<Map<string, MailboxRow>> {
    const { rows } = await this.pool.query<MailboxRow>(
      `SELECT ${mailboxColumns} FROM mail_mailboxes WHERE id = ANY ($1)`,
      [ids],
    );
    return new Map(rows.map((row) => [row.id, row]));
  }

  /**
   * Has any version be newer than the rows of a domain or mailbox: those of a history that was lost may have a higher
   * one than the log. The rows stay as they are until they are written again, so that no mail is refused meanwhile.
   */
  async outdate(id: string): Promise<void> {
    for (const [table, key] of [
      ['mail_mailboxes', 'id'],
      ['mail_domain_choices', 'domain_id'],
      ['mail_sender_filters', 'domain_id'],
    ] as const)
      await this.pool.query(`UPDATE ${table} SET version = 0 WHERE ${key} = $1`, [id]);
  }

  /** Removes a domain if the row belongs to it, with what it has chosen. */
  async removeDomain(name: string, domainId: string): Promise<void> {
    await this.pool.query('DELETE FROM mail_domains WHERE domain = $1 AND domain_id = $2', [name, domainId]);
    for (const table of ['mail_domain_choices', 'mail_sender_filters'])
      await this.pool.query(`DELETE FROM ${table} WHERE domain_id = $1`, [domainId]);
  }

  async removeMailbox(id: string): Promise<void> {
    await this.pool.query('DELETE FROM mail_mailboxes WHERE id = $1', [id]);
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

const mailboxColumns = 'id, address, domain_id AS "domainId", status, provider, version';

async function* pages<Row extends object>(
  pool: Pool,
  text: string,
  keyOf: (row: Row) => string,
): AsyncGenerator<Row[], void> {
  for (let after = ''; ;) {
    const { rows } = await pool.query<Row>(text, [after]);
    if (rows.length > 0) yield rows;
    if (rows.length < pageSize) return;
    after = keyOf(rows.at(-1)!);
  }
}
