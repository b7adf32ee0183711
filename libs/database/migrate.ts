import { setTimeout as sleep } from 'node:timers/promises';
import { backOffMs, currentOf } from '@app/runtime';
import type { Client } from 'pg';
import type { Migration as PendingMigration, MigrationExecutor, QueryRunner } from 'typeorm';
import type { DatabaseUrls } from './connections';
import { isLockTimeout } from './postgres-fault';
import type { Release } from './releases';
import {
  adviceOnSchema,
  faultOfSchema,
  schemaOf,
  SchemaUnusable,
  settingOf,
  withDirectConnection,
  type Migration,
} from './schema';

export interface MigrateOptions {
  /** Milliseconds to wait for a database that is not reachable yet; 15,000 when absent. */
  readonly connectForMs?: number;
  /** Milliseconds for which the locks of one migration are tried for, before it gives up; five minutes when absent. */
  readonly patienceMs?: number;
  /** The release that has all of these migrations; the database keeps that it has been here. */
  readonly release?: Release;
  /** Called after each migration, with the milliseconds that its last try has taken. */
  readonly onDone?: (name: string, milliseconds: number) => void;
  /** Called before each wait, with what is waited for. */
  readonly onWait?: (what: string) => void;
}

/** The key of the advisory lock that migrating processes wait for. Any number that no other program locks will do. */
const migrationLock = 7_310_582_449;
/**
 * Milliseconds for which a migration waits for a lock. Statements of the apps queue behind the request, so that this is
 * the longest that one of its locks holds them up before it has it.
 */
const lockWithinMs = 300;
/** The waits between two tries for the locks, in which those who queued are served. */
const betweenTries = { baseMs: 500, capMs: 10_000 };

/**
 * Brings a database up to date. Several processes may call it at once: the others wait, and find nothing left to do.
 *
 * Each migration is one transaction, which waits for no lock for long: it is taken back and tried again. One that says
 * `transaction = false` runs statement by statement and without that limit, for `CREATE INDEX CONCURRENTLY`; it has to
 * be such that it can be repeated.
 *
 * @returns what an operator should know: that a later release has been here. Undefined where there is nothing.
 * @throws {SchemaUnusable} when the tables are those of a later release that this one does not work on.
 * @throws {RouteUnusable} when only a pooler in transaction mode is reached.
 * @throws {Error} with the name of a migration that fails, or does not get its locks in time. Nothing of it is done.
 */
export async function migrate(
  urls: string | DatabaseUrls,
  migrations: readonly Migration[],
  options: MigrateOptions = {},
): Promise<string | undefined> {
  const { release, onWait } = options;
  const work = async (lock: Client) => {
    const { rows } = await lock.query<{ ours: boolean }>('SELECT pg_try_advisory_lock($1) AS ours', [migrationLock]);
    if (!rows[0]!.ours) {
      onWait?.('another process, which migrates this database');
      await lock.query('SELECT pg_advisory_lock($1)', [migrationLock]);
    }
    const where = settingOf(urls);
    const { missing, later } = await schemaOf(lock, migrations, release);
    const fault = faultOfSchema({ missing: [], later }, where, release);
    if (fault) throw new SchemaUnusable(fault);
    if (release) await keepRelease(lock, release);
    // Most calls find nothing to do, and loading TypeORM takes longer than the rest.
    if (missing.length > 0) await run(lock, urls, migrations, options);
    return adviceOnSchema({ missing: [], later }, where, release);
  };
  return withDirectConnection(urls, work, options.connectForMs);
}

/**
 * Keeps that a release changes the tables, before it does: an app of a release that does not work on them starts no
 * more from then on.
 */
async function keepRelease(client: Client, { version, oldest }: Release): Promise<void> {
  await client.query(`
    CREATE TABLE IF NOT EXISTS schema_releases (
      release text PRIMARY KEY,
      oldest text NOT NULL,
      since timestamptz NOT NULL DEFAULT now()
    )`);
  await client.query(
    `INSERT INTO schema_releases (release, oldest) VALUES ($1, $2)
     ON CONFLICT (release) DO UPDATE SET oldest = excluded.oldest WHERE schema_releases.oldest <> excluded.oldest`,
    [version, oldest],
  );
}

async function run(
  lock: Client,
  urls: string | DatabaseUrls,
  migrations: readonly Migration[],
  options: MigrateOptions,
): Promise<void> {
  const { DataSource, MigrationExecutor } = await import('typeorm');
  const url = currentOf(typeof urls === 'string' ? urls : (urls.directUrl ?? urls.url));
  const source = await new DataSource({ type: 'postgres', url, migrations: [...migrations] }).initialize();
  const runner = source.createQueryRunner();
  try {
    const executor = new MigrationExecutor(source, runner);
    for (const migration of await executor.getPendingMigrations()) {
      const milliseconds = await untilDone(lock, runner, executor, migration, options);
      options.onDone?.(migration.name, milliseconds);
    }
  } finally {
    await runner.release();
    await source.destroy();
  }
}

/** Tries a migration until it has had its locks, and gives the milliseconds of the last try. */
async function untilDone(
  lock: Client,
  runner: QueryRunner,
  executor: MigrationExecutor,
  migration: PendingMigration,
  { patienceMs = 300_000, onWait }: MigrateOptions,
): Promise<number> {
  const deadline = Date.now() + patienceMs;
  for (let tries = 1; ; tries++) {
    const began = performance.now();
    try {
      await attempt(runner, executor, migration);
      return performance.now() - began;
    } catch (error) {
      const { message } = error as Error;
      if (!isLockTimeout(error)) throw new Error(`${migration.name}: ${message}`, { cause: error });
      const held = await holders(lock);
      if (Date.now() >= deadline)
        throw new Error(
          `${migration.name} has not had its locks within ${patienceMs / 1_000} s, and nothing of it is done: ${held}. End that, or run this again when there is less to do.`,
          { cause: error },
        );
      const waitMs = backOffMs(betweenTries, tries);
      onWait?.(`locks of ${migration.name}, try ${tries + 1} in ${(waitMs / 1_000).toFixed(1)} s: ${held}`);
      await sleep(waitMs);
    }
  }
}

async function attempt(runner: QueryRunner, executor: MigrationExecutor, migration: PendingMigration): Promise<void> {
  if (migration.instance?.transaction === false) return void (await executor.executeMigration(migration));
  await runner.startTransaction();
  try {
    await runner.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
    await executor.executeMigration(migration);
    await runner.commitTransaction();
  } catch (error) {
    await runner.rollbackTransaction().catch(() => undefined);
    throw error;
  }
}

/** Says who may hold the locks: whose transaction has been open for the longest time. */
async function holders(client: Client): Promise<string> {
  const { rows } = await client.query<{ pid: number; who: string; seconds: string }>(
    `SELECT pid, coalesce(nullif(application_name, ''), usename) AS who, extract(epoch FROM now() - xact_start)::numeric(12, 1)::text AS seconds
     FROM pg_stat_activity
     WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
     ORDER BY xact_start LIMIT 1`,
  );
  const [longest] = rows;
  return longest
    ? `the longest transaction is that of server process ${longest.pid} (${longest.who}), for ${longest.seconds} s`
    : 'others hold them, now one, now another';
}
