import { openClient } from '@app/database';
import type { System } from './processes';

/** Runs a statement on a database of the system, and closes the connection. */
export async function query<Row extends object>(url: string, text: string, values: unknown[] = []): Promise<Row[]> {
  const client = await openClient({ connectionString: url });
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

/** Gives the holder of the name in each: the id of a domain, `foreign`, or null. */
export async function whoHas(system: System, name: string): Promise<{ mailServer: string | null; ses: string | null }> {
  const sql = 'SELECT domain_id FROM mail_domains WHERE domain = $1';
  const [row] = await query<{ domain_id: string }>(system.mailServerDatabaseUrl, sql, [name]);
  const identity = (await system.sandbox.identities()).find((each) => each.name === name);
  const tag = identity?.tags.find(({ Key }) => Key === 'sendmux:domain-id')?.Value;
  return { mailServer: row?.domain_id ?? null, ses: identity ? (tag ?? 'foreign') : null };
}

/** Gives the status of the newest domain of that name, including statuses that the API does not show. */
export async function statusOf(system: System, name: string): Promise<string | undefined> {
  const sql = 'SELECT status FROM domains WHERE name = $1 ORDER BY id DESC LIMIT 1';
  return (await query<{ status: string }>(system.databaseUrl, sql, [name]))[0]?.status;
}

/** Locks the mail server's table until the returned function is called. */
export async function lockMailServer(system: System): Promise<() => Promise<void>> {
  const client = await openClient({ connectionString: system.mailServerDatabaseUrl });
  await client.query('BEGIN; LOCK TABLE mail_domains IN ACCESS EXCLUSIVE MODE');
  return () => client.end();
}

/** Whether a session waits for that lock. */
export async function someoneWaits(system: System): Promise<boolean> {
  const sql = `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
  return (await query(system.mailServerDatabaseUrl, sql)).length > 0;
}

/** Closes the mail server's database, ending all its connections, or opens it again. */
export async function shutMailServer(system: System, shut: boolean): Promise<void> {
  const name = new URL(system.mailServerDatabaseUrl).pathname.slice(1);
  await query(system.databaseUrl, `ALTER DATABASE ${name} ALLOW_CONNECTIONS ${!shut}`);
  if (shut)
    await query(system.databaseUrl, 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [
      name,
    ]);
}
