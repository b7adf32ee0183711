import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { backOffMs, type BackOff } from '@app/runtime';
import { eventId, type EventLog, type RecordedEvent } from '@app/event-store';
import { Logger } from '@nestjs/common';
import { BaseRpcContext, Server, type CustomTransportStrategy } from '@nestjs/microservices';
import type { Pool } from 'pg';
import { isObservable, lastValueFrom } from 'rxjs';
import { isConnectionLoss } from './connection-loss';
import { LockConnection } from './lock-connection';
import { OrderedDispatch } from './ordered-dispatch';

export interface LogTransportOptions {
  /** One connection is held while the transport listens. */
  readonly pool: Pool;
  readonly log: Pick<EventLog, 'head' | 'read' | 'follow'>;
  /** Names the checkpoint. Of all transports with this name, in all processes, one reads. */
  readonly group: string;
  /** Where a group without checkpoint starts. */
  readonly startFrom: 'beginning' | 'now';
  /** Streams that are handled at once; 16 when absent. */
  readonly concurrency?: number;
  /** Calls of a handler before its event is parked; 5 when absent. */
  readonly attempts?: number;
  /** Wait after a handler's failure; 200 ms to 10 s when absent. */
  readonly backOff?: BackOff;
  /** Shortest time between two checkpoints; 100 when absent. */
  readonly checkpointMs?: number;
  /** How often a stand-by asks for its turn; 1,000 when absent. */
  readonly standByMs?: number;
  /** How long `close` waits for running handlers; 10,000 when absent. */
  readonly closeWithinMs?: number;
  /** A fault that no retry mends. Absent: it is logged, and the process exits with status 1. */
  readonly onFatal?: (error: unknown) => void;
}

export type LogTransportStatus = 'connecting' | 'standBy' | 'active' | 'closed' | 'failed';

export interface LogProgress {
  readonly status: LogTransportStatus;
  /** Everything at or below is handled or parked. */
  readonly position: number;
  /** The newest position known of; asked for every two seconds. */
  readonly head: number;
  /** Since when an active reader has been behind the head without moving; undefined when it is not. */
  readonly behindSince: Date | undefined;
}

/** First key of the advisory locks that make a group's reader the only one; the second is the hash of its name. */
const readerLocks = 1_819_242_356;
const backlog = 1_000;
const headMs = 2_000;

/**
 * Nest transport that hands the events of the log to `@EventPattern` handlers, in the order of each stream, at least
 * once. An event whose handler keeps failing is parked in `parked_messages`, and the group goes on.
 *
 * The lock that makes a reader the only one of its group, its checkpoints and its parked messages share one connection:
 * a reader that has lost the lock can write neither.
 */
export class LogTransport extends Server<Record<string, never>, LogTransportStatus> implements CustomTransportStrategy {
  override readonly propagatesEventHandlerErrors = true;
  override readonly transportId = Symbol('log');
  protected override readonly logger: Logger;
  private readonly options: Required<LogTransportOptions>;
  private readonly closing = new AbortController();
  private listening: Promise<void> | undefined;
  private currentStatus: LogTransportStatus = 'connecting';
  private dispatch: OrderedDispatch | undefined;
  private failures = 0;
  private known = { position: 0, head: 0 };
  private behindSince: Date | undefined;

  constructor(options: LogTransportOptions) {
    super();
    this.logger = new Logger(`log ${options.group}`);
    this.options = {
      concurrency: 16,
      attempts: 5,
      backOff: { baseMs: 200, capMs: 10_000 },
      checkpointMs: 100,
      standByMs: 1_000,
      closeWithinMs: 10_000,
      onFatal: () => process.exit(1),
      ...options,
    };
  }

  listen(callback: (error?: unknown) => void): void {
    this.listening = this.run();
    callback();
  }

  /** Takes no more events, waits for running handlers, writes the checkpoint and leaves the group to a stand-by. */
  async close(): Promise<void> {
    this.closing.abort();
    await this.listening;
  }

