import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'pg';
import { migrate } from '@app/database';
import { mailServerMigrations, sharedDomainId } from './mail-server.migration';

/** The database that Postfix reads is not to be had now. Trying again may help. */
export class MailServerUnavailable extends Error {
  override readonly name = 'MailServerUnavailable';
}

export type Added = { readonly outcome: 'added' } | { readonly outcome: 'foreign'; readonly domainId: string };

/** A mailbox as of an event of its stream. */
export interface PlacedMailbox {
  readonly id: string;
  /** Canonical: case folded, NFC, the domain in A-labels. */
  readonly address: string;
  /** The domain that it was created on; null for the one that all teams share. */
  readonly domainId: string | null;
  readonly status: 'active' | 'suspended' | 'deleted';
  /** What it has chosen to send through, else null. */
  readonly provider: string | null;
  /** Of the stream: what an older version says is no news. */
  readonly version: number;
}

export interface MailServerOptions {
  /** `postgres://…` of the database that Postfix reads. */
  readonly url: string;
  /** A statement that takes longer has failed, in milliseconds; 5,000 when absent. */
  readonly timeoutMs?: number;
}

/**
 * What Postfix takes mail for, and where it sends: rows of `mail_domains`, each tagged with the id of the domain that asked for
 * it; mailboxes; and the relays of outbound providers. Postfix sees a change with its next look-up; there is nothing to reload.
 *
 * Every method throws `MailServerUnavailable` when the database gives no answer.
 */
export class MailServer {
  private readonly pool: Pool;
  private readonly timeoutMs: number;
  private schema: Promise<void> | undefined;

  constructor(private readonly options: MailServerOptions) {
    const { url, timeoutMs = 5_000 } = options;
    this.timeoutMs = timeoutMs;
    this.pool = new Pool({
      connectionString: url,
      max: 8,
      connectionTimeoutMillis: timeoutMs,
      statement_timeout: timeoutMs,
      query_timeout: timeoutMs + 1_000,
    });
    // An idle connection that dies is replaced at the next query, which reports its own error.
    this.pool.on('error', () => undefined);
  }

  /** Takes the domain in. Doing it again changes nothing; a row of somebody else is left alone and named. */
  async add(name: string, domainId: string): Promise<Added> {
    await this.query('INSERT INTO mail_domains (domain, domain_id) VALUES ($1, $2) ON CONFLICT (domain) DO NOTHING', [
      name,
      domainId,
    ]);
    const owner = await this.owner(name);
    if (owner === undefined) return this.add(name, domainId);
    return owner === domainId ? { outcome: 'added' } : { outcome: 'foreign', domainId: owner };
  }

  /** Takes the domain out if the row is this domain's; one that is not there is out. */
  async remove(name: string, domainId: string): Promise<void> {
    await this.query('DELETE FROM mail_domains WHERE domain = $1 AND domain_id = $2', [name, domainId]);
  }

  /**
   * Takes in what has become of a mailbox. In any order and however often: the newest version stays. One that is deleted leaves
   * its row, so that word of an older version cannot bring it back.
   */
  async putMailbox({ id, address, domainId, status, provider, version }: PlacedMailbox): Promise<void> {
    await this.query(
      `INSERT INTO mail_mailboxes AS held (id, address, domain_id, status, provider, version)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status, provider = EXCLUDED.provider, version = EXCLUDED.version
        WHERE held.version < EXCLUDED.version`,
      [id, address, domainId ?? sharedDomainId, status, provider, version],
    );
  }

  /** What the mailboxes of a domain send through, but those that have chosen for themselves; null for Sendmux SES. The newest version stays. */
  async chooseProvider(domainId: string, provider: string | null, version: number): Promise<void> {
    await this.query(
      `INSERT INTO mail_domain_choices AS held (domain_id, provider, version) VALUES ($1, $2, $3)
        ON CONFLICT (domain_id) DO UPDATE SET provider = EXCLUDED.provider, version = EXCLUDED.version
        WHERE held.version < EXCLUDED.version`,
      [domainId, provider, version],
    );
  }

  /**
   * The relays, by the name of their provider: `host:port`. One that is named no more stays while a mailbox or a domain has chosen
   * it: its mail must not leave through another one unseen.
   *
   * @returns the names that stay so.
   */
  async replaceProviders(relays: ReadonlyMap<string, string>): Promise<string[]> {
    const names = [...relays.keys()];
    const rows = await this.query<{ name: string }>(
      `WITH named AS (
        INSERT INTO mail_providers (name, nexthop) SELECT * FROM unnest($1::text[], $2::text[])
        ON CONFLICT (name) DO UPDATE SET nexthop = EXCLUDED.nexthop
      ), chosen AS (
        SELECT provider FROM mail_mailboxes WHERE status <> 'deleted'
        UNION SELECT provider FROM mail_domain_choices JOIN mail_domains USING (domain_id)
      ), removed AS (
        DELETE FROM mail_providers
        WHERE name <> ALL ($1) AND name NOT IN (SELECT provider FROM chosen WHERE provider IS NOT NULL)
      )
      SELECT name FROM mail_providers
      WHERE name <> ALL ($1) AND name IN (SELECT provider FROM chosen) ORDER BY name`,
      [names, names.map((name) => nexthop(relays.get(name)!))],
    );
    return rows.map(({ name }) => name);
  }

  /** Id of the domain that the row belongs to. */
  async owner(name: string): Promise<string | undefined> {
    const rows = await this.query<{ domain_id: string }>('SELECT domain_id FROM mail_domains WHERE domain = $1', [
      name,
    ]);
    return rows[0]?.domain_id;
  }

  /** Resolves when the database answers. */
  async ping(): Promise<void> {
    await this.query('SELECT 1', []);
  }

  async close(): Promise<void> {
    await this.pool.end();
  }

  private async query<Row extends object>(text: string, values: unknown[]): Promise<Row[]> {
    try {
      // At the first use, not at the start: a process may come up while this database is down.
      await (this.schema ??= this.prepare());
      return (await this.pool.query<Row>(text, values)).rows;
    } catch (error) {
      // The next use tries again, and makes the table where a new database has taken the place of the old one.
      this.schema = undefined;
      throw new MailServerUnavailable(`the mail server database: ${(error as Error).message}`, { cause: error });
    }
  }

  /** A server that takes connections and says nothing must not be waited for. */
  private async prepare(): Promise<void> {
    const given = new AbortController();
    const late = async () => {
      await delay(this.timeoutMs, undefined, { signal: given.signal });
      throw new Error(`no answer within ${this.timeoutMs} ms`);
    };
    try {
      await Promise.race([migrate(this.options.url, mailServerMigrations, 0), late()]);
    } finally {
      given.abort();
    }
  }
}

/** As Postfix writes a relay that is to be reached without a look at MX records. */
function nexthop(relay: string): string {
  const colon = relay.lastIndexOf(':');
  return `[${relay.slice(0, colon).replace(/^\[|\]$/g, '')}]${relay.slice(colon)}`;
}
