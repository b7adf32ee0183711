import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import { checkSchema, openPool, postgresFault, SchemaUnusable, type DatabaseUrls } from '@app/database';
import { CounterpartAlarm, within } from '@app/runtime';
import { span } from '@app/tracing';
import { mailServerMigrations, sharedDomainId, unicodeLabels } from './mail-server.migration';

/** Thrown when the database that Postfix reads is not available. Trying again may help. */
export class MailServerUnavailable extends Error {
  override readonly name = 'MailServerUnavailable';
}

/**
 * The database that Postfix reads refuses what this installation asks. An operator has been alarmed; trying again helps
 * once he has acted.
 */
export class MailServerDenied extends Error {
  override readonly name = 'MailServerDenied';
}

export type Added = { readonly outcome: 'added' } | { readonly outcome: 'foreign'; readonly domainId: string };

/** A mailbox as of one event of its stream. */
export interface PlacedMailbox {
  readonly id: string;
  /** The canonical address: case folded, NFC, with the domain in A-labels; null once it is erased. */
  readonly address: string | null;
  /** The domain that it was created on; null for the one that all teams share. */
  readonly domainId: string | null;
  readonly status: 'active' | 'suspended' | 'deleted';
  /** The provider that the mailbox has chosen; null when it has chosen none. */
  readonly provider: string | null;
  /** The version of the stream. A row ignores a version below its own. */
  readonly version: number;
}

/** A rule about a sender. */
export interface SenderRule {
  readonly type: 'allow' | 'deny';
  readonly pattern: string;
}

/** Where the database is that Postfix reads. */
export interface MailServerOptions extends DatabaseUrls {
  /** Milliseconds after which a statement has failed; 5,000 when absent. */
  readonly timeoutMs?: number;
}

/**
 * Writes the tables that Postfix reads: `mail_domains`, where each row has the id of the domain that asked for it;
 * mailboxes; and the relays of outbound providers. Postfix sees a change with its next look-up, without a reload.
 *
 * Every method throws `MailServerUnavailable` when the database gives no answer, and `MailServerDenied` when it
 * refuses. None of their messages has the text of the database, which goes to the log.
 */
export class MailServer {
  private readonly logger = new Logger(MailServer.name);
  private readonly alarm = new CounterpartAlarm('mail_server');
  private readonly pool: Pool;
  private readonly timeoutMs: number;
  private schema: Promise<string | undefined> | undefined;

  constructor(private readonly options: MailServerOptions) {
    const { timeoutMs = 5_000 } = options;
    this.timeoutMs = timeoutMs;
    this.pool = openPool(options, 8, timeoutMs, {
      connectionTimeoutMillis: timeoutMs,
      query_timeout: timeoutMs + 1_000,
    });
  }

  /**
   * Adds the domain. Adding it again changes nothing. The row of another domain is left as it is, and its id is
   * returned.
   *
   * @param receives whether Postfix takes mail for it; `enableReceiving` changes that.
   */
  async add(name: string, domainId: string, receives = true): Promise<Added> {
    // Before the domain, so that Postfix knows both of its forms at once.
    for (const { unicode, ascii } of unicodeLabels(name))
      await this.query('INSERT INTO mail_labels VALUES ($1, $2) ON CONFLICT DO NOTHING', [unicode, ascii]);
    // Of any unique index: a row that another process inserts at the same time may be met in one that is not named. One
    // that was committed since the statement began is met too, and not read: the next attempt reads it.
    const [row] = await this.query<{ owner: string }>(
      `WITH added AS (
        INSERT INTO mail_domains (domain, domain_id, receives, active) VALUES ($1, $2, $3, $3) ON CONFLICT DO NOTHING
        RETURNING domain_id
      )
      SELECT domain_id AS owner FROM added UNION ALL SELECT domain_id FROM mail_domains WHERE domain = $1`,
      [name, domainId, receives],
      'INSERT',
    );
    const owner = row?.owner;
    if (owner === undefined) return this.add(name, domainId, receives);
    return owner === domainId ? { outcome: 'added' } : { outcome: 'foreign', domainId: owner };
  }