  on(): never {
    throw new Error('The log transport emits nothing; see its status.');
  }

  unwrap<T>(): T {
    return this.options.log as T;
  }

  progress(): LogProgress {
    this.noteProgress();
    return { status: this.currentStatus, ...this.known, behindSince: this.behindSince };
  }

  /**
   * For a liveness probe.
   *
   * @throws {Error} when the reader has not moved for `stalledMs` although it is behind.
   */
  assertProgress(stalledMs = 30_000): void {
    const { behindSince, position, head } = this.progress();
    if (behindSince && Date.now() - behindSince.getTime() > stalledMs)
      throw new Error(`${this.options.group} stands at ${position} of ${head} since ${behindSince.toISOString()}`);
  }

  /** Awaits the handler, unlike the base class, which would count a failure as handled. */
  override async handleEvent(pattern: string, packet: { data: unknown }, context: BaseRpcContext): Promise<void> {
    const handler = this.messageHandlers.get(pattern);
    if (!handler) return;
    await new Promise<void>((resolve, reject) => {
      this.runWithProcessingHooks(context, async (runEndHook) => {
        try {
          const result: unknown = await handler(packet.data, context);
          if (isObservable(result)) await lastValueFrom(result, { defaultValue: undefined });
          resolve();
        } catch (error) {
          // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as the handler threw it
          reject(error);
        } finally {
          runEndHook();
        }
      });
    });
  }

