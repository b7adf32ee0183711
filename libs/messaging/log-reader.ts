import { setTimeout as sleep } from 'node:timers/promises';
import { isPassingFault, unwaited } from '@app/database';
import { backOffMs, endLog } from '@app/runtime';
import { LogWentBack, type EventLog, type RecordedEvent } from '@app/event-store';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import { readCheckpoint } from './checkpoints';
import { describeError } from './describe-error';
import { LockConnection } from './lock-connection';

/** Takes the events that a reader reads during one session, from opening a connection to losing it. */
export interface Sink {
  /** The highest position at and below which everything is done. */
  readonly position: number;
  /** The highest position that was pushed or skipped. */
  readonly seen: number;
  push(event: RecordedEvent): void;
  skip(position: number): void;
  /** Resolves when the sink has room for another event; at once when it has room already, or is stopped. */
  room(): Promise<void>;
  /** Starts no more handlers. Resolves when none runs. */
  stop(): Promise<void>;
}

export interface LogSession {
  /** The checkpoint: everything at or below is done. */
  readonly after: number;
  /**
   * Runs SQL on the connection that holds the lock, so that only the one active reader of the name can write with it.
   */
  readonly query: LockConnection['query'];
  /** Ends the session. Another one begins at the checkpoint, here or in a stand-by. */
  readonly lose: (error: unknown) => void;
}

export interface LogReaderOptions {
  /** One connection is held while the reader runs. */
  readonly pool: Pool;
  readonly log: Pick<EventLog, 'head' | 'read' | 'follow'>;
  /** Names the checkpoint. Of all readers with this name, in all processes, one is active. */
  readonly name: string;
  /** Where a reader without checkpoint starts. */
  readonly startFrom: 'beginning' | 'now';
  /** Selects events; the others are skipped. */
  wants(event: RecordedEvent): boolean;
  /** Tells of which types events are read at once; of all when absent. */
  readonly isPromptFor?: (type: string) => boolean;
  /** Milliseconds from hearing of an event to reading it; none when absent. `Following` of the event log has more. */
  readonly lingerMs?: number | undefined;
  /**
   * Opens a session's sink. The reader continues above the position of the sink, which is the session's checkpoint or
   * one that the sink knows to be more recent.
   */
  open(session: LogSession): Sink | Promise<Sink>;
  /** Tells whether a fault passes by itself. A lost connection to the database always does. */
  readonly passes?: (error: unknown) => boolean;
  /**
   * Called on a fault that retrying does not repair. When absent, the fault is logged and the process exits with status
   * 1.
   */
  readonly onFatal?: (error: unknown) => void;
  readonly onStatus?: (status: LogReaderStatus) => void;
  /** Shortest time between two checkpoints, in milliseconds; 100 when absent. */
  readonly checkpointMs?: number;
  /** Milliseconds between a stand-by's attempts to become active; 1,000 when absent. */
  readonly standByMs?: number;
  /** Milliseconds for which `close` waits for running handlers; 10,000 when absent. */
  readonly closeWithinMs?: number;
}

export type LogReaderStatus = 'connecting' | 'standBy' | 'active' | 'closed' | 'failed';

export interface LogProgress {
  readonly status: LogReaderStatus;
  /** Everything at or below is done. */
  readonly position: number;
  /** The newest known position of the log, which is read every two seconds. */
  readonly head: number;
  /** The time since which an active reader has been behind the head without progress; undefined when it is not. */
  readonly behindSince: Date | undefined;
}

/** First key of the advisory locks that make a reader the only one of its name; the second is the hash of the name. */
const readerLocks = 1_819_242_356;
const headMs = 2_000;
/** Milliseconds after which a session counts as successful, so that the next failure is counted from one again. */
const provenMs = 10_000;

/**
 * Follows the log as the one active reader of a name, from a checkpoint of one position, and feeds a sink. A stand-by
 * takes over within seconds.
 *
 * The lock that makes a reader the only one of its name and the reader's checkpoints use the same connection, so a
 * reader that has lost the lock cannot write a checkpoint.
 */
