import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateAccounts1795400000200 implements MigrationInterface {
  readonly name = 'CreateAccounts1795400000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE teams (
        id text PRIMARY KEY,
        name text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
      )`);
    await runner.query(`
      CREATE TABLE owners (
        team text NOT NULL REFERENCES teams,
        email text NOT NULL CHECK (email = lower(email)),
        PRIMARY KEY (team, email)
      )`);
    await runner.query(`
      CREATE TABLE api_keys (
        id text PRIMARY KEY,
        team text NOT NULL REFERENCES teams,
        hash bytea NOT NULL UNIQUE,
        hint text NOT NULL,
        name text NOT NULL,
        role text,
        permissions text[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz,
        CHECK ((role IS NULL) = (cardinality(permissions) > 0))
      )`);
    await runner.query('CREATE INDEX api_keys_of_team ON api_keys (team)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE api_keys, owners, teams');
  }
}

class LetKeysEnd1795600000500 implements MigrationInterface {
  readonly name = 'LetKeysEnd1795600000500';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE api_keys ADD COLUMN expires_at timestamptz, ADD COLUMN last_used_at timestamptz');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE api_keys DROP COLUMN expires_at, DROP COLUMN last_used_at');
  }
}

class InviteOwners1795600000600 implements MigrationInterface {
  readonly name = 'InviteOwners1795600000600';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE invitations (
        team text NOT NULL REFERENCES teams,
        email text NOT NULL CHECK (email = lower(email)),
        hash bytea NOT NULL UNIQUE,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (team, email)
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE invitations');
  }
}

/**
 * Keeps addresses as they were written: the case of a local part is for its own host to read (RFC 5321 section 2.4).
 * Two that differ in case alone are still one owner.
 */
class KeepTheCaseOfAddresses1796200000850 implements MigrationInterface {
  readonly name = 'KeepTheCaseOfAddresses1796200000850';

  async up(runner: QueryRunner): Promise<void> {
    for (const table of ['owners', 'invitations']) {
      await runner.query(`ALTER TABLE ${table} DROP CONSTRAINT ${table}_email_check`);
      await runner.query(`CREATE UNIQUE INDEX ${table}_of_team_folded ON ${table} (team, lower(email))`);
    }
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of ['owners', 'invitations']) {
      await runner.query(`UPDATE ${table} SET email = lower(email)`);
      await runner.query(`ALTER TABLE ${table} ADD CHECK (email = lower(email))`);
      await runner.query(`DROP INDEX ${table}_of_team_folded`);
    }
  }
}

/** Keeps a deleted team, with its keys, for whoever asks later what they were. */
class LetTeamsEnd1796500000200 implements MigrationInterface {
  readonly name = 'LetTeamsEnd1796500000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE teams ADD COLUMN deleted_at timestamptz');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE teams DROP COLUMN deleted_at');
  }
}

/**
 * Keeps links with which somebody without a key sets up one domain. A link that is mailed has no token until it is on
 * its way.
 */
class LinkToSetup1796700000100 implements MigrationInterface {
  readonly name = 'LinkToSetup1796700000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE setup_links (
        id text PRIMARY KEY,
        team text NOT NULL REFERENCES teams,
        domain_id text NOT NULL,
        hash bytea UNIQUE,
        email text,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        CHECK (hash IS NOT NULL OR email IS NOT NULL OR revoked_at IS NOT NULL)
      )`);
    await runner.query('CREATE INDEX setup_links_of_domain ON setup_links (domain_id)');
    await runner.query('CREATE INDEX setup_links_mailed ON setup_links (team, created_at) WHERE email IS NOT NULL');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE setup_links');
  }
}

class SignInToTheConsole1796700000200 implements MigrationInterface {
  readonly name = 'SignInToTheConsole1796700000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE console_sessions (
        hash bytea PRIMARY KEY,
        key_id text NOT NULL REFERENCES api_keys,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL
      )`);
    await runner.query('CREATE INDEX console_sessions_of_key ON console_sessions (key_id, created_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE console_sessions');
  }
}

export const accountsMigrations: readonly Migration[] = [
  CreateAccounts1795400000200,
  LetKeysEnd1795600000500,
  InviteOwners1795600000600,
  KeepTheCaseOfAddresses1796200000850,
  LetTeamsEnd1796500000200,
  LinkToSetup1796700000100,
  SignInToTheConsole1796700000200,
];
