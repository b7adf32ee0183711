import { accountsMigrations } from '@app/accounts';
import { auditMigrations } from '@app/audit';
import { migrate, type Migration } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { mailServerMigrations } from '@app/mail-server';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { senderRulesMigrations } from '@app/sender-rules';
import { sesMigrations } from '@app/ses';
import { tasksMigrations } from '@app/tasks';
import { webhooksMigrations } from '@app/webhooks';

/** What makes the tables of the libs in the database of the events. An app makes those of its own when it starts. */
export const serviceTables: readonly Migration[] = [
  ...eventStoreMigrations,
  ...auditMigrations,
  ...readModelMigrations,
  ...mailboxKeysMigrations,
  ...accountsMigrations,
  ...messagingMigrations,
  ...tasksMigrations,
  ...senderRulesMigrations,
  ...sesMigrations,
  ...webhooksMigrations,
];

/** What makes the tables that Postfix reads. */
export const mailServerTables = mailServerMigrations;

/** Creates or updates every table of the libs. */
export async function migrateEverything(database: string, mailServerDatabase: string): Promise<void> {
  await migrate(database, serviceTables);
  await migrate(mailServerDatabase, mailServerTables);
}