export class LogReader {
  private readonly logger: Logger;
  private readonly options: Required<Omit<LogReaderOptions, 'isPromptFor' | 'lingerMs'>> &
    Pick<LogReaderOptions, 'isPromptFor' | 'lingerMs'>;
  private readonly closing = new AbortController();
  /** A single listener for all sessions, since each listener would stay on the signal. */
  private readonly closeAsked = aborted(this.closing.signal);
  private running: Promise<void> | undefined;
  private status: LogReaderStatus = 'connecting';
  private sink: Sink | undefined;
  private failures = 0;
  private activeSince: number | undefined;
  private known = { position: 0, head: 0 };
  private behindSince: Date | undefined;

  constructor(options: LogReaderOptions) {
    this.logger = new Logger(`log ${options.name}`);
    this.options = {
      passes: () => false,
      onFatal: () => void endLog().then(() => process.exit(1)),
      onStatus: () => undefined,
      checkpointMs: 100,
      standByMs: 1_000,
      closeWithinMs: 10_000,
      ...options,
    };
  }

  start(): void {
    this.running ??= this.run();
  }

  /**
   * Takes no more events, waits for running handlers, writes the checkpoint and releases the lock, so that a stand-by
   * can take over.
   */
  async close(): Promise<void> {
    this.closing.abort();
    await this.running;
  }

  progress(): LogProgress {
    this.noteProgress();
    return { status: this.status, ...this.known, behindSince: this.behindSince };
  }

  /**
   * Counts the positions between what is done and the end of the log, also while no session is open, such as when what
   * the sink needs is away; undefined for a stand-by.
   */
  async behind(): Promise<number | undefined> {
    if (this.status === 'standBy') return undefined;
    const { log, pool, name } = this.options;
    const after = this.sink?.position ?? (await readCheckpoint(pool, name)) ?? 0;
    // The last positions may be a gap, so that there is nothing to read.
    const { events } = await log.read({ after, limit: 1 });
    return events.length === 0 ? 0 : (await log.head()) - after;
  }

  /**
   * Checks liveness.
   *
   * @throws {Error} when the reader is behind and has made no progress for `stalledMs`.
   */
  assertProgress(stalledMs: number): void {
    const { behindSince, position, head } = this.progress();
    if (behindSince && Date.now() - behindSince.getTime() > stalledMs)
      throw new Error(`${this.options.name} stands at ${position} of ${head} since ${behindSince.toISOString()}`);
  }

