import { migrate, thisRelease } from '@app/database';
import { mailServerTables, serviceTables } from '../../apps/cli/migrations';
import { testDatabase, withAdmin, type TestDatabase } from './test-database';

const migrations = { service: serviceTables, mail_server: mailServerTables } as const;

/** The key of the advisory lock under which a template is made and copied. */
const templateLock = 1;

/**
 * Creates a database that has all tables of the service, or of the mail server, as `sendmux migrate` makes them: a copy
 * of a template that the first caller of this Jest run makes.
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
      await migrate(url.href, migrations[whose], { release: thisRelease });
      await admin.query(`ALTER DATABASE ${template}_new RENAME TO ${template}`);
    }
    return testDatabase(template);
  });
}
