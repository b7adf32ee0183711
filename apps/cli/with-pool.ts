import { openPool } from '@app/database';
import { EventArchive, EventLog } from '@app/event-store';
import { mailboxKeyRing } from '@app/mailbox-keys';
import { loadSettings } from '@app/runtime';
import type { KeyRing } from '@app/secret-keys';
import type { Pool } from 'pg';

/** Gives the URL at which commands reach the database: not through a pooler, where there is one. */
export function databaseUrl(): string {
  const settings = loadSettings(process.env, ['DATABASE_URL', 'DATABASE_DIRECT_URL']);
  return settings.DATABASE_DIRECT_URL ?? settings.DATABASE_URL;
}

/** Gives the ring that opens the keys of mailboxes, where it is set. */
export function givenKeyRing(): KeyRing | undefined {
  const { PERSONAL_DATA_KEYS: keys } = loadSettings(process.env, ['PERSONAL_DATA_KEYS']);
  return keys && mailboxKeyRing(keys);
}

/**
 * Opens a pool on the database, runs `work` with it, and closes it.
 *
 * @param connections most connections at a time; 1 when absent.
 * @param statementTimeoutMs as for `openPool`; 0 means no limit.
 */
export async function withPool<T>(
  work: (pool: Pool) => Promise<T>,
  connections = 1,
  statementTimeoutMs?: number,
): Promise<T> {
  const pool = openPool(databaseUrl(), connections, statementTimeoutMs);
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}

/** Runs `work` with a pool and the log on it, as `withPool` does. */
export const withLog = <T>(
  work: (pool: Pool, log: EventLog) => Promise<T>,
  connections?: number,
  statementTimeoutMs?: number,
): Promise<T> =>
  withPool(
    async (pool) => {
      const log = new EventLog(pool);
      try {
        return await work(pool, log);
      } finally {
        await log.close();
      }
    },
    connections,
    statementTimeoutMs,
  );

/** Runs `work` with the archive and the last settled position of the log. Statements have no time limit. */
export const withArchive = <T>(work: (pool: Pool, archive: EventArchive, head: number) => Promise<T>): Promise<T> =>
  withLog(async (pool, log) => work(pool, new EventArchive(pool), await log.head()), 2, 0);
