import { createHash, randomBytes } from 'node:crypto';
import { migrate, openClient, type Connection, type Migration, type Release } from '@app/database';

export interface TestDatabase {
  readonly url: string;
  /** Ends every connection and drops the database. */
  drop(): Promise<void>;
}

/** Creates a database in the server of this Jest run: a copy of the template, or an empty one. */
export async function testDatabase(template?: string): Promise<TestDatabase> {
  const name = `t_${randomBytes(6).toString('hex')}`;
  const server = await withAdmin(async (admin, url) => {
    // Copying by way of the log takes six times as long on a server that waits for no disk.
    await admin.query(`CREATE DATABASE ${name} ${template ? `TEMPLATE ${template}` : ''} STRATEGY file_copy`);
    return url;
  });
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    drop: () => withAdmin(async (admin) => void (await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))),
  };
}

/**
 * Creates a database that has had these migrations: a copy of a template that the first caller of this Jest run makes.
 * Copying takes a tenth of the time of migrating, which has to load TypeORM before.
 *
 * @param release kept as having been there, as `sendmux migrate` keeps it; none when absent.
 */
export async function databaseWith(migrations: readonly Migration[], release?: Release): Promise<TestDatabase> {
  const names = migrations.map((Each) => new Each().name ?? Each.name).sort();
  const made = createHash('sha256').update(JSON.stringify([names, release]));
  const template = `with_${made.digest('hex').slice(0, 24)}`;
  await withAdmin(async (admin, server) => {
    const isThere = async () =>
      (await admin.query('SELECT FROM pg_database WHERE datname = $1', [template])).rowCount === 1;
    if (await isThere()) return;
    await admin.query('SELECT pg_advisory_lock(hashtext($1))', [template]);
    if (await isThere()) return;
    await admin.query(`DROP DATABASE IF EXISTS ${template}_new`);
    await admin.query(`CREATE DATABASE ${template}_new`);
    const url = new URL(server);
    url.pathname = `/${template}_new`;
    await migrate(url.href, migrations, release && { release });
    await admin.query(`ALTER DATABASE ${template}_new RENAME TO ${template}`);
  });
  return testDatabase(template);
}

/** Connects to the server of this Jest run for the time of `use`, which gets the URL of the server too. */
export async function withAdmin<T>(use: (admin: Connection, server: string) => Promise<T>): Promise<T> {
  const server = process.env.TEST_DATABASE_URL;
  if (!server) throw new Error('No test server: run this by `npm run test:integration` or `npm run test:system`.');
  const admin = await openClient({ connectionString: server });
  try {
    return await use(admin, server);
  } finally {
    await admin.end();
  }
}
