import { Client } from 'pg';

/** A connection on which a statement may take as long as it takes, and times are written in one way. */
export async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  // A connection that ends tells its query, and says so here as well.
  client.on('error', () => undefined);
  await client.connect();
  await client.query(`SET statement_timeout = 0; SET timezone = 'UTC'; SET datestyle = 'ISO'`);
  // A server that does not look for the end of its client holds the locks of a process that was killed until its statement ends.
  await client.query(`SET client_connection_check_interval = '1s'`).catch(() => undefined);
  return client;
}
