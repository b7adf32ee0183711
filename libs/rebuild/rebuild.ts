import { setTimeout as sleep } from 'node:timers/promises';
import { assertReplaceable, copyIn, isLockTimeout, openPool, waitForOldSnapshots, type TextRow } from '@app/database';
import { bringArchived, estimatedEvents, EventLog } from '@app/event-store';
import { MailboxKeys } from '@app/mailbox-keys';
import type { KeyRing } from '@app/secret-keys';
import { DatabaseError, type Client } from 'pg';
import { connect } from './connection';
import { foldedRows } from './folded-rows';
import { projectionOf, type Projection, type ProjectionName } from './projections';
import {
  buildIndexes,
  columnsOf,
  createShadow,
  progressOf,
  replacedOf,
  shadowOf,
  swap,
  writeProgress,
  type Progress,
} from './shadow-table';

/** Rows in one transaction, which are the most that have to be read again after a kill. */
const chunkRows = 2_000;
/** The number of changed rows that may be written while writers wait for the lock. */
const fewRows = 500;
/**
 * The time-out of the table's lock, in milliseconds. It is short and the lock is requested again later, so that no
 * queries queue behind the request.
 */
const lockWithinMs = 100;
const retryMs = 500;
/**
 * Milliseconds to wait for the lock of another rebuild, since the server notices only after a while that a process was
 * killed.
 */
const oneAtATimeWithinMs = 5_000;
/**
 * First key of the advisory lock; the second is a hash of the table's name. The appends' locks have a single key, so
 * the two cannot collide.
 */
const lockKey = 0x5e4d;

export interface RebuildOptions {
  /** Drops what an earlier run has left, instead of resuming it. */
  readonly restart?: boolean;
  /**
   * Stops the rebuild at the next safe point. The live table stays as it was, and the next run resumes. After the swap
   * the signal has no effect.
   */
  readonly signal?: AbortSignal;
  /**
   * How long, in milliseconds, the rebuild waits for others that hold the table or an old snapshot of it, before it
   * gives up; 60,000 when absent.
   */
  readonly patienceMs?: number;
  /** Opens the keys of mailboxes; needed where their addresses are encrypted. */
  readonly keyRing?: KeyRing | undefined;
  /** Called with the number of events read, including those of earlier runs, and an estimate of the total. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Rebuilt {
  readonly rows: number;
  /** Events that this run has read, including those that it read a second time to catch up. */
  readonly events: number;
  /** The number of events that earlier runs had read. */
  readonly resumedAt: number;
  /** How long readers and writers waited at the swap, at most, in milliseconds. */
  readonly lockedMs: number;
}

/** Gives the number of events that an unfinished rebuild has read; undefined when there is none. */
export async function isRebuilding(url: string, name: ProjectionName): Promise<{ events: number } | undefined> {
  const client = await connect(url);
  try {
    return await progressOf(client, projectionOf(name).table.table);
  } finally {
    await client.end();
  }
}

/**
 * Fills a shadow table from the log, and swaps it for the live one. Reads and appends continue meanwhile, and wait some
 * milliseconds for the swap only. A run that dies at any point leaves the live table either as it was or rebuilt, and
 * the next run resumes.
 *
 * @throws {Error} when another rebuild of the table runs, when the table cannot be swapped, when the log cannot be
 * folded or breaks a rule of the table, and when others hold the table for too long.
 * @throws the reason of the signal, when it is aborted.
 */
export async function rebuild(url: string, name: ProjectionName, options: RebuildOptions = {}): Promise<Rebuilt> {
  const pool = openPool(url, 1);
  const clients = [await connect(url), await connect(url)] as const;
  try {
    const keys = new MailboxKeys(pool, options.keyRing);
    return await new Rebuild(name, clients[0], clients[1], new EventLog(pool), keys, options).run();
  } catch (error) {
    if (error instanceof DatabaseError && error.code === '23505')
      throw new Error(`The log breaks a rule of the table (${error.message}): ${error.detail}`, { cause: error });
    throw error;
  } finally {
    await Promise.all([...clients.map((client) => client.end()), pool.end()]);
  }
}

class Rebuild {
  private readonly projection: Projection;
  private readonly table: string;
  private readonly deadline: () => number;
  private read = 0;

