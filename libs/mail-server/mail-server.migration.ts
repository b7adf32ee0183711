import { domainToUnicode } from 'node:url';
import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Stands for the id of the domain that all teams share. Its row exists from the start, and no team can remove it. */
export const sharedDomainId = 'shared';

class CreateMailDomains1770000000300 implements MigrationInterface {
  readonly name = 'CreateMailDomains1770000000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE mail_domains (
        domain text PRIMARY KEY,
        domain_id text NOT NULL,
        active boolean NOT NULL DEFAULT true
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE mail_domains');
  }
}

/**
 * Stores the mailboxes and the providers that they send through. Postfix reads the two views. A mailbox and its domain
 * come from two streams, in either order, so a mailbox counts only while the domain that it was created on is stored.
 */
class CreateMailboxes1795600000400 implements MigrationInterface {
  readonly name = 'CreateMailboxes1795600000400';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE mail_mailboxes (
        id text PRIMARY KEY,
        address text NOT NULL,
        domain_id text NOT NULL,
        status text NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
        provider text,
        version integer NOT NULL
      )`);
    await runner.query(`CREATE INDEX mail_mailboxes_address ON mail_mailboxes (address) WHERE status <> 'deleted'`);
    await runner.query(`
      CREATE TABLE mail_domain_choices (
        domain_id text PRIMARY KEY,
        provider text,
        version integer NOT NULL
      )`);
    await runner.query('CREATE TABLE mail_providers (name text PRIMARY KEY, nexthop text NOT NULL)');
    await runner.query(`CREATE UNIQUE INDEX mail_domains_sender ON mail_domains (('@' || domain))`);
    await runner.query('CREATE INDEX mail_domains_id ON mail_domains (domain_id)');
    await runner.query(`
      CREATE VIEW mail_recipients AS
      SELECT m.address, m.status FROM mail_mailboxes m JOIN mail_domains d USING (domain_id)
      WHERE m.status <> 'deleted' AND d.active`);
    await runner.query(`
      CREATE VIEW mail_relays AS
      SELECT m.address AS sender, p.nexthop FROM mail_mailboxes m
      JOIN mail_domains d USING (domain_id) JOIN mail_providers p ON p.name = m.provider
      WHERE m.status <> 'deleted'
      UNION ALL
      SELECT '@' || d.domain, p.nexthop FROM mail_domains d
      LEFT JOIN mail_domain_choices c USING (domain_id)
      JOIN mail_providers p ON p.name = coalesce(c.provider, 'sendmux-ses')`);
    // An operator may have added the domain by hand.
    await runner.query(`
      INSERT INTO mail_domains (domain, domain_id) VALUES ('myagent.mx', '${sharedDomainId}')
      ON CONFLICT (domain) DO UPDATE SET domain_id = EXCLUDED.domain_id`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DELETE FROM mail_domains WHERE domain_id = '${sharedDomainId}'`);
    await runner.query('DROP VIEW mail_relays, mail_recipients');
    await runner.query('DROP INDEX mail_domains_id, mail_domains_sender');
    await runner.query('DROP TABLE mail_providers, mail_domain_choices, mail_mailboxes');
  }
}

/**
 * Matches what Postfix looks up with what the tables hold. Postfix folds case as Unicode does, but leaves accents as
 * they were sent. Before version 3.8 it declares its UTF-8 as LATIN1 (pgsql_table(5), `encoding`), so the functions
 * work on the octets.
 */
class UnderstandWhatPostfixSends1795600000700 implements MigrationInterface {
  readonly name = 'UnderstandWhatPostfixSends1795600000700';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE FUNCTION mail_key(sent text) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT normalize(
          CASE pg_client_encoding()
            WHEN 'LATIN1' THEN convert_from(convert_to(sent, 'LATIN1'), 'UTF8')
            ELSE sent
          END, NFC)
      $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION mail_key');
  }
}

/**
 * Makes `mail_key` give the form of the tables for a domain in either form, label by label: U-labels come in any
 * normalisation and with what UTS 46 maps away (the full stops and invisible characters below). PostgreSQL cannot
 * encode a label, so the labels of our domains are kept in both forms.
 */