  /**
   * Lets Postfix take mail for a domain that was added without. A domain that receives already is left as it is, since
   * an operator may have stopped its mail.
   */
  async enableReceiving(domainId: string): Promise<void> {
    await this.query('UPDATE mail_domains SET receives = true, active = true WHERE domain_id = $1 AND NOT receives', [
      domainId,
    ]);
  }

  /** Removes the domain if the row belongs to it, with its provider. A domain that is not stored counts as removed. */
  async remove(name: string, domainId: string): Promise<void> {
    await this.query(
      `WITH removed AS (DELETE FROM mail_domains WHERE domain = $1 AND domain_id = $2)
       DELETE FROM mail_domain_choices WHERE domain_id = $2`,
      [name, domainId],
    );
  }

  /**
   * Stores the state of a mailbox. Calls may come in any order and more than once: the newest version stays. A deleted
   * mailbox keeps its row, so that an older version that comes late cannot restore it, nor an address that is erased.
   */
  async putMailbox({ id, address, domainId, status, provider, version }: PlacedMailbox): Promise<void> {
    await this.query(
      `INSERT INTO mail_mailboxes AS held (id, address, domain_id, status, provider, version)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO UPDATE SET address = EXCLUDED.address, status = EXCLUDED.status,
          provider = EXCLUDED.provider, version = EXCLUDED.version
        WHERE held.version < EXCLUDED.version`,
      [id, address ?? '', domainId ?? sharedDomainId, status, provider, version],
    );
  }

  /**
   * Sets the provider for the mailboxes of a domain that have not chosen their own; null for Sendmux SES. The newest
   * version stays.
   *
   * @param ses the relay that Sendmux SES stands for in this domain, `sendmux-ses` when absent; and the tenant of SES
   * that its mail names there, none when absent.
   */
  async chooseProvider(
    domainId: string,
    provider: string | null,
    version: number,
    ses: { readonly relay?: string; readonly tenant?: string | undefined } = {},
  ): Promise<void> {
    await this.query(
      `INSERT INTO mail_domain_choices AS held (domain_id, provider, version, ses_relay, ses_tenant)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (domain_id) DO UPDATE SET provider = EXCLUDED.provider, version = EXCLUDED.version,
          ses_relay = EXCLUDED.ses_relay, ses_tenant = EXCLUDED.ses_tenant
        WHERE held.version < EXCLUDED.version`,
      [domainId, provider, version, ses.relay ?? null, ses.tenant ?? null],
    );
  }

  /**
   * Stores whose mail the mailboxes of a domain take. Calls may come in any order and more than once: the newest
   * version stays.
   *
   * @param rules by canonical sender: an address, or a hostname for all addresses at it.
   */
  async filterSenders(domainId: string, mode: string, rules: readonly SenderRule[], version: number): Promise<void> {
    const types = Object.fromEntries(rules.map(({ pattern, type }) => [pattern, type]));
    await this.query(
      `INSERT INTO mail_sender_filters AS held (domain_id, mode, rules, version) VALUES ($1, $2, $3, $4)
        ON CONFLICT (domain_id) DO UPDATE SET mode = EXCLUDED.mode, rules = EXCLUDED.rules, version = EXCLUDED.version
        WHERE held.version < EXCLUDED.version`,
      [domainId, mode, JSON.stringify(types), version],
    );
  }

  /** Removes the provider of a domain that is gone: it may have been set once more when the domain was removed. */
  async forgetProvider(domainId: string): Promise<void> {
    await this.query('DELETE FROM mail_domain_choices WHERE domain_id = $1', [domainId]);
  }

  /** Erases the rules about senders of a domain that is gone. */
  async forgetSenders(domainId: string): Promise<void> {
    await this.query('DELETE FROM mail_sender_filters WHERE domain_id = $1', [domainId]);
  }

  /**
   * Says whether a recipient takes mail from a sender, by the rules of its domain: that about the address, or else
   * about its hostname, or else what the mode says. A recipient without rules takes all mail.
   *
   * @param sender in the form of the rules; empty for mail without a sender, which is always taken (RFC 5321 section
   * 6.1).
   * @param recipient as the SMTP client sent it, without brackets.
   */
  async takesMail(sender: string, recipient: string): Promise<boolean> {
    const rows = await this.query<{ takes: boolean }>('SELECT mail_takes($1, $2) AS takes', [sender, recipient]);
    return rows[0]!.takes;
  }

