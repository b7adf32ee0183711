import { accountsMigrations } from '@app/accounts';
import { auditMigrations } from '@app/audit';
import { cycleMigrations } from '@app/cycle';
import { migrate, thisRelease, type DatabaseUrls, type Migration, type MigrateOptions } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { mailServerMigrations } from '@app/mail-server';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { senderRulesMigrations } from '@app/sender-rules';
import { sesMigrations } from '@app/ses';
import { tasksMigrations } from '@app/tasks';
import { webhooksMigrations } from '@app/webhooks';
import { claimsMigrations } from '../gateway/claims/claims.migration';
import { rateLimitMigrations } from '../gateway/http/rate-limits.migration';
import { idempotencyMigrations } from '../gateway/idempotency/idempotency.migration';
import { notifierMigrations } from '../notifier/notifier.migration';

/** What makes all tables in the database of the events: those of the libs, and those that one app has for itself. */
export const serviceTables: readonly Migration[] = [
  ...eventStoreMigrations,
  ...auditMigrations,
  ...readModelMigrations,
  ...mailboxKeysMigrations,
  ...accountsMigrations,
  ...messagingMigrations,
  ...tasksMigrations,
  ...cycleMigrations,
  ...senderRulesMigrations,
  ...sesMigrations,
  ...webhooksMigrations,
  ...claimsMigrations,
  ...rateLimitMigrations,
  ...idempotencyMigrations,
  ...notifierMigrations,
];

/** What makes the tables that Postfix reads. */
export const mailServerTables = mailServerMigrations;

/** Creates or updates every table of this release, and keeps in both databases that it has been there. */
export async function migrateEverything(
  database: string | DatabaseUrls,
  mailServerDatabase: string | DatabaseUrls,
  options: Omit<MigrateOptions, 'release'> = {},
): Promise<void> {
  await migrate(database, serviceTables, { ...options, release: thisRelease });
  await migrate(mailServerDatabase, mailServerTables, { ...options, release: thisRelease });
}
