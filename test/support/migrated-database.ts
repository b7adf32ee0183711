import { accountsMigrations } from '@app/accounts';
import { auditMigrations } from '@app/audit';
import { cycleMigrations } from '@app/cycle';
import { migrate, type Migration } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { mailServerMigrations } from '@app/mail-server';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { sesMigrations } from '@app/ses';
import { tasksMigrations } from '@app/tasks';
import { webhooksMigrations } from '@app/webhooks';
import { idempotencyMigrations } from '../../apps/gateway/idempotency/idempotency.migration';
import { notifierMigrations } from '../../apps/notifier/notifier.migration';
import { testDatabase, withAdmin, type TestDatabase } from './test-database';

const migrations: Record<'service' | 'mail_server', readonly Migration[]> = {
  service: [
    ...eventStoreMigrations,
    ...auditMigrations,
    ...readModelMigrations,
    ...accountsMigrations,
    ...messagingMigrations,
    ...tasksMigrations,
    ...cycleMigrations,
    ...idempotencyMigrations,
    ...notifierMigrations,
    ...webhooksMigrations,
    ...sesMigrations,
  ],
  mail_server: mailServerMigrations,
};

/** The key of the advisory lock under which a template is made and copied. */
const templateLock = 1;

/**
 * Creates a database that has all tables of the service, or of the mail server, as a copy of a template that the first
 * caller of this Jest run makes. An app that finds nothing to migrate starts faster, and most tests are not about that.
 */
export function migratedDatabase(whose: keyof typeof migrations): Promise<TestDatabase> {
  return withAdmin(async (admin, server) => {
    const template = `migrated_${whose}`;
    await admin.query('SELECT pg_advisory_lock($1)', [templateLock]);
    const { rowCount } = await admin.query('SELECT FROM pg_database WHERE datname = $1', [template]);
    if (rowCount === 0) {
      await admin.query(`DROP DATABASE IF EXISTS ${template}_new`);
      await admin.query(`CREATE DATABASE ${template}_new`);
      const url = new URL(server);
      url.pathname = `/${template}_new`;
      await migrate(url.href, migrations[whose]);
      await admin.query(`ALTER DATABASE ${template}_new RENAME TO ${template}`);
    }
    return testDatabase(template);
  });
}
