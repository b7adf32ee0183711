import { currentOf, type Current, type Settings } from '@app/runtime';
import { Client, Pool, type ClientBase, type ClientConfig, type PoolConfig, type QueryConfig } from 'pg';
import { CountedClient, startCounting, type CountedDatabase } from './counted-client';
import { postgresFault } from './postgres-fault';

/** Milliseconds after which a ROLLBACK without an answer is given up, together with its connection. */
const rollbackWithinMs = 5_000;
/** Milliseconds after which an attempt to connect is given up. */
const connectWithinMs = 10_000;
/**
 * Milliseconds by which the wait for an answer is longer than the server may work on a statement. The server ends a
 * statement first, whose outcome is then certain, unless the server itself is gone or waits for its standby.
 */
const lateByMs = 5_000;
/**
 * Finds a connection dead whose other end has vanished without a word: Node has the kernel ask after ten seconds of
 * silence, and ten times at intervals of a second.
 */
const keepAlive = { keepAlive: true, keepAliveInitialDelayMillis: 10_000 };

/** Tells where a database is. Each connection is opened by what the URL is then: its password may have changed. */
export interface DatabaseUrls {
  readonly url: Current<string>;
  /** Where sessions are opened that last, when `url` leads through a pooler in transaction mode. */
  readonly directUrl?: Current<string> | undefined;
  /** The name of the setting that has `url`, for messages; `DATABASE_URL` where absent. */
  readonly setting?: string;
}

/** Gives the URLs of the database of the events, as the settings have them whenever a connection is opened. */
export const databaseUrls = (settings: Pick<Settings, 'DATABASE_URL' | 'DATABASE_DIRECT_URL'>): DatabaseUrls => ({
  url: () => settings.DATABASE_URL,
  directUrl: settings.DATABASE_DIRECT_URL && (() => settings.DATABASE_DIRECT_URL!),
});

/** Gives the URLs of the database that Postfix reads, likewise. */
export const mailServerUrls = (
  settings: Pick<Settings, 'MAIL_SERVER_DATABASE_URL' | 'MAIL_SERVER_DATABASE_DIRECT_URL'>,
): DatabaseUrls => ({
  url: () => settings.MAIL_SERVER_DATABASE_URL,
  directUrl: settings.MAIL_SERVER_DATABASE_DIRECT_URL && (() => settings.MAIL_SERVER_DATABASE_DIRECT_URL!),
  setting: 'MAIL_SERVER_DATABASE_URL',
});

/** Gives how each pool opens a session that lasts. */
const sessions = new WeakMap<Pool, () => ClientConfig>();

/**
 * Thrown in place of a connection to a standby. Reading there would be wrong and not just late: positions of the log
 * are known ahead on a standby, and the locks that say which appends are in flight are on the primary alone.
 */
export class NotThePrimary extends Error {
  override readonly name = 'NotThePrimary';
  /** That of a write on a standby: the primary may be another server in a moment. */
  readonly code = '25006';

  constructor() {
    super('The server is a standby, which takes no writes');
  }
}

/** The connections that have reached a standby. */
const onStandby = new WeakSet<object>();

/** Notes where a connection leads to: PostgreSQL says it at its beginning, and when it changes (since version 14). */
function noting<C extends ClientBase>(client: C): C {
  // The driver has it, and its types do not.
  const { connection } = client as C & { readonly connection: NodeJS.EventEmitter };
  connection.on('parameterStatus', (said: { readonly parameterName: string; readonly parameterValue: string }) => {
    if (said.parameterName !== 'in_hot_standby') return;
    if (said.parameterValue === 'on') onStandby.add(client);
    else onStandby.delete(client);
  });
  return client;
}

/**
 * Tells whether a connection leads to a standby. A pooler repeats to each client what a server said when it was first
 * reached, also after its promotion, so that the server itself is asked where a standby was reported.
 *
 * @throws {Error} the error of the connection.
 */
async function isOnStandby(client: ClientBase): Promise<boolean> {
  if (!onStandby.has(client)) return false;
  const { rows } = await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby');
  if (rows[0]!.standby && client instanceof CountedClient) client.countStandby();
  return rows[0]!.standby;
}