  constructor(
    private readonly name: ProjectionName,
    /** Holds the advisory lock, so that nothing can be written after the lock is lost. */
    private readonly writer: Client,
    private readonly reader: Client,
    private readonly log: EventLog,
    private readonly keys: MailboxKeys,
    private readonly options: RebuildOptions,
  ) {
    this.projection = projectionOf(name);
    this.table = this.projection.table.table;
    this.deadline = () => Date.now() + (options.patienceMs ?? 60_000);
  }

  async run(): Promise<Rebuilt> {
    const { writer, table } = this;
    await this.lock();
    await this.dropReplaced();
    await assertReplaceable(writer, table);
    await bringArchived(this.reader, this.projection.prefix);
    let progress = await this.begin();
    const resumedAt = progress.events;
    if (!progress.filled) progress = await this.fill(progress);
    await buildIndexes(writer, table, 'key');
    // From here on the shadow equals the table at one snapshot, so its rows satisfy the unique indexes.
    progress = (await this.catchUp(progress)).progress;
    await buildIndexes(writer, table, 'all');
    await writer.query(`ANALYZE ${shadowOf(table)}`);
    for (let changed = Infinity, round = 0; changed > fewRows && round < 10; round++)
      ({ changed, progress } = await this.catchUp(progress));
    // One that has not used the table yet would find the new table without the rows that are newer than its snapshot.
    await waitForOldSnapshots(writer, this.deadline(), this.options.signal);
    const lockedMs = await this.swap(progress);
    await this.dropReplaced();
    const { rows } = await writer.query<{ rows: number }>(`SELECT count(*)::int AS rows FROM ${table}`);
    return { rows: rows[0]!.rows, events: this.read, resumedAt, lockedMs };
  }

  private async lock(): Promise<void> {
    const deadline = Date.now() + oneAtATimeWithinMs;
    for (;;) {
      const { rows } = await this.writer.query<{ ours: boolean }>(
        'SELECT pg_try_advisory_lock($1, hashtext($2)) AS ours',
        [lockKey, this.table],
      );
      if (rows[0]!.ours) return;
      if (Date.now() >= deadline) throw new Error(`Another rebuild of ${this.name} is running.`);
      await sleep(100);
    }
  }

  /** Finds the shadow of an earlier run, or creates one. */
  private async begin(): Promise<Progress> {
    const { writer, table } = this;
    const left = await progressOf(writer, table);
    if (
      left &&
      !this.options.restart &&
      (await columnsOf(writer, table)) === (await columnsOf(writer, shadowOf(table)))
    )
      return left;
    // The position is read before the first snapshot, so that everything which that snapshot does not see lies above
    // it.
    const position = await this.log.head();
    const progress = { position, after: null, filled: false, events: 0 };
    await this.inTransaction(async () => {
      await writer.query(`DROP TABLE IF EXISTS ${shadowOf(table)}`);
      await createShadow(writer, table);
      await writeProgress(writer, table, progress);
    });
    return progress;
  }

  /** Fills the shadow; one chunk is written while the next one is folded. */
  private async fill(from: Progress): Promise<Progress> {
    const { after, events: before } = from;
    const total = before + (await estimatedEvents(this.reader, { ...this.projection, ...(after && { after }) }));
    const keyAt = Object.keys(this.projection.table.columns).indexOf(this.projection.table.key);
    let progress = from;
    let chunk: TextRow[] = [];
    let writing: Promise<void> = Promise.resolve();
    const write = async (rows: readonly TextRow[], filled = false) => {
      await writing;
      this.options.signal?.throwIfAborted();
      progress = { ...progress, filled, after: rows.at(-1)?.[keyAt] ?? progress.after, events: before + this.read };
      const now = progress;
      writing = this.inTransaction(async () => {
        await this.insert(rows);
        await writeProgress(this.writer, this.table, now);
      });
      // The error is thrown when the next chunk awaits this promise.
      writing.catch(() => undefined);
      this.options.onProgress?.(now.events, total);
    };
    for await (const { rows, events } of foldedRows(this.reader, this.projection, this.keys, {
      ...(after && { after }),
    })) {
      this.read += events;
      chunk.push(...rows);
      if (chunk.length < chunkRows) continue;
      await write(chunk);
      chunk = [];
    }
    await write(chunk, true);
    await writing;
    return progress;
  }

