import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateSenderRules1796500000100 implements MigrationInterface {
  readonly name = 'CreateSenderRules1796500000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE sender_rules (
        domain text NOT NULL,
        digest text NOT NULL,
        rules json NOT NULL,
        stored_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (domain, digest)
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE sender_rules');
  }
}

export const senderRulesMigrations: readonly Migration[] = [CreateSenderRules1796500000100];
