import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateIdempotencyKeys1795400000300 implements MigrationInterface {
  readonly name = 'CreateIdempotencyKeys1795400000300';

  async up(runner: QueryRunner): Promise<void> {
    // An answer is there once the outcome is final; until then the claim holds while `claimed_until` is ahead.
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

export const idempotencyMigrations: readonly Migration[] = [
  CreateIdempotencyKeys1795400000300,
  KeepTheETag1795480000300,
  AnswerForAnyCreation1795600000300,
];