  private insert(rows: readonly TextRow[]): Promise<void> {
    return copyIn(this.writer, shadowOf(this.table), Object.keys(this.projection.table.columns), rows);
  }

  /**
   * Brings the shadow up to a new snapshot: deletes the rows of the streams that have changed since, and inserts them
   * again.
   */
  private async catchUp(progress: Progress): Promise<{ changed: number; progress: Progress }> {
    this.options.signal?.throwIfAborted();
    const position = await this.log.head();
    return this.inTransaction(() => this.refold(progress, position), 'ISOLATION LEVEL REPEATABLE READ');
  }

  private async refold(progress: Progress, position: number): Promise<{ changed: number; progress: Progress }> {
    const { writer, reader, table, projection, keys } = this;
    const { rows: exported } = await writer.query<{ snapshot: string }>('SELECT pg_export_snapshot() AS snapshot');
    // All changed rows are deleted before the first is inserted, since a name may have passed from one stream to
    // another.
    await writer.query(
      `DELETE FROM ${shadowOf(table)} WHERE ${projection.table.key} IN (SELECT stream FROM events WHERE position > $1)`,
      [progress.position],
    );
    await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await reader.query(`SET TRANSACTION SNAPSHOT '${exported[0]!.snapshot}'`);
    let changed = 0;
    let chunk: TextRow[] = [];
    for await (const { rows, events } of foldedRows(reader, projection, keys, { changedAbove: progress.position })) {
      this.read += events;
      changed += rows.length;
      chunk.push(...rows);
      if (chunk.length < chunkRows) continue;
      await this.insert(chunk);
      chunk = [];
    }
    if (chunk.length > 0) await this.insert(chunk);
    await reader.query('COMMIT');
    const now = { ...progress, position };
    await writeProgress(writer, table, now);
    return { changed, progress: now };
  }

  /** Swaps the tables. Gives how long the writers waited, in milliseconds. */
  private async swap(progress: Progress): Promise<number> {
    const { writer, table } = this;
    for (const deadline = this.deadline(); ; await sleep(retryMs)) {
      this.options.signal?.throwIfAborted();
      const position = await this.log.head();
      try {
        let began = 0;
        await this.inTransaction(async () => {
          await writer.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
          began = performance.now();
          // With this lock no append is under way or can begin, since an append locks the table while it is planned,
          // before it draws a position.
          await writer.query(`LOCK TABLE ${table} IN SHARE ROW EXCLUSIVE MODE`);
          await this.refold(progress, position);
          await this.projection.recount(writer, shadowOf(table));
          await writer.query(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
          await swap(writer, table);
        }, 'ISOLATION LEVEL REPEATABLE READ');
        return performance.now() - began;
      } catch (error) {
        if (!isLockTimeout(error) && !isSerializationFailure(error)) throw error;
        if (Date.now() >= deadline)
          throw new Error(`Others hold the table ${table}, without a pause: ${await this.holders()}.`, {
            cause: error,
          });
        // Catches up before the next attempt, so that writers do not wait for what has changed meanwhile.
        ({ progress } = await this.catchUp(progress));
      }
    }
  }

  private async holders(): Promise<string> {
    const { rows } = await this.writer.query<{ pid: number; mode: string }>(
      `SELECT pid, mode FROM pg_locks WHERE relation = $1::regclass AND granted AND pid <> pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [this.table],
    );
    return rows.map(({ pid, mode }) => `server process ${pid} (${mode})`).join(', ') || 'now one, now another';
  }

  private async dropReplaced(): Promise<void> {
    for (const deadline = this.deadline(); ; await sleep(retryMs))
      try {
        await this.inTransaction(async () => {
          await this.writer.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
          await this.writer.query(`DROP TABLE IF EXISTS ${replacedOf(this.table)}`);
        });
        return;
      } catch (error) {
        if (!isLockTimeout(error) || Date.now() >= deadline) throw error;
      }
  }

  private async inTransaction<T>(work: () => Promise<T>, mode = ''): Promise<T> {
    await this.writer.query(`BEGIN ${mode}`);
    try {
      const result = await work();
      await this.writer.query('COMMIT');
      return result;
    } catch (error) {
      await this.writer.query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }
}

/** Tells whether an operator has set the quota of a team since the snapshot of the swap. */
const isSerializationFailure = (error: unknown): boolean => error instanceof DatabaseError && error.code === '40001';