/** Makes a class of clients each of which connects by what the URL is when it is made. */
const clientAt = (url: Current<string>, database: CountedDatabase, Base: typeof CountedClient) =>
  class extends Base {
    protected override readonly of = database;
    constructor(config?: ClientConfig) {
      super({ ...config, connectionString: currentOf(url) });
      noting(this);
    }
  };

/**
 * Sends every statement without a name: a pooler in transaction mode gives each transaction to any session, which may
 * not know what another one has prepared.
 */
class PooledClient extends CountedClient {
  override query(...[statement, ...rest]: unknown[]): never {
    return super.query(unnamed(statement), ...rest);
  }
}

/** Gives a statement without its name. What sends itself, such as a COPY, is left as it is. */
function unnamed(statement: unknown): unknown {
  if (typeof statement !== 'object' || statement === null || 'submit' in statement) return statement;
  const { name: _, ...rest } = statement as QueryConfig;
  return rest;
}

/** A connection as its user sees it. Only the code that opened it, or took it out of the pool, can end it. */
export type Connection = Pick<ClientBase, 'query' | 'escapeLiteral'>;

/**
 * Opens a pool of connections to a primary. A connection that the server ends never ends the process: the query that
 * runs on it rejects, or the next one does. One that leads to a standby is not used (`NotThePrimary`).
 *
 * The server ends a statement that takes longer than `statementTimeoutMs` (SQLSTATE 57014) and undoes it. A statement
 * that waits for a lock without end would otherwise block everything that waits for its connection, such as the appends
 * of a process. Through a pooler no connection can set that, so that the user of the database has to have it
 * (`checkPooled`). A server that has vanished ends nothing, and no clock of the server runs while a commit waits for a
 * standby: five seconds later the wait itself ends, and the connection with it. The outcome is then not known.
 *
 * @param statementTimeoutMs 0 for statements of any length.
 */
export function openPool(
  urls: string | DatabaseUrls,
  connections = 16,
  statementTimeoutMs = 30_000,
  more: PoolConfig = {},
): Pool {
  const { url, directUrl, setting }: DatabaseUrls = typeof urls === 'string' ? { url: urls } : urls;
  const database = setting === 'MAIL_SERVER_DATABASE_URL' ? 'mail_server' : 'events';
  startCounting(database);
  const common = { connectionTimeoutMillis: connectWithinMs, ...keepAlive, ...more };
  const session = { ...common, statement_timeout: statementTimeoutMs };
  const pool = new Pool({
    ...(statementTimeoutMs > 0 && { query_timeout: statementTimeoutMs + lateByMs }),
    ...(directUrl === undefined ? session : common),
    Client: clientAt(url, database, directUrl === undefined ? CountedClient : PooledClient),
    max: connections,
    verify: (client, done) =>
      void isOnStandby(client).then((standby) => done(standby ? new NotThePrimary() : undefined), done),
  });
  sessions.set(pool, () => ({ ...session, connectionString: currentOf(directUrl ?? url) }));
  // The pool listens for errors of idle connections only, and an error without a listener ends the process.
  pool.on('connect', (client) => client.on('error', toldByQueries));
  pool.on('error', toldByQueries);
  return pool;
}

/**
 * Opens a session that lasts, outside a pool and by the ways of its connections: for LISTEN, locks of a session, or a
 * long COPY. The caller ends it.
 *
 * @throws {Error} when the server cannot be reached or refuses.
 */
export function openSession(pool: Pool, more: ClientConfig = {}): Promise<Client> {
  return openClient({ ...(sessions.get(pool)?.() ?? pool.options), ...more });
}

/**
 * Runs `work` on a session of its own, without a limit for statements, and ends it afterwards. The statement that runs
 * when the signal aborts is cancelled.
 *
 * @throws the reason of the signal, when it is aborted.
 */
export async function inSession<T>(
  pool: Pool,
  signal: AbortSignal | undefined,
  work: (session: Client) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const session = await openSession(pool, { statement_timeout: 0 });
  let cancel = () => {};
  try {
    const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    cancel = () => void pool.query('SELECT pg_cancel_backend($1)', [rows[0]!.pid]).catch(() => undefined);
    signal?.addEventListener('abort', cancel, { once: true });
    return await work(session);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
    await session.end();
  }
}

