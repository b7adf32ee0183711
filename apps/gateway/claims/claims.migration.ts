import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Keeps what teams claim. That a claim has succeeded is not stored: the domain with its `domain_id` is there, or not.
 */
class CreateClaims1796700000300 implements MigrationInterface {
  readonly name = 'CreateClaims1796700000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE domain_claims (
        id text PRIMARY KEY,
        team text NOT NULL,
        name text NOT NULL,
        mode text NOT NULL,
        domain_id text NOT NULL UNIQUE,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        looked_at timestamptz,
        refusal json
      )`);
    await runner.query('CREATE INDEX domain_claims_of_team ON domain_claims (team, id)');
    await runner.query('CREATE INDEX domain_claims_age ON domain_claims (expires_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE domain_claims');
  }
}

export const claimsMigrations: readonly Migration[] = [CreateClaims1796700000300];
