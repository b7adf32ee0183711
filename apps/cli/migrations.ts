import { accountsMigrations } from '@app/accounts';
import { auditMigrations } from '@app/audit';
import { migrate } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { mailServerMigrations } from '@app/mail-server';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { senderRulesMigrations } from '@app/sender-rules';
import { sesMigrations } from '@app/ses';
import { tasksMigrations } from '@app/tasks';
import { webhooksMigrations } from '@app/webhooks';

/** Creates or updates every table of the libs. An app migrates the tables of its own when it starts. */
export async function migrateEverything(database: string, mailServerDatabase: string): Promise<void> {
  await migrate(database, [
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
  ]);
  await migrate(mailServerDatabase, mailServerMigrations);
}
