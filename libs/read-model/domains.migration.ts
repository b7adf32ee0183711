import type { MigrationInterface, QueryRunner } from 'typeorm';
import { defaultShard } from '@app/runtime';
import {
  EraseAddresses1798000000200,
  FindDeletedMailboxes1797000000200,
  liveHome,
  mailboxMigrations,
} from './mailboxes.migration';
import { CountForQuotas1796500000100 } from './quotas.migration';
import { CountIdentitiesOfShards1797100000200, CountIdentitiesThatMove1797100000400 } from './ses-shards.migration';

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

/**
 * Lets teams find domains by their status, their mode and a part of the name, and keeps what the last look has seen.
 */
class FindDomainsByMore1796400000200 implements MigrationInterface {
  name = 'FindDomainsByMore1796400000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE domains
        ADD COLUMN mode text NOT NULL DEFAULT 'send_receive',
        ADD COLUMN ses_mail_from_status text,
        ADD COLUMN ses_identity jsonb,
        ADD COLUMN last_look jsonb,
        ADD COLUMN receiving_since timestamptz`);
    // The same as `seenFinding` of mail-records, for the newest look at each domain.
    await runner.query(`
      UPDATE domains SET last_look = looks.last_look
      FROM (
        SELECT DISTINCT ON (stream) stream, jsonb_build_object(
          'sesAnswered', data ->> 'sesDkimStatus' IS NOT NULL,
          'findings', (
            SELECT jsonb_agg(jsonb_build_object(
              'check', f ->> 'check', 'outcome', f ->> 'outcome', 'code', f ->> 'code', 'expected', f ->> 'expected',
              'observed', (
                SELECT coalesce(jsonb_agg(left(o, 512) ORDER BY nth), '[]')
                FROM json_array_elements_text(f -> 'observed') WITH ORDINALITY AS observed (o, nth) WHERE nth <= 4
              )
            ) ORDER BY place)
            FROM json_array_elements(data -> 'findings') WITH ORDINALITY AS findings (f, place)
          )
        ) AS last_look
        FROM events WHERE type = 'DnsChecked' ORDER BY stream, version DESC
      ) AS looks
      WHERE looks.stream = domains.id AND domains.status IN ('pending', 'verified', 'failed', 'deleting')`);
    await runner.query('CREATE EXTENSION IF NOT EXISTS pg_trgm');
    const visible = `WHERE status IN ('pending', 'verified', 'failed', 'deleting')`;
    const shownStatus = `(CASE status WHEN 'deleting' THEN 'pending' ELSE status END)`;
    await runner.query(`CREATE INDEX domains_by_status ON domains (team, ${shownStatus}, id) ${visible}`);
    await runner.query(`CREATE INDEX domains_by_mode ON domains (team, mode, id) ${visible}`);
    await runner.query(
      `CREATE INDEX domains_by_mode_and_status ON domains (team, mode, ${shownStatus}, id) ${visible}`,
    );
    await runner.query(`CREATE INDEX domains_by_part ON domains USING gin (name gin_trgm_ops) ${visible}`);
    await runner.query(`
      CREATE OR REPLACE FUNCTION mailbox_needs_live_home() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE found text;
      BEGIN
        SELECT CASE mode WHEN 'send_only' THEN mode ELSE status END INTO found
          FROM domains WHERE id = NEW.domain_id AND team = NEW.team AND status <> 'deleted' FOR SHARE;
        IF found IS DISTINCT FROM 'verified' THEN
          RAISE 'A mailbox is created on a verified domain of its team'
            USING ERRCODE = 'check_violation', CONSTRAINT = '${liveHome}', DETAIL = coalesce(found, '');
        END IF;
        RETURN NULL;
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE OR REPLACE FUNCTION mailbox_needs_live_home() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE found text;
      BEGIN
        SELECT status INTO found FROM domains WHERE id = NEW.domain_id AND team = NEW.team AND status <> 'deleted' FOR SHARE;
        IF found IS DISTINCT FROM 'verified' THEN
          RAISE 'A mailbox is created on a verified domain of its team'
            USING ERRCODE = 'check_violation', CONSTRAINT = '${liveHome}', DETAIL = coalesce(found, '');
        END IF;
        RETURN NULL;
      END $$`);
    await runner.query('DROP INDEX domains_by_part, domains_by_mode_and_status, domains_by_mode, domains_by_status');
    await runner.query(`
      ALTER TABLE domains
        DROP COLUMN receiving_since, DROP COLUMN last_look, DROP COLUMN ses_identity, DROP COLUMN ses_mail_from_status, DROP COLUMN mode`);
  }
}

/** Knows which domains were never verified, by their age, and when they expire. */
class LetDomainsExpire1796700000100 implements MigrationInterface {
  name = 'LetDomainsExpire1796700000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(
      'ALTER TABLE domains ADD COLUMN first_verified_at timestamptz, ADD COLUMN expires_at timestamptz',
    );
    await runner.query(`
      UPDATE domains SET first_verified_at = successes.at
      FROM (SELECT stream, min(time) AS at FROM events WHERE type = 'DomainVerified' GROUP BY stream) AS successes
      WHERE successes.stream = domains.id AND domains.status IN ('pending', 'verified', 'failed', 'deleting')`);
    await runner.query(`
      CREATE INDEX domains_never_verified ON domains (id)
      WHERE status = 'pending' AND first_verified_at IS NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains DROP COLUMN expires_at, DROP COLUMN first_verified_at');
  }
}

/**
 * Lets the name of a domain go to another one while the first is still being removed. It holds its place in the quota
 * until it is: SES may have its identity.
 */
class LetNamesChangeHands1796700000200 implements MigrationInterface {
  name = 'LetNamesChangeHands1796700000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX domains_name_reserved');
    await runner.query(`
      CREATE UNIQUE INDEX domains_name_reserved ON domains (name)
      WHERE status NOT IN ('rolled_back', 'deleted', 'released')`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX domains_name_reserved');
    await runner.query(`
      CREATE UNIQUE INDEX domains_name_reserved ON domains (name)
      WHERE status NOT IN ('rolled_back', 'deleted')`);
  }
}

/**
 * Knows in which shard of SES a domain is. The default is written once for all rows that are there, without a look at
 * them, and is right for those of a release that does not know the column.
 */
class KnowTheShardOfDomains1797100000100 implements MigrationInterface {
  readonly name = 'KnowTheShardOfDomains1797100000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE domains ADD COLUMN ses_shard text NOT NULL DEFAULT '${defaultShard}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains DROP COLUMN ses_shard');
  }
}

export const readModelMigrations = [
  CreateDomains1770000000100,
  KnowWhenDomainsWereChecked1795400000600,
  ...mailboxMigrations,
  LetDomainsChooseTheirProvider1795600000200,
  FindDomainsByMore1796400000200,
  CountForQuotas1796500000100,
  LetDomainsExpire1796700000100,
  LetNamesChangeHands1796700000200,
  FindDeletedMailboxes1797000000200,
  KnowTheShardOfDomains1797100000100,
  CountIdentitiesOfShards1797100000200,
  CountIdentitiesThatMove1797100000400,
  EraseAddresses1798000000200,
];

/** The unique index that reserves a name. */
export const nameReservation = 'domains_name_reserved';