class KnowBothFormsOfADomain1796200000800 implements MigrationInterface {
  readonly name = 'KnowBothFormsOfADomain1796200000800';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE mail_labels (unicode text PRIMARY KEY, ascii text NOT NULL)');
    // Postfix looks up as a role of its own, and a label is no secret.
    await runner.query('GRANT SELECT ON mail_labels TO PUBLIC');
    const domains = (await runner.query('SELECT domain FROM mail_domains')) as { domain: string }[];
    for (const { unicode, ascii } of domains.flatMap(({ domain }) => unicodeLabels(domain)))
      await runner.query('INSERT INTO mail_labels VALUES ($1, $2) ON CONFLICT DO NOTHING', [unicode, ascii]);
    await runner.query(`
      CREATE OR REPLACE FUNCTION mail_key(sent text) RETURNS text LANGUAGE sql STABLE AS $$
        WITH composed AS (
          SELECT normalize(
            CASE pg_client_encoding()
              WHEN 'LATIN1' THEN convert_from(convert_to(sent, 'LATIN1'), 'UTF8')
              ELSE sent
            END, NFC) AS address
        ), split AS (
          SELECT address, coalesce(substring(address FROM '^.*@'), '') AS local_part,
            substring(address FROM '[^@]*$') AS domain
          FROM composed
        )
        SELECT CASE WHEN domain ~ '^[\\x01-\\x7f]*$' THEN address ELSE local_part || (
          SELECT string_agg(coalesce(ascii, label), '.' ORDER BY place)
          FROM regexp_split_to_table(
            regexp_replace(normalize(domain, NFKC), '[\\u00ad\\u200b-\\u200d\\u2060\\ufe00-\\ufe0f\\ufeff]', '', 'g'),
            '[.\\u3002]') WITH ORDINALITY AS labels (label, place)
          LEFT JOIN mail_labels ON unicode = label
        ) END
        FROM split
      $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await new UnderstandWhatPostfixSends1795600000700().down(runner);
    await new UnderstandWhatPostfixSends1795600000700().up(runner);
    await runner.query('DROP TABLE mail_labels');
  }
}

/**
 * Who gets the mail to `postmaster` (RFC 5321 section 4.5.1) and `abuse` (RFC 2142) of a domain that has no active
 * mailbox of that name: the owners of its team where they are known, or else the platform.
 */
class TakeMailForPostmaster1796200000900 implements MigrationInterface {
  readonly name = 'TakeMailForPostmaster1796200000900';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE mail_platform (postmaster text NOT NULL)');
    await runner.query('CREATE UNIQUE INDEX mail_platform_is_one_row ON mail_platform ((true))');
    await runner.query('CREATE TABLE mail_domain_owners (domain_id text PRIMARY KEY, addresses text NOT NULL)');
    await runner.query(`
      CREATE VIEW mail_roles AS
      SELECT r.role, d.domain, coalesce(o.addresses, p.postmaster) AS destination
      FROM mail_domains d CROSS JOIN (VALUES ('postmaster'), ('abuse')) r (role) CROSS JOIN mail_platform p
      LEFT JOIN mail_domain_owners o USING (domain_id)
      WHERE d.active AND NOT EXISTS (
        SELECT FROM mail_mailboxes m
        WHERE m.address = r.role || '@' || d.domain AND m.domain_id = d.domain_id AND m.status = 'active'
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP VIEW mail_roles');
    await runner.query('DROP TABLE mail_domain_owners, mail_platform');
  }
}

/**
 * Keeps domains that only send. They have a row, since their mail leaves through a relay too, but are not active, so
 * that the queries of Postfix find no mail domain there.
 */
class KeepDomainsThatOnlySend1796400000100 implements MigrationInterface {
  readonly name = 'KeepDomainsThatOnlySend1796400000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mail_domains ADD COLUMN receives boolean NOT NULL DEFAULT true');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mail_domains DROP COLUMN receives');
  }
}

/**
 * Keeps the rules by which a domain takes mail from some senders. `mail_takes` is asked by a policy service, since a
 * table of Postfix is looked up by the sender or by the recipient, and never by both.
 */
class FilterSenders1796500000200 implements MigrationInterface {
  readonly name = 'FilterSenders1796500000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE mail_sender_filters (
        domain_id text PRIMARY KEY,
        mode text NOT NULL,
        rules jsonb NOT NULL,
        version integer NOT NULL
      )`);
    await runner.query(`
      CREATE FUNCTION mail_takes(sender text, recipient text) RETURNS boolean LANGUAGE sql STABLE AS $$
        SELECT sender = ''
          OR lower(regexp_replace(recipient, '@[^@]*$', '')) IN ('postmaster', 'abuse')
          OR coalesce((
            SELECT f.mode = 'off' OR coalesce(
              f.rules ->> sender,
              f.rules ->> substring(sender FROM '[^@]*$'),
              CASE f.mode WHEN 'allowlist' THEN 'deny' ELSE 'allow' END
            ) = 'allow'
            FROM mail_sender_filters f JOIN mail_domains d USING (domain_id)
            WHERE d.domain = mail_key(lower(substring(recipient FROM '[^@]*$')))
          ), true)
      $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION mail_takes');
    await runner.query('DROP TABLE mail_sender_filters');
  }
}

