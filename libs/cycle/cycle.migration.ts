import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { slotCount, youngSlot } from './cycle';

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
    // `completed_at` is by the scheduler's clock, in milliseconds since the epoch; `lease_until` is by the database's.
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

class WatchYoungDomains1795400000500 implements MigrationInterface {
  readonly name = 'WatchYoungDomains1795400000500';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE watched_domains ADD COLUMN added_at timestamptz');
    await runner.query(`
      CREATE INDEX watched_domains_young ON watched_domains (added_at) WHERE status = 'pending' AND NOT lapsed`);
    // The `completed_at` of this slot is the time up to which the young domains have been looked at.
    await runner.query(`INSERT INTO slots (slot) VALUES (${youngSlot})`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DELETE FROM slots WHERE slot = ${youngSlot}`);
    await runner.query('ALTER TABLE watched_domains DROP COLUMN added_at');
  }
}

class KeepRequestedLooks1795900000500 implements MigrationInterface {
  readonly name = 'KeepRequestedLooks1795900000500';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE requested_looks (domain text PRIMARY KEY, at timestamptz NOT NULL)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE requested_looks');
  }
}

class KnowTheRegionOfWatchedDomains1796300000300 implements MigrationInterface {
  readonly name = 'KnowTheRegionOfWatchedDomains1796300000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE watched_domains ADD COLUMN ses_region text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE watched_domains DROP COLUMN ses_region');
  }
}

class KnowTheModeOfWatchedDomains1796400000300 implements MigrationInterface {
  readonly name = 'KnowTheModeOfWatchedDomains1796400000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE watched_domains ADD COLUMN mode text NOT NULL DEFAULT 'send_receive'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE watched_domains DROP COLUMN mode');
  }
}

class KnowTheShardOfWatchedDomains1797100000300 implements MigrationInterface {
  readonly name = 'KnowTheShardOfWatchedDomains1797100000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE watched_domains ADD COLUMN ses_shard text NOT NULL DEFAULT 'default'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE watched_domains DROP COLUMN ses_shard');
  }
}

export const cycleMigrations: readonly Migration[] = [
  CreateVerificationCycle1795400000300,
  WatchYoungDomains1795400000500,
  KeepRequestedLooks1795900000500,
  KnowTheRegionOfWatchedDomains1796300000300,
  KnowTheModeOfWatchedDomains1796400000300,
  KnowTheShardOfWatchedDomains1797100000300,
];