/**
 * Opens a connection outside a pool. Like those of `openPool` it leads to a primary, and may break at any time without
 * ending the process. The caller ends it.
 *
 * @throws {NotThePrimary} when the server is a standby.
 * @throws {Error} when the server cannot be reached, does not answer within ten seconds, or refuses.
 */
export async function openClient(config: ClientConfig): Promise<Client> {
  const client: Client = noting(
    new CountedClient({ connectionTimeoutMillis: connectWithinMs, ...keepAlive, ...config }),
  );
  client.on('error', toldByQueries);
  try {
    await client.connect();
    if (await isOnStandby(client)) throw new NotThePrimary();
  } catch (error) {
    await client.end();
    throw error;
  }
  return client;
}

/**
 * Runs `work` with one connection of the pool, and gives it back afterwards.
 *
 * @param work gets the connection, and a signal that aborts when the connection breaks: what the session held, such as
 * a lock, may then be another's.
 * @param keeps tells whether an error of `work` has left the session unchanged. Without it every error costs the
 * connection, since a transaction may still be open on it.
 * @throws {Error} whatever `work` throws, and when no connection is available.
 */
export async function withClient<T>(
  pool: Pool,
  work: (client: Connection, lost: AbortSignal) => Promise<T>,
  keeps: (error: unknown) => boolean = () => false,
): Promise<T> {
  const client = await pool.connect();
  const loss = new AbortController();
  let broken: Error | undefined;
  const breaks = (error: Error) => {
    broken ??= error;
    loss.abort(broken);
  };
  client.on('error', breaks);
  try {
    return await work(client, loss.signal);
  } catch (error) {
    if (!keeps(error)) broken ??= error instanceof Error ? error : new Error(String(error));
    throw error;
  } finally {
    // The pool destroys a connection that is released with an error, and listens to the errors of the others again.
    client.release(broken);
    client.off('error', breaks);
  }
}

/**
 * Runs `work` in one transaction on one connection: commits when it resolves, rolls back when it rejects.
 *
 * @throws {Error} the error of `work`, whatever happens to the ROLLBACK; the error of COMMIT, in which case the commit
 * may have happened if the connection broke; and an error when `work` has ignored a failed statement, since PostgreSQL
 * then commits nothing.
 */
export async function inTransaction<T>(
  pool: Pool,
  work: (client: Connection, lost: AbortSignal) => Promise<T>,
): Promise<T> {
  let isRolledBack = false;
  return withClient(
    pool,
    async (client, lost) => {
      await client.query('BEGIN');
      try {
        const result = await work(client, lost);
        const { command } = await client.query('COMMIT');
        if (command !== 'COMMIT') throw new Error('A statement of the transaction had failed: nothing is committed.');
        return result;
      } catch (error) {
        isRolledBack = await client.query(rollback).then(
          () => true,
          () => false,
        );
        throw error;
      }
    },
    // The next connection may lead to where writes are taken.
    (error) => isRolledBack && postgresFault(error) !== 'unreachable',
  );
}

/** The driver supports a time-out for a single query, but its types do not declare it. */
const rollback = { text: 'ROLLBACK', query_timeout: rollbackWithinMs } as QueryConfig;

/** Ignores the error event: the query that runs, or the next one, rejects with the error. */
const toldByQueries = (): void => undefined;

/**
 * Gives the SQL of a parameter that is an array, so that PostgreSQL makes one plan for arrays of all lengths. It would
 * plan a prepared statement anew whenever a short one is given, since that looks cheaper than the plan for any length,
 * and planning takes longer than most statements do.
 *
 * @param parameter such as `$1`.
 * @param type of the elements, such as `text`.
 */
export const ofAnyLength = (parameter: string, type: string): string => `(SELECT ${parameter}::${type}[])::${type}[]`;

/**
 * Has the transaction that evaluates it, as an SQL expression, be acknowledged before it is on the disk, and on a
 * synchronous standby. A server that crashes may forget what was committed so in the last `wal_writer_delay` times
 * three, 600 ms as a rule, and then all that was committed after it, too. It is for what is made again where it is
 * missing.
 */
export const unwaited = `set_config('synchronous_commit', 'off', true)`;
