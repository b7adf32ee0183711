import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CountRequests1797000000300 implements MigrationInterface {
  readonly name = 'CountRequests1797000000300';

  async up(runner: QueryRunner): Promise<void> {
    // What a crash of the server loses are the counts of a minute, and so no write of it waits for a disk.
    await runner.query(`
      CREATE UNLOGGED TABLE rate_limits (
        key text PRIMARY KEY,
        window_number bigint NOT NULL,
        taken bigint NOT NULL
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE rate_limits');
  }
}

export const rateLimitMigrations: readonly Migration[] = [CountRequests1797000000300];
