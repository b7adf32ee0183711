import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { failed, type Finding } from './check';
import { reasonOf } from './diagnose';

/** Milliseconds for a connection, and for a statement. */
const answerMs = 4_000;

/** Runs `work` with a pool of one connection, whose every wait is bounded. */
export async function withDatabase<T>(url: string, work: (pool: Pool) => Promise<T>): Promise<T> {
  const pool = openPool(url, 1, answerMs, { connectionTimeoutMillis: answerMs, query_timeout: answerMs });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}

/** What to do about an error of a connection, by its code (PostgreSQL, appendix A, or of the system). */
const remedies: Record<string, string> = {
  '25006': 'Name the primary',
  '28P01': 'Set the password that its user has',
  '28000': 'Let its user in, in pg_hba.conf of the server',
  '3D000': 'Create the database, or name the one that is there',
  '42501': 'Give its user the right',
  '42P01': 'Run `sendmux migrate`',
  '53300': 'Raise max_connections of the server, or run fewer processes',
  '57P03': 'Wait until the server has started',
  ECONNREFUSED: 'Start the server, or name the host and port where it listens',
  ENOTFOUND: 'Name a host that has an address',
  EAI_AGAIN: 'Look at the resolver of this machine',
};

/** Gives the finding for an error of a database. */
export function databaseFault(error: unknown, setting: string): Finding {
  const { code = '', errors } = error as NodeJS.ErrnoException & { readonly errors?: readonly NodeJS.ErrnoException[] };
  const remedy = remedies[code] ?? remedies[errors?.[0]?.code ?? ''] ?? 'Look at the server, and at the way to it';
  return failed(`${setting}: ${reasonOf(error as Error)}. ${remedy}.`);
}
