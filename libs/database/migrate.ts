import { Client } from 'pg';
import { DataSource, type MigrationInterface } from 'typeorm';

export type Migration = new () => MigrationInterface;

/** Any number that no other program locks: the name of the lock that migrating processes wait for. */
const migrationLock = 7_310_582_449;

/**
 * Brings a database up to date. Several processes may call it at once: the others wait, and find the work done.
 *
 * @param connectForMs how long a database that is not there yet is waited for.
 */
export async function migrate(url: string, migrations: readonly Migration[], connectForMs = 15_000): Promise<void> {
  const lock = await connectWithin(url, connectForMs);
  try {
    await lock.query('SELECT pg_advisory_lock($1)', [migrationLock]);
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
  } finally {
    await lock.end();
  }
}

async function connectWithin(url: string, milliseconds: number): Promise<Client> {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const client = new Client({ connectionString: url });
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.end();
      if (Date.now() >= deadline)
        throw new Error(`No database at ${new URL(url).host}: ${(error as Error).message}`, { cause: error });
      await new Promise((retry) => setTimeout(retry, 250));
    }
  }
}
