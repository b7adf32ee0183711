import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { slotCount } from './cycle';

class CreateVerificationCycle1795400000300 implements MigrationInterface {
  readonly name = 'CreateVerificationCycle1795400000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE watched_domains (
        id text PRIMARY KEY,
        slot smallint NOT NULL,
        name text NOT NULL,
        team text NOT NULL,
        dkim_tokens text[] NOT NULL,
        dkim_zone text NOT NULL,
        status text NOT NULL,
        lapsed boolean NOT NULL,
        look text,
        version integer NOT NULL
      )`);
    await runner.query(`
      CREATE INDEX watched_domains_of_slot ON watched_domains (slot, id) WHERE status IN ('pending', 'verified')`);
    // completed_at is of the scheduler's clock, in milliseconds; the lease is of the database's.
    await runner.query(`
      CREATE TABLE slots (
        slot smallint PRIMARY KEY,
        completed_cycle bigint NOT NULL DEFAULT 0,
        completed_at bigint NOT NULL DEFAULT 0,
        lease_token uuid,
        lease_until timestamptz
      )`);
    await runner.query(`INSERT INTO slots (slot) SELECT generate_series(0, ${slotCount - 1})`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE slots');
    await runner.query('DROP TABLE watched_domains');
  }
}

export const verificationSchedulerMigrations: readonly Migration[] = [CreateVerificationCycle1795400000300];
