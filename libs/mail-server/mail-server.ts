import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'pg';
import { migrate } from '@app/database';
import { mailServerMigrations } from './mail-server.migration';

/** The database that Postfix reads is not to be had now. Trying again may help. */
export class MailServerUnavailable extends Error {
  override readonly name = 'MailServerUnavailable';
}

export type Added = { readonly outcome: 'added' } | { readonly outcome: 'foreign'; readonly domainId: string };

export interface MailServerOptions {
  /** `postgres://…` of the database that Postfix reads. */
  readonly url: string;
  /** A statement that takes longer has failed, in milliseconds; 5,000 when absent. */
  readonly timeoutMs?: number;
}

/**
 * The domains that Postfix takes mail for: rows of `mail_domains`, each tagged with the id of the domain that asked for
 * it. Postfix sees a change with its next look-up; there is nothing to reload.
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
