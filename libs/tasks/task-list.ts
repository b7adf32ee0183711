import { EventEmitter } from 'node:events';
import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';

/** A task as its handler sees it. */
export interface Task<Payload = unknown> {
  readonly list: string;
  readonly key: string;
  readonly kind: string;
  readonly payload: Payload;
  /** From 1: this is the how-manieth try, those included whose worker died. */
  readonly attempts: number;
  readonly createdAt: Date;
  readonly lastError: string | null;
}

/** A task that one worker holds until `leaseUntil` of the database's clock. */
export interface ClaimedTask extends Task {
  /** Differs from the row's once another task has taken the place of this one. */
  readonly id: string;
  readonly leaseToken: string;
}

export interface TaskStatistics {
  readonly total: number;
  /** Those whose time has come, running ones included. */
  readonly due: number;
  /** How long the longest-waiting due task is overdue, in seconds; 0 when none is. */
  readonly oldestDueSeconds: number;
  /** Tries of the task that was tried most. */
  readonly maxAttempts: number;
}

/**
 * What processes still have to do, in PostgreSQL: one task a key at most. Tasks are delivered at least once; two
 * workers never hold the same key at the same time, even when a task is replaced while it runs.
 */
@Injectable()
export class TaskList {
  /** Emits the key, under the name of the list, when this process puts or removes a task. */
  readonly changed = new EventEmitter();

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Adds a task, or replaces the key's task. A worker that runs the replaced one is told by its signal and cannot
   * complete the new one, which starts when that worker lets go of the key. The same kind and payload again is the same
   * task: nothing changes, so a redelivered event neither hurries nor repeats it.
   *
   * @param payload anything JSON.
   * @param due not before this time; at once when absent.
   */
  async put(list: string, key: string, kind: string, payload: unknown, due?: Date): Promise<void> {
    await this.pool.query({
      name: 'task-put',
      text: `
        INSERT INTO tasks AS t (list, key, kind, payload, due) VALUES ($1, $2, $3, $4, coalesce($5, now()))
        ON CONFLICT (list, key) DO UPDATE SET
          id = excluded.id, kind = excluded.kind, payload = excluded.payload, due = excluded.due,
          attempts = 0, last_error = NULL, created_at = excluded.created_at
        WHERE t.kind <> excluded.kind OR t.payload <> excluded.payload`,
      values: [list, key, kind, JSON.stringify(payload), due ?? null],
    });
    this.changed.emit(list, key);
  }

  /** Removes the key's task, if any. A worker that runs it is told by its signal. */
  async remove(list: string, key: string): Promise<void> {
    await this.pool.query('DELETE FROM tasks WHERE list = $1 AND key = $2', [list, key]);
    this.changed.emit(list, key);
  }

  async statistics(list: string): Promise<TaskStatistics> {
    const { rows } = await this.pool.query<{ total: string; due: string; oldest: number; attempts: number }>(
      `SELECT count(*) AS total, count(*) FILTER (WHERE due <= now()) AS due,
              coalesce(extract(epoch FROM now() - min(due) FILTER (WHERE due <= now())), 0)::float8 AS oldest,
              coalesce(max(attempts), 0) AS attempts
       FROM tasks WHERE list = $1`,
      [list],
    );
    const { total, due, oldest, attempts } = rows[0]!;
    return { total: Number(total), due: Number(due), oldestDueSeconds: oldest, maxAttempts: attempts };
  }

  /** Up to `limit` due tasks, the longest-waiting first, for `leaseMs`. */
  async claim(list: string, limit: number, leaseMs: number): Promise<ClaimedTask[]> {
    const { rows } = await this.pool.query<ClaimedTask>({
      name: 'task-claim',
      text: `
        WITH free AS MATERIALIZED (
          SELECT list, key FROM tasks
          WHERE list = $1 AND due <= now() AND (lease_until IS NULL OR lease_until <= now())
          ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        UPDATE tasks t SET
          lease_token = gen_random_uuid(), lease_until = now() + $3 * interval '1 ms', attempts = attempts + 1
        FROM free WHERE t.list = free.list AND t.key = free.key
        RETURNING t.list, t.key, t.id, t.kind, t.payload, t.attempts, t.created_at AS "createdAt",
                  t.last_error AS "lastError", t.lease_token AS "leaseToken"`,
      values: [list, limit, leaseMs],
    });
    return rows;
  }

  /** Milliseconds until the next task that nobody holds is due (0: it is), by the database's clock. */
  async nextDueInMs(list: string): Promise<number | undefined> {
    const { rows } = await this.pool.query<{ ms: number | null }>({
      name: 'task-next-due',
      text: `
        SELECT extract(epoch FROM due - now())::float8 * 1000 AS ms
        FROM tasks WHERE list = $1 AND (lease_until IS NULL OR lease_until <= now()) ORDER BY due LIMIT 1`,
      values: [list],
    });
    return rows[0]?.ms == null ? undefined : Math.max(0, rows[0].ms);
  }

  /** False when the task is not this worker's any more: its lease is lost, or it was replaced or removed. */
  async renew(task: ClaimedTask, leaseMs: number): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'task-renew',
      text: `
        UPDATE tasks SET lease_until = now() + $5 * interval '1 ms'
        WHERE list = $1 AND key = $2 AND lease_token = $3 AND id = $4`,
      values: [task.list, task.key, task.leaseToken, task.id, leaseMs],
    });
    return rowCount === 1;
  }

  /** Takes the task off the list. */
  async complete(task: ClaimedTask): Promise<void> {
    const { rowCount } = await this.pool.query({
      name: 'task-complete',
      text: 'DELETE FROM tasks WHERE list = $1 AND key = $2 AND lease_token = $3 AND id = $4',
      values: [task.list, task.key, task.leaseToken, task.id],
    });
    if (rowCount === 0) await this.letGo(task);
  }

  /** Lets go of the task until `delayMs` from now. */
  async postpone(task: ClaimedTask, delayMs: number, error: string): Promise<void> {
    const { rowCount } = await this.pool.query({
      name: 'task-postpone',
      text: `
        UPDATE tasks SET
          lease_token = NULL, lease_until = NULL, due = now() + $5 * interval '1 ms', last_error = $6
        WHERE list = $1 AND key = $2 AND lease_token = $3 AND id = $4`,
      values: [task.list, task.key, task.leaseToken, task.id, delayMs, error],
    });
    if (rowCount === 0) await this.letGo(task);
  }

  /** Lets go of the key as if the task had never been claimed; what replaced the task can start. */
  async letGo(task: ClaimedTask): Promise<void> {
    await this.pool.query({
      name: 'task-let-go',
      text: `
        UPDATE tasks SET
          lease_token = NULL, lease_until = NULL, attempts = CASE WHEN id = $4 THEN attempts - 1 ELSE attempts END
        WHERE list = $1 AND key = $2 AND lease_token = $3`,
      values: [task.list, task.key, task.leaseToken, task.id],
    });
    this.changed.emit(task.list, task.key);
  }
}
