import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateDeliveries1795400000400 implements MigrationInterface {
  readonly name = 'CreateDeliveries1795400000400';

  async up(runner: QueryRunner): Promise<void> {
    // An address is only stored as a hash.
    await runner.query(`
      CREATE TABLE deliveries (
        episode text NOT NULL,
        recipient text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('sent', 'undeliverable')),
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (episode, recipient)
      )`);
    await runner.query(`
      CREATE TABLE settled_episodes (
        episode text PRIMARY KEY,
        outcome text NOT NULL CHECK (outcome IN ('told', 'superseded', 'no_owners')),
        at timestamptz NOT NULL DEFAULT now()
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE deliveries, settled_episodes');
  }
}

export const notifierMigrations: readonly Migration[] = [CreateDeliveries1795400000400];
