import { randomInt } from 'node:crypto';
import { currentOf, NotInOrder, type Current } from '@app/runtime';
import type { Client } from 'pg';
import { openClient, type DatabaseUrls } from './connections';

/** Thrown when a database is not reached as it has to be. The message says which setting to mend, and how. */
export class RouteUnusable extends NotInOrder {
  override readonly name = 'RouteUnusable';
}

/** First key of the advisory locks by which two connections recognise that they reach the same database. */
const routeLocks = 1_919_907_188;

const settingsOf = ({ setting = 'DATABASE_URL' }: DatabaseUrls) =>
  ({ url: setting, directUrl: setting.replace(/URL$/, 'DIRECT_URL') }) as const;

/**
 * Checks that a session lasts as long as its connection: locks of a session and LISTEN are lost where a pooler gives
 * each transaction to another session.
 *
 * @param client connected to the `directUrl` of `urls`, or to its `url` where there is none.
 * @throws {RouteUnusable} when it does not last.
 */
export async function checkSessions(client: Client, urls: DatabaseUrls): Promise<void> {
  if (!(await isPooledByTransaction(client, currentOf(urls.directUrl ?? urls.url)))) return;
  const { url, directUrl } = settingsOf(urls);
  throw new RouteUnusable(
    urls.directUrl === undefined
      ? `${url} leads through a pooler in transaction mode. Set ${directUrl} to the server itself: LISTEN, locks of a session and migrations need it.`
      : `${directUrl} leads through a pooler in transaction mode. Set it to the server itself: LISTEN, locks of a session and migrations need it.`,
  );
}

/**
 * Checks that the two URLs lead to the same database, and that statements through the pooler have a time limit.
 *
 * @returns what an operator should mend, though the database can be used; undefined where there is nothing.
 * @throws {RouteUnusable} when they lead to different databases.
 */
export async function checkPooled(
  urls: DatabaseUrls & { readonly directUrl: Current<string> },
): Promise<string | undefined> {
  const direct = await openClient({ connectionString: currentOf(urls.directUrl) });
  try {
    const key = randomInt(2 ** 31);
    await direct.query('SELECT pg_advisory_lock($1::int, $2::int)', [routeLocks, key]);
    const { url, directUrl } = settingsOf(urls);
    const pooled = await openClient({ connectionString: currentOf(urls.url) });
    try {
      const { rows } = await pooled.query<{ seen: boolean; timeout: string }>(
        `SELECT current_setting('statement_timeout') AS timeout, EXISTS (
           SELECT FROM pg_locks
           WHERE locktype = 'advisory' AND classid = ${routeLocks} AND objid::int8 = $1 AND objsubid = 2
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS seen`,
        [key],
      );
      const { seen, timeout } = rows[0]!;
      if (!seen)
        throw new RouteUnusable(`${url} and ${directUrl} lead to different databases. They must lead to the same one.`);
      if (timeout !== '0') return undefined;
      return `Statements through ${url} have no time limit, which a pooler cannot set: ALTER ROLE … SET statement_timeout = '30s' for its user`;
    } finally {
      await pooled.end();
    }
  } finally {
    await direct.end();
  }
}

/**
 * Tells whether another connection can get the session that this one has had. A server that is reached directly names
 * the session when the connection is opened, and a pooler names none of the server's.
 */
async function isPooledByTransaction(client: Client & { readonly processID?: number }, url: string): Promise<boolean> {
  const before = await backendOf(client);
  if (client.processID === before) return false;
  const other = await openClient({ connectionString: url });
  try {
    await other.query('BEGIN');
    await backendOf(other);
    return (await backendOf(client)) !== before;
  } finally {
    await other.end();
  }
}

/** Gives the id of the server process that runs the statements of a connection now. */
async function backendOf(client: Client): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]!.pid;
}
