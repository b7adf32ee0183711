import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from './connections';

const retryMs = 100;

/**
 * Waits for the transactions that have a snapshot from before this call. Such a one would find a table without rows
 * that takes the place of another one. `CREATE INDEX CONCURRENTLY` waits in the same way.
 *
 * @param deadline milliseconds since the epoch.
 * @throws {Error} after that, naming who holds it up; the reason of the signal, when it is aborted.
 */
export async function waitForOldSnapshots(client: Connection, deadline: number, signal?: AbortSignal): Promise<void> {
  const { rows: now } = await client.query<{ now: string }>('SELECT clock_timestamp()::text AS now');
  for (; ; await sleep(retryMs)) {
    signal?.throwIfAborted();
    const { rows } = await client.query<{ pid: number; since: string }>(
      `SELECT pid, date_trunc('second', xact_start)::text AS since FROM pg_stat_activity
       WHERE datname = current_database() AND backend_type = 'client backend' AND backend_xmin IS NOT NULL
         AND xact_start < $1::timestamptz AND pid <> pg_backend_pid()`,
      [now[0]!.now],
    );
    if (rows.length === 0) return;
    if (Date.now() >= deadline)
      throw new Error(
        `${rows.map(({ pid, since }) => `The transaction of the server process ${pid} is open since ${since}`).join('. ')}: it would not see the new table whole.`,
      );
  }
}