/**
 * Lets the mail of a domain leave through the relay of its shard of SES, where it and its mailboxes have chosen no
 * other provider than SES.
 */
class LeaveThroughTheShard1797100000500 implements MigrationInterface {
  readonly name = 'LeaveThroughTheShard1797100000500';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mail_domain_choices ADD COLUMN ses_relay text');
    const relay = (provider: string) =>
      `CASE ${provider} WHEN 'sendmux-ses' THEN coalesce(c.ses_relay, 'sendmux-ses') ELSE ${provider} END`;
    await runner.query(`
      CREATE OR REPLACE VIEW mail_relays AS
      SELECT m.address AS sender, p.nexthop FROM mail_mailboxes m
      JOIN mail_domains d USING (domain_id) LEFT JOIN mail_domain_choices c USING (domain_id)
      JOIN mail_providers p ON p.name = ${relay('m.provider')}
      WHERE m.status <> 'deleted'
      UNION ALL
      SELECT '@' || d.domain, p.nexthop FROM mail_domains d
      LEFT JOIN mail_domain_choices c USING (domain_id)
      JOIN mail_providers p ON p.name = ${relay(`coalesce(c.provider, 'sendmux-ses')`)}`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE OR REPLACE VIEW mail_relays AS
      SELECT m.address AS sender, p.nexthop FROM mail_mailboxes m
      JOIN mail_domains d USING (domain_id) JOIN mail_providers p ON p.name = m.provider
      WHERE m.status <> 'deleted'
      UNION ALL
      SELECT '@' || d.domain, p.nexthop FROM mail_domains d
      LEFT JOIN mail_domain_choices c USING (domain_id)
      JOIN mail_providers p ON p.name = coalesce(c.provider, 'sendmux-ses')`);
    await runner.query('ALTER TABLE mail_domain_choices DROP COLUMN ses_relay');
  }
}

/**
 * Says which tenant of SES the mail of a sender names: that of the domain, where the mail leaves through SES. A sender
 * that leaves through another provider has a row without a tenant, so that Postfix does not ask for its domain.
 */
class NameTheTenant1798200000100 implements MigrationInterface {
  readonly name = 'NameTheTenant1798200000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mail_domain_choices ADD COLUMN ses_tenant text');
    const tenant = (provider: string) =>
      `CASE WHEN coalesce(${provider}, 'sendmux-ses') = 'sendmux-ses' THEN c.ses_tenant END AS tenant`;
    await runner.query(`
      CREATE VIEW mail_tenants AS
      SELECT m.address AS sender, ${tenant('m.provider, c.provider')} FROM mail_mailboxes m
      JOIN mail_domains d USING (domain_id) LEFT JOIN mail_domain_choices c USING (domain_id)
      WHERE m.status <> 'deleted'
      UNION ALL
      SELECT d.domain, ${tenant('c.provider')} FROM mail_domains d LEFT JOIN mail_domain_choices c USING (domain_id)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP VIEW mail_tenants');
    await runner.query('ALTER TABLE mail_domain_choices DROP COLUMN ses_tenant');
  }
}

/** Gives the A-labels of a domain, each with the U-label that stands for it. */
export const unicodeLabels = (domain: string): { unicode: string; ascii: string }[] =>
  domain.split('.').flatMap((ascii) => {
    const unicode = ascii.startsWith('xn--') ? domainToUnicode(ascii) : '';
    return unicode === '' || unicode === ascii ? [] : { unicode, ascii };
  });

/** The migrations of the database that Postfix reads, which may be another database than that of the events. */
export const mailServerMigrations: readonly Migration[] = [
  CreateMailDomains1770000000300,
  CreateMailboxes1795600000400,
  UnderstandWhatPostfixSends1795600000700,
  KnowBothFormsOfADomain1796200000800,
  TakeMailForPostmaster1796200000900,
  KeepDomainsThatOnlySend1796400000100,
  FilterSenders1796500000200,
  LeaveThroughTheShard1797100000500,
  NameTheTenant1798200000100,
];
