import { thisRelease } from '@app/database';
import { mailServerTables, serviceTables } from '../../apps/cli/migrations';
import { databaseWith, type TestDatabase } from './test-database';

const migrations = { service: serviceTables, mail_server: mailServerTables } as const;

/** Creates a database that has all tables of the service, or of the mail server, as `sendmux migrate` makes them. */
export const migratedDatabase = (whose: keyof typeof migrations): Promise<TestDatabase> =>
  databaseWith(migrations[whose], thisRelease);
