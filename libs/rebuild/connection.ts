import { openClient } from '@app/database';
import type { Client } from 'pg';

/** Opens a connection without a statement time-out, on which times are written as ISO 8601 in UTC. */
export async function connect(url: string): Promise<Client> {
  const client = await openClient({ connectionString: url });
  await client.query(`SET statement_timeout = 0; SET timezone = 'UTC'; SET datestyle = 'ISO'`);
  // Without this setting, the server keeps the locks of a process that was killed until its statement ends.
  await client.query(`SET client_connection_check_interval = '1s'`).catch(() => undefined);
  return client;
}
