import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateTasks1795400000100 implements MigrationInterface {
  readonly name = 'CreateTasks1795400000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE tasks (
        list text NOT NULL,
        key text NOT NULL,
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        kind text NOT NULL,
        payload jsonb NOT NULL,
        due timestamptz NOT NULL,
        attempts int NOT NULL DEFAULT 0,
        lease_until timestamptz,
        lease_token uuid,
        last_error text,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (list, key)
      )`);
    await runner.query('CREATE INDEX tasks_due ON tasks (list, due)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE tasks');
  }
}

/** Old processes beside new ones neither write nor read the column. */
class TraceTasks1799000000100 implements MigrationInterface {
  readonly name = 'TraceTasks1799000000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tasks ADD COLUMN traceparent text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tasks DROP COLUMN traceparent');
  }
}

/** Old processes beside new ones neither write nor read the column: of their tasks, `due` counts. */
class KnowWhenTasksWereReady1799600000100 implements MigrationInterface {
  readonly name = 'KnowWhenTasksWereReady1799600000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tasks ADD COLUMN ready_at timestamptz');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE tasks DROP COLUMN ready_at');
  }
}

export const tasksMigrations: readonly Migration[] = [
  CreateTasks1795400000100,
  TraceTasks1799000000100,
  KnowWhenTasksWereReady1799600000100,
];
