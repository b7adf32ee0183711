import { randomBytes } from 'node:crypto';
import { openClient, type Connection } from '@app/database';

export interface TestDatabase {
  readonly url: string;
  /** Ends every connection and drops the database. */
  drop(): Promise<void>;
}

/** Creates a database in the server of this Jest run: a copy of the template, or an empty one. */
export async function testDatabase(template?: string): Promise<TestDatabase> {
  const name = `t_${randomBytes(6).toString('hex')}`;
  const server = await withAdmin(async (admin, url) => {
    await admin.query(`CREATE DATABASE ${name} ${template ? `TEMPLATE ${template}` : ''}`);
    return url;
  });
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    drop: () => withAdmin(async (admin) => void (await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))),
  };
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