  /**
   * Replaces the relays: `host:port` by the name of the provider. A provider that is no longer listed stays while a
   * mailbox or a domain has chosen it, since its mail must not silently leave through another one.
   *
   * @returns the names that stay in this way.
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
        UNION SELECT ses_relay FROM mail_domain_choices JOIN mail_domains USING (domain_id)
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

  /**
   * Says who gets the mail to postmaster and abuse of all domains: the owners of each, by its id, or the platform's
   * postmaster where there are none. Addresses of owners are separated by commas.
   */
  async replaceRoles(postmaster: string, owners: ReadonlyMap<string, string>): Promise<void> {
    await this.query(
      `WITH platform AS (
        INSERT INTO mail_platform VALUES ($1)
        ON CONFLICT ((true)) DO UPDATE SET postmaster = EXCLUDED.postmaster
        WHERE mail_platform.postmaster <> EXCLUDED.postmaster
      ), removed AS (
        DELETE FROM mail_domain_owners WHERE domain_id <> ALL ($2)
      )
      INSERT INTO mail_domain_owners AS held SELECT * FROM unnest($2::text[], $3::text[])
      ON CONFLICT (domain_id) DO UPDATE SET addresses = EXCLUDED.addresses
      WHERE held.addresses <> EXCLUDED.addresses`,
      [postmaster, [...owners.keys()], [...owners.values()]],
    );
  }

  /** Gives the id of the domain that the row belongs to. */
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

  /**
   * Checks the tables, where the database answers. One that is down is checked when it is used: a process can start
   * without it.
   *
   * @throws {SchemaUnusable} when this release does not work on them.
   */
  async checkTables(): Promise<void> {
    try {
      await (this.schema ??= this.checkedSchema());
    } catch (error) {
      this.schema = undefined;
      if (error instanceof SchemaUnusable) throw error;
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }

  /** @param operation its first word where absent. */
  private query<Row extends object>(
    text: string,
    values: unknown[],
    operation = text.slice(0, text.indexOf(' ')),
  ): Promise<Row[]> {
    const attributes = { 'db.system.name': 'postgresql', 'db.operation.name': operation };
    return span(`mail server ${operation}`, { kind: 'client', attributes }, () => this.run<Row>(text, values));
  }

  private async run<Row extends object>(text: string, values: unknown[]): Promise<Row[]> {
    try {
      await (this.schema ??= this.checkedSchema());
      return (await this.pool.query<Row>(text, values)).rows;
    } catch (error) {
      // The next use looks again: another database, or its tables, may have come in the place of this one.
      this.schema = undefined;
      throw this.translate(error as Error);
    }
  }

  /** Checks the tables. The time is bounded, since a server may accept a connection and never answer. */
  private async checkedSchema(): Promise<string | undefined> {
    const urls = { setting: 'MAIL_SERVER_DATABASE_URL', ...this.options };
    const advice = await within(this.timeoutMs, checkSchema(urls, mailServerMigrations, 0));
    if (advice) this.logger.warn(advice);
    return advice;
  }

  private translate(error: Error & { readonly code?: string }): Error {
    const said = { sqlstate: error.code, said: error.message };
    if (error instanceof SchemaUnusable || postgresFault(error) === 'ours') {
      this.alarm.raise(
        error instanceof SchemaUnusable ? 'schema' : (error.code ?? 'unknown'),
        'the mail server database refuses this installation',
        said,
      );
      return new MailServerDenied('the mail server database refuses this installation', { cause: error });
    }
    this.logger.warn(said, 'the mail server database gave no answer');
    return new MailServerUnavailable('the mail server database gave no answer', { cause: error });
  }
}

/** Writes a relay as Postfix reads it; the brackets turn off the look-up of MX records. */
function nexthop(relay: string): string {
  const colon = relay.lastIndexOf(':');
  return `[${relay.slice(0, colon).replace(/^\[|\]$/g, '')}]${relay.slice(colon)}`;
}