  private async run(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      this.become('connecting');
      try {
        await this.session();
      } catch (error) {
        if (!isConnectionLoss(error)) {
          this.become('failed');
          this.logger.error(`The reader of ${this.options.group} cannot go on: ${describe(error)}`);
          return this.options.onFatal(error);
        }
        this.logger.warn(`The database is away: ${(error as Error).message}`);
      }
      this.failures += 1;
      await pause(backOffMs({ baseMs: 100, capMs: 5_000 }, this.failures), signal);
    }
    this.become('closed');
  }

  /** From a new connection to its loss or the close. */
  private async session(): Promise<void> {
    const lock = await LockConnection.open(this.options.pool, this.closing.signal);
    try {
      await this.waitForTurn(lock);
      if (lock.signal.aborted) return;
      const dispatch = this.dispatchFrom(lock, await this.checkpoint(lock));
      await this.read(lock, dispatch);
    } finally {
      lock.release();
    }
    if (lock.lost) throw lock.lost;
  }

  private async waitForTurn(lock: LockConnection): Promise<void> {
    while (!lock.signal.aborted) {
      const { rows } = await lock.query<{ taken: boolean }>(
        'SELECT pg_try_advisory_lock($1::int, hashtext($2)) AS taken',
        [readerLocks, this.options.group],
      );
      if (rows[0]!.taken) return;
      this.become('standBy');
      await pause(this.options.standByMs, lock.signal);
    }
  }

  private async checkpoint(lock: LockConnection): Promise<number> {
    const { group, log, startFrom } = this.options;
    const { rows } = await lock.query<{ position: string }>('SELECT position FROM checkpoints WHERE name = $1', [
      group,
    ]);
    if (rows[0]) return Number(rows[0].position);
    const start = startFrom === 'now' ? await log.head() : 0;
    await this.writeCheckpoint(lock, start);
    return start;
  }

  private async writeCheckpoint(lock: LockConnection, position: number): Promise<void> {
    await lock.query(
      `INSERT INTO checkpoints (name, position) VALUES ($1, $2)
       ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = now()`,
      [this.options.group, position],
    );
  }

  private dispatchFrom(lock: LockConnection, after: number): OrderedDispatch {
    const { attempts, backOff, concurrency } = this.options;
    return new OrderedDispatch({
      ...{ after, attempts, backOff, backlog, concurrency },
      handle: (event) => this.handleEvent(event.type, { data: event }, new BaseRpcContext([event])),
      failed: (event, error, attempt, retryInMs) => {
        const next = retryInMs === undefined ? 'it is parked' : `again in ${retryInMs} ms`;
        const text = `${event.type} ${eventId(event)} failed (attempt ${attempt} of ${attempts}), ${next}: ${describe(error)}`;
        if (retryInMs === undefined) this.logger.error(text);
        else this.logger.warn(text);
      },
      park: (event, error, tries) => this.park(lock, event, error, tries),
      broken: (error) => lock.lose(error),
    });
  }

  private async park(lock: LockConnection, event: RecordedEvent, error: unknown, attempts: number): Promise<void> {
    const { position, stream, version, type } = event;
    await lock.query(
      `INSERT INTO parked_messages AS parked
         (consumer_group, position, stream, version, type, payload, error, attempts)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
       ON CONFLICT (consumer_group, position) DO UPDATE SET
         error = excluded.error, attempts = parked.attempts + excluded.attempts, parked_at = now()`,
      [this.options.group, position, stream, version, type, JSON.stringify(event), describe(error), attempts],
    );
  }

  private async read(lock: LockConnection, dispatch: OrderedDispatch): Promise<void> {
    const { checkpointMs, closeWithinMs, group, log } = this.options;
    let written = dispatch.position;
    let writing: Promise<void> | undefined;
    const writeIfMoved = async () => {
      this.noteProgress();
      const { position } = dispatch;
      if (position === written) return;
      await this.writeCheckpoint(lock, position);
      written = position;
    };
    const checkpoints = setInterval(() => {
      writing ??= writeIfMoved()
        .catch((error: unknown) => lock.lose(error))
        .finally(() => (writing = undefined));
    }, checkpointMs);
    const heads = setInterval(() => void this.askForHead(dispatch), headMs);
    // At once, even while the loop below waits for room.
    void aborted(lock.signal).then(() => dispatch.stop());
    this.dispatch = dispatch;
    this.known = { position: written, head: written };
    this.failures = 0;
    this.become('active');
    this.logger.log(`Reads for ${group} after position ${written}`);
    try {
      for await (const events of log.follow({ after: written, signal: lock.signal })) {
        for (const event of events) {
          if (lock.signal.aborted) break;
          if (this.messageHandlers.has(event.type)) await dispatch.push(event);
          else dispatch.skip(event.position);
        }
        if (lock.signal.aborted) break;
      }
    } catch (error) {
      if (!lock.signal.aborted) throw error;
    } finally {
      clearInterval(heads);
      if (lock.lost) this.become('connecting');
      // Old handlers must have ended before this process reads again; one that closes does not wait for ever.
      const late = aborted(this.closing.signal).then(() => sleep(closeWithinMs, undefined, { ref: false }));
      await Promise.race([dispatch.stop(), late]);
      clearInterval(checkpoints);
      await writing;
      if (!lock.lost) await writeIfMoved();
      this.dispatch = undefined;
      this.behindSince = undefined;
    }
  }

  private async askForHead(dispatch: OrderedDispatch): Promise<void> {
    try {
      // A head beyond the last event seen may be a gap: an event that is not there yet must be seen to count.
      const unread = await this.options.log.read({ after: dispatch.seen, limit: 1 });
      if (unread.events.length > 0) this.known.head = await this.options.log.head();
    } catch (error) {
      this.logger.debug(`The head is not known: ${(error as Error).message}`);
    }
  }

  private noteProgress(): void {
    if (!this.dispatch) return;
    const { position, seen } = this.dispatch;
    const moved = position !== this.known.position;
    this.known = { position, head: Math.max(this.known.head, seen) };
    if (position >= this.known.head) this.behindSince = undefined;
    else if (moved || !this.behindSince) this.behindSince = new Date();
  }

  private become(status: LogTransportStatus): void {
    this.currentStatus = status;
    this._status$.next(status);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch((error: Error) => {
    if (error.name !== 'AbortError') throw error;
  });
}

function describe(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : inspect(error);
  // PostgreSQL stores no NUL.
  return text.replaceAll('\0', '');
}
