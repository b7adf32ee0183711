import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateIdempotencyKeys1795400000300 implements MigrationInterface {
  readonly name = 'CreateIdempotencyKeys1795400000300';

  async up(runner: QueryRunner): Promise<void> {
    // `status` and `response` are set when the outcome is final. Until then the claim holds while `claimed_until` is in
    // the future.
    await runner.query(`
      CREATE TABLE idempotency_keys (
        team text NOT NULL,
        key text NOT NULL,
        body_hash bytea NOT NULL,
        domain_id text NOT NULL,
        claimed_until timestamptz NOT NULL,
        status integer,
        response json,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (team, key),
        CHECK ((status IS NULL) = (response IS NULL))
      )`);
    await runner.query('CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE idempotency_keys');
  }
}

class KeepTheETag1795480000300 implements MigrationInterface {
  readonly name = 'KeepTheETag1795480000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE idempotency_keys ADD COLUMN etag text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE idempotency_keys DROP COLUMN etag');
  }
}

class AnswerForAnyCreation1795600000300 implements MigrationInterface {
  readonly name = 'AnswerForAnyCreation1795600000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE idempotency_keys RENAME COLUMN domain_id TO created_id');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE idempotency_keys RENAME COLUMN created_id TO domain_id');
  }
}

/**
 * Scopes the kept keys to their operations. The operation is a part of `key`, and no column of the primary key, so that
 * a process of the release before can still claim keys.
 */
class ScopeKeysToOperations1796000000300 implements MigrationInterface {
  readonly name = 'ScopeKeysToOperations1796000000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      UPDATE idempotency_keys
      SET key = CASE WHEN created_id LIKE 'mbx\\_%' THEN 'createMailbox ' ELSE 'addDomain ' END || key`);
  }

  async down(runner: QueryRunner): Promise<void> {
    // The release before would take one key of two operations for one.
    await runner.query('DELETE FROM idempotency_keys');
  }
}

export const idempotencyMigrations: readonly Migration[] = [
  CreateIdempotencyKeys1795400000300,
  KeepTheETag1795480000300,
  AnswerForAnyCreation1795600000300,
  ScopeKeysToOperations1796000000300,
];
