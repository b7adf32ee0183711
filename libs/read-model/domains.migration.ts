import type { MigrationInterface, QueryRunner } from 'typeorm';
import { mailboxMigrations } from './mailboxes.migration';

class CreateDomains1770000000100 implements MigrationInterface {
  name = 'CreateDomains1770000000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE domains (
        id text PRIMARY KEY,
        name text NOT NULL,
        team text NOT NULL,
        status text NOT NULL,
        ses_dkim_status text,
        dkim_tokens json,
        dkim_zone text,
        ses_region text,
        verified_at timestamptz,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        version integer NOT NULL
      )`);
    // The index that reserves a name: of two simultaneous adds, one fails here.
    await runner.query(`
      CREATE UNIQUE INDEX domains_name_reserved ON domains (name)
      WHERE status NOT IN ('rolled_back', 'deleted')`);
    await runner.query(`
      CREATE INDEX domains_of_team ON domains (team, id)
      WHERE status IN ('pending', 'verified', 'failed', 'deleting')`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE domains');
  }
}

class KnowWhenDomainsWereChecked1795400000600 implements MigrationInterface {
  name = 'KnowWhenDomainsWereChecked1795400000600';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains ADD COLUMN checked_at timestamptz');
    await runner.query(`
      UPDATE domains SET checked_at = checks.at
      FROM (SELECT stream, max(time) AS at FROM events WHERE type = 'DnsChecked' GROUP BY stream) AS checks
      WHERE checks.stream = domains.id AND domains.status IN ('pending', 'verified', 'failed', 'deleting')`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains DROP COLUMN checked_at');
  }
}

class LetDomainsChooseTheirProvider1795600000200 implements MigrationInterface {
  name = 'LetDomainsChooseTheirProvider1795600000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains ADD COLUMN outbound_provider text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains DROP COLUMN outbound_provider');
  }
}

export const readModelMigrations = [
  CreateDomains1770000000100,
  KnowWhenDomainsWereChecked1795400000600,
  ...mailboxMigrations,
  LetDomainsChooseTheirProvider1795600000200,
];

/** The unique index that reserves a name. */
export const nameReservation = 'domains_name_reserved';
