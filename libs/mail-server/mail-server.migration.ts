import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Stands for the id of the domain that all teams share: it is there from the start, and nobody's to remove. */
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
 * Where mailboxes are, and what they send through. Postfix reads the two views; a mailbox and its domain come from two streams,
 * in either order, so a mailbox counts only while the domain that it was created on is there.
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
    // An operator may have put it in by hand.
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
 * What Postfix looks up, as the tables have it. Postfix folds case as Unicode does, but leaves accents as they were sent; and before
 * version 3.8 it says that its UTF-8 is LATIN1 (pgsql_table(5), `encoding`), so the octets are taken for what they are.
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

/** Of the database that Postfix reads, which need not be the one of the events. */
export const mailServerMigrations: readonly Migration[] = [
  CreateMailDomains1770000000300,
  CreateMailboxes1795600000400,
  UnderstandWhatPostfixSends1795600000700,
];
