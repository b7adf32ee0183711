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

export const mailboxKeysMigrations: readonly Migration[] = [CreateMailboxKeys1798000000100];
