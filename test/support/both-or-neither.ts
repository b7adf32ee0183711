import { Client } from 'pg';
import type { System } from './processes';

/** Runs statements on a database of the system, and closes the connection. */
export async function query<Row extends object>(url: string, text: string, values: unknown[] = []): Promise<Row[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

/** Who has the name: the id of a domain, `foreign`, or null. */
export async function whoHas(system: System, name: string): Promise<{ mailServer: string | null; ses: string | null }> {
  const sql = 'SELECT domain_id FROM mail_domains WHERE domain = $1';
  const [row] = await query<{ domain_id: string }>(system.mailServerDatabaseUrl, sql, [name]);
  const identity = (await system.sandbox.identities()).find((each) => each.name === name);
  const tag = identity?.tags.find(({ Key }) => Key === 'sendmux:domain-id')?.Value;
  return { mailServer: row?.domain_id ?? null, ses: identity ? (tag ?? 'foreign') : null };
}

/** The status of the newest domain of that name, whatever the API shows of it. */
export async function statusOf(system: System, name: string): Promise<string | undefined> {
  const sql = 'SELECT status FROM domains WHERE name = $1 ORDER BY id DESC LIMIT 1';
  return (await query<{ status: string }>(system.databaseUrl, sql, [name]))[0]?.status;
}

/** Keeps the mail server's table locked until the returned function is called. */
export async function lockMailServer(system: System): Promise<() => Promise<void>> {
  const client = new Client({ connectionString: system.mailServerDatabaseUrl });
  await client.connect();
  await client.query('BEGIN; LOCK TABLE mail_domains IN ACCESS EXCLUSIVE MODE');
  return () => client.end();
}

/** Whether somebody waits for that lock. */
export async function someoneWaits(system: System): Promise<boolean> {
  const sql = `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
  return (await query(system.mailServerDatabaseUrl, sql)).length > 0;
}

/** Lets nobody into the mail server's database, and throws out who is in; or opens it again. */
export async function shutMailServer(system: System, shut: boolean): Promise<void> {
  const name = new URL(system.mailServerDatabaseUrl).pathname.slice(1);
  await query(system.databaseUrl, `ALTER DATABASE ${name} ALLOW_CONNECTIONS ${!shut}`);
  if (shut)
    await query(system.databaseUrl, 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [
      name,
    ]);
}
