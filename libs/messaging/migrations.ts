import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateParkedMessages1795400000200 implements MigrationInterface {
  readonly name = 'CreateParkedMessages1795400000200';

  async up(runner: QueryRunner): Promise<void> {
    // The payload is the whole event as the group was given it. json, as jsonb refuses \\u0000.
    await runner.query(`
      CREATE TABLE parked_messages (
        consumer_group text NOT NULL,
        position bigint NOT NULL,
        stream text NOT NULL,
        version int NOT NULL,
        type text NOT NULL,
        payload json NOT NULL,
        error text NOT NULL,
        attempts int NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer_group, position)
      )`);
    await runner.query('CREATE INDEX parked_messages_by_stream ON parked_messages (stream, version)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE parked_messages');
  }
}

export const messagingMigrations: readonly Migration[] = [CreateParkedMessages1795400000200];