  private async run(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      this.become('connecting');
      try {
        await this.session();
      } catch (error) {
        const passes = this.options.passes(error) || error instanceof LogWentBack;
        if (!passes && !isPassingFault(error)) {
          this.become('failed');
          this.logger.fatal(
            `The reader ${this.options.name} cannot go on, and ends its process: ${describeError(error)}`,
          );
          return this.options.onFatal(error);
        }
        const away = passes ? '' : 'The database is away: ';
        this.logger.warn(`${away}${(error as Error).message}`);
      }
      if (this.activeSince && Date.now() - this.activeSince > provenMs) this.failures = 0;
      this.activeSince = undefined;
      this.failures += 1;
      await pause(backOffMs({ baseMs: 100, capMs: 5_000 }, this.failures), signal);
    }
    this.become('closed');
  }

  /** Reads from a new connection until it is lost or the reader is closed. */
  private async session(): Promise<void> {
    const lock = await LockConnection.open(this.options.pool, this.closing.signal);
    try {
      await this.waitForTurn(lock);
      if (lock.signal.aborted) return;
      const after = await this.checkpoint(lock);
      const opened = this.options.open({
        after,
        query: (text, values) => lock.query(text, values),
        lose: (error) => lock.lose(error),
      });
      // Closing does not wait for the sink to open.
      const sink = await Promise.race([opened, this.closeAsked]);
      if (!sink) return;
      // Written before the first event is pushed: after a crash the reader would otherwise continue from a position
      // that the sink has already left.
      if (sink.position !== after) await this.writeCheckpoint(lock, sink.position);
      await this.read(lock, sink);
    } finally {
      lock.release();
    }
    if (lock.lost) throw lock.lost;
  }

  private async waitForTurn(lock: LockConnection): Promise<void> {
    while (!lock.signal.aborted) {
      const { rows } = await lock.query<{ taken: boolean }>(
        'SELECT pg_try_advisory_lock($1::int, hashtext($2)) AS taken',
        [readerLocks, this.options.name],
      );
      if (rows[0]!.taken) return;
      this.become('standBy');
      await pause(this.options.standByMs, lock.signal);
    }
  }

  private async checkpoint(lock: LockConnection): Promise<number> {
    const { name, log, startFrom } = this.options;
    const { rows } = await lock.query<{ position: string }>('SELECT position FROM checkpoints WHERE name = $1', [name]);
    if (rows[0]) return Number(rows[0].position);
    const start = startFrom === 'now' ? await log.head() : 0;
    await this.writeCheckpoint(lock, start);
    return start;
  }

  /**
   * @param how `unwaited` where the server may forget it when it crashes, with all that was committed later: the events
   * since the checkpoint before are delivered again then.
   */
  private async writeCheckpoint(lock: LockConnection, position: number, how?: 'unwaited'): Promise<void> {
    await lock.query({
      name: `checkpoint ${how ?? 'written'}`,
      text: `INSERT INTO checkpoints (name, position) VALUES ($1, $2)
       ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = now()
       ${how ? `RETURNING ${unwaited}` : ''}`,
      values: [this.options.name, position],
    });
  }

  private async read(lock: LockConnection, sink: Sink): Promise<void> {
    const { checkpointMs, closeWithinMs, name, log, wants, isPromptFor, lingerMs } = this.options;
    const start = sink.position;
    let written = start;
    let writing: Promise<void> | undefined;
    const writeIfMoved = async () => {
      this.noteProgress();
      const { position } = sink;
      if (position === written) return;
      await this.writeCheckpoint(lock, position, 'unwaited');
      written = position;
      this.failures = 0;
    };
    const checkpoints = setInterval(() => {
      writing ??= writeIfMoved()
        .catch((error: unknown) => lock.lose(error))
        .finally(() => (writing = undefined));
    }, checkpointMs);
    const heads = setInterval(() => void this.askForHead(sink), headMs);
    // Stops the sink at once, even while the loop below waits for room.
    aborted(lock.signal)
      .then(() => sink.stop())
      .catch((error: unknown) => lock.lose(error));
    this.sink = sink;
    this.known = { position: start, head: start };
    this.activeSince = Date.now();
    this.become('active');
    this.logger.log(`Reads for ${name} after position ${start}`);
    try {
      for await (const events of log.follow({ after: start, signal: lock.signal, isPromptFor, lingerMs })) {
        for (const event of events) {
          if (lock.signal.aborted) break;
          if (!wants(event)) sink.skip(event.position);
          else {
            sink.push(event);
            await sink.room();
          }
        }
        if (lock.signal.aborted) break;
      }
    } catch (error) {
      if (!lock.signal.aborted) throw error;
    } finally {
      clearInterval(heads);
      if (lock.lost) this.become('connecting');
      // Running handlers must have ended before this process reads again. A reader that closes waits for them only for
      // a limited time.
      const late = this.closeAsked.then(() => sleep(closeWithinMs, undefined, { ref: false }));
      await Promise.race([sink.stop(), late]);
      clearInterval(checkpoints);
      await writing;
      if (!lock.lost) await writeIfMoved();
      this.sink = undefined;
      this.behindSince = undefined;
    }
  }

  private async askForHead(sink: Sink): Promise<void> {
    try {
      // A head beyond the last event that was read may be a gap in the positions, also one that was taken for the head
      // while there was an event before it. The reader is behind only if there is an event to read.
      const unread = await this.options.log.read({ after: sink.seen, limit: 1 });
      this.known.head = unread.events.length > 0 ? await this.options.log.head() : sink.seen;
    } catch (error) {
      this.logger.debug(`The head is not known: ${(error as Error).message}`);
    }
  }

  private noteProgress(): void {
    if (!this.sink) return;
    const { position, seen } = this.sink;
    const moved = position !== this.known.position;
    this.known = { position, head: Math.max(this.known.head, seen) };
    if (position >= this.known.head) this.behindSince = undefined;
    else if (moved || !this.behindSince) this.behindSince = new Date();
  }

  private become(status: LogReaderStatus): void {
    this.status = status;
    this.options.onStatus(status);
  }
}

export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** Sleeps, at most until the signal aborts. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch((error: Error) => {
    if (error.name !== 'AbortError') throw error;
  });
}
