import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

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

/** Of the database that Postfix reads, which need not be the one of the events. */
export const mailServerMigrations: readonly Migration[] = [CreateMailDomains1770000000300];
