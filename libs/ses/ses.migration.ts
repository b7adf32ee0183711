import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class ShareTurnsAtSes1797100000200 implements MigrationInterface {
  readonly name = 'ShareTurnsAtSes1797100000200';

  async up(runner: QueryRunner): Promise<void> {
    // A row for each shard: when its next turn begins, how long all wait after SES has throttled a call, and by how
    // much calls may be late.
    await runner.query(`
      CREATE TABLE ses_turns (
        shard text PRIMARY KEY,
        next_at timestamptz NOT NULL DEFAULT '-infinity',
        leases bigint NOT NULL DEFAULT 1,
        slowed_at timestamptz NOT NULL DEFAULT '-infinity',
        back_off_ms integer NOT NULL DEFAULT 0,
        slack_until timestamptz NOT NULL DEFAULT '-infinity',
        slack_ms float8 NOT NULL DEFAULT 0
      )`);
    // A row for each process whose call waits; it is written anew every second.
    await runner.query(`
      CREATE UNLOGGED TABLE ses_waits (
        shard text NOT NULL,
        process uuid NOT NULL,
        priority smallint NOT NULL,
        since timestamptz NOT NULL,
        oldest timestamptz NOT NULL,
        until timestamptz NOT NULL,
        PRIMARY KEY (shard, process)
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE ses_waits');
    await runner.query('DROP TABLE ses_turns');
  }
}

class ListSesOnce1797100000400 implements MigrationInterface {
  readonly name = 'ListSesOnce1797100000400';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE ses_statuses (
        shard text NOT NULL,
        name text NOT NULL,
        status text NOT NULL,
        PRIMARY KEY (shard, name)
      )`);
    // `listing_since` is of the listing under way, and `known_since` the time that each status is no older than.
    await runner.query(`
      CREATE TABLE ses_listings (
        shard text PRIMARY KEY,
        due_at timestamptz NOT NULL DEFAULT '-infinity',
        lease_token uuid,
        lease_until timestamptz,
        listing_since timestamptz,
        known_since timestamptz,
        took interval,
        identities bigint,
        has_failed boolean NOT NULL DEFAULT false
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE ses_listings');
    await runner.query('DROP TABLE ses_statuses');
  }
}

export const sesMigrations: readonly Migration[] = [ShareTurnsAtSes1797100000200, ListSesOnce1797100000400];
