import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateMailboxKeys1798000000100 implements MigrationInterface {
  readonly name = 'CreateMailboxKeys1798000000100';

  async up(runner: QueryRunner): Promise<void> {
    // A key that is destroyed leaves its row, so that one that is lost is told apart from one that was erased.
    // `wanted_at` is when something was last encrypted with it, or was about to be.
    await runner.query(`
      CREATE TABLE mailbox_keys (
        mailbox_id text PRIMARY KEY,
        key bytea,
        key_id text,
        wanted_at timestamptz NOT NULL DEFAULT now(),
        erased_at timestamptz,
        CHECK ((key IS NULL) = (key_id IS NULL)),
        CHECK ((key IS NULL) = (erased_at IS NOT NULL))
      )`);
    await runner.query('CREATE INDEX mailbox_keys_age ON mailbox_keys (wanted_at)');
    await runner.query('CREATE INDEX mailbox_keys_by_ring_key ON mailbox_keys (key_id, wanted_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE mailbox_keys');
  }
}

/** Keeps which erasures have begun, so that they go on after a crash, when the row of the mailbox has no address. */
class KeepErasures1798000000300 implements MigrationInterface {
  readonly name = 'KeepErasures1798000000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mailbox_keys ADD COLUMN erasing_since timestamptz');
    await runner.query(
      'CREATE INDEX mailbox_keys_erasing ON mailbox_keys (mailbox_id) WHERE erasing_since IS NOT NULL AND key IS NOT NULL',
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mailbox_keys DROP COLUMN erasing_since');
  }
}

export const mailboxKeysMigrations: readonly Migration[] = [CreateMailboxKeys1798000000100, KeepErasures1798000000300];
