import { currentOf, type Current } from '@app/runtime';
import type { Client } from 'pg';
import type { MigrationInterface } from 'typeorm';
import { openClient, type Connection, type DatabaseUrls } from './connections';
import { checkSessions } from './routes';

export type Migration = new () => MigrationInterface;

/** The key of the advisory lock that migrating processes wait for. Any number that no other program locks will do. */
const migrationLock = 7_310_582_449;

/**
 * Brings a database up to date. Several processes may call it at once: the others wait, and find nothing left to do.
 *
 * @param connectForMs milliseconds to wait for a database that is not reachable yet.
 * @throws {RouteUnusable} when only a pooler in transaction mode is reached.
 */
export async function migrate(
  urls: string | DatabaseUrls,
  migrations: readonly Migration[],
  connectForMs = 15_000,
): Promise<void> {
  const routes = typeof urls === 'string' ? { url: urls } : urls;
  const url = routes.directUrl ?? routes.url;
  const lock = await connectWithin(url, connectForMs);
  try {
    await checkSessions(lock, routes);
    await lock.query('SELECT pg_advisory_lock($1)', [migrationLock]);
    // Most starts find nothing to do, and loading TypeORM takes longer than the rest of a start.
    if ((await missingMigrations(lock, migrations)).length === 0) return;
    await run(currentOf(url), migrations);
  } finally {
    await lock.end();
  }
}

/** Gives the names of the migrations that a database has not had yet, in their order. It changes nothing. */
export async function missingMigrations(
  client: Pick<Connection, 'query'>,
  migrations: readonly Migration[],
): Promise<string[]> {
  const names = migrations.map((Migration) => new Migration().name ?? Migration.name);
  const { rows: tables } = await client.query<{ is: boolean }>(`SELECT to_regclass('migrations') IS NOT NULL AS is`);
  if (!tables[0]!.is) return names;
  const { rows } = await client.query<{ name: string }>('SELECT name FROM migrations');
  const done = new Set(rows.map(({ name }) => name));
  return names.filter((name) => !done.has(name));
}

/**
 * Gives the names of the migrations that a database has had and that are newer than all of these, in their order: those
 * of a later release. The names of migrations end with their time. It changes nothing.
 */
export async function newerMigrations(
  client: Pick<Connection, 'query'>,
  migrations: readonly Migration[],
): Promise<string[]> {
  const newest = Math.max(...migrations.map((Migration) => timeOf(new Migration().name ?? Migration.name)));
  const { rows } = await client.query<{ name: string }>('SELECT name FROM migrations');
  return rows
    .map(({ name }) => name)
    .filter((name) => timeOf(name) > newest)
    .sort((a, b) => timeOf(a) - timeOf(b));
}

/** TypeORM wants the last 13 characters of a name to be milliseconds since the epoch. */
const timeOf = (name: string): number => Number(name.slice(-13)) || 0;

async function run(url: string, migrations: readonly Migration[]): Promise<void> {
  const { DataSource } = await import('typeorm');
  const source = new DataSource({
    type: 'postgres',
    url,
    migrations: [...migrations],
    migrationsTransactionMode: 'each',
  });
  await source.initialize();
  try {
    await source.runMigrations();
  } finally {
    await source.destroy();
  }
}

async function connectWithin(url: Current<string>, milliseconds: number): Promise<Client> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    try {
      return await openClient({ connectionString: currentOf(url) });
    } catch (error) {
      if (Date.now() >= deadline)
        throw new Error(`No database at ${new URL(currentOf(url)).host}: ${(error as Error).message}`, {
          cause: error,
        });
      await new Promise((retry) => setTimeout(retry, 250));
    }
  }
}
