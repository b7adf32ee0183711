import { openSession } from '@app/database';
import type { Client, Pool, QueryConfig, QueryResult, QueryResultRow } from 'pg';

const heartbeatMs = 2_000;
/**
 * Milliseconds without an answer after which the connection counts as lost. It is well below the server's own time-out,
 * after which the lock is given to another.
 */
const silenceMs = 3_000;
/**
 * Keep-alive settings with which the server ends the session of a machine that has vanished, and frees its locks, after
 * some eleven seconds.
 */
const keepAlive = 'SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3';

/**
 * Holds a session's advisory lock on a connection of its own, with everything that may only be written under the lock.
 * The server frees the lock when the connection ends, and after that nothing can be written by it.
 */
export class LockConnection {
  /** Aborts when the connection is lost or released, or the owner closes. */
  readonly signal: AbortSignal;
  /** The reason why the connection was lost. */
  lost: Error | undefined;
  private readonly over = new AbortController();
  private readonly gone: Promise<never>;
  private readonly heartbeat: NodeJS.Timeout;

  /** @param closing aborts when the owner closes. */
  static async open(pool: Pool, closing: AbortSignal): Promise<LockConnection> {
    const connection = new LockConnection(await openSession(pool), closing);
    try {
      await connection.query(keepAlive);
    } catch (error) {
      connection.release();
      throw error;
    }
    return connection;
  }

  private constructor(
    private readonly client: Client,
    closing: AbortSignal,
  ) {
    this.signal = AbortSignal.any([closing, this.over.signal]);
    this.gone = new Promise((_, reject) =>
      this.over.signal.addEventListener('abort', () => reject(this.lost ?? new Error('Connection terminated'))),
    );
    // Queries race against this promise. It must not be an unhandled rejection when no query is waiting.
    this.gone.catch(() => undefined);
    client.on('error', (error) => this.lose(error));
    client.on('end', () => this.lose(new Error('Connection terminated')));
    this.heartbeat = setInterval(() => void this.beat(), heartbeatMs);
  }

  /** Rejects when the connection is lost, even where the socket has not noticed it. */
  query<Row extends QueryResultRow>(statement: string | QueryConfig, values?: unknown[]): Promise<QueryResult<Row>> {
    return Promise.race([this.client.query<Row>(statement, values), this.gone]);
  }

  lose(error: unknown): void {
    if (this.over.signal.aborted) return;
    this.lost = error instanceof Error ? error : new Error(String(error));
    this.end();
  }

  release(): void {
    this.end();
    void this.client.end();
  }

  private async beat(): Promise<void> {
    const silence = setTimeout(() => this.lose(new Error('Connection timeout: the server is silent')), silenceMs);
    try {
      await this.query('SELECT 1');
    } catch (error) {
      this.lose(error);
    } finally {
      clearTimeout(silence);
    }
  }

  private end(): void {
    clearInterval(this.heartbeat);
    this.over.abort();
  }
}
