import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { Inject, Injectable } from '@nestjs/common';
import type { Connection } from '@app/database';
import { carried } from '@app/tracing';
import { Pool } from 'pg';

/** A task as its handler sees it. */
export interface Task<Payload = unknown> {
  readonly list: string;
  readonly key: string;
  readonly kind: string;
  readonly payload: Payload;
  /** The number of this attempt, from 1. Attempts whose process died count. */
  readonly attempts: number;
  readonly createdAt: Date;
  /** Since when it may be run: as it was put, or since the end of what it has waited for. Failures do not change it. */
  readonly readyAt: Date;
  readonly lastError: string | null;
  /** The span that has put it on, as W3C `traceparent`; null where that was not traced. */
  readonly traceparent: string | null;
}

/** A task that one worker holds until `leaseUntil`, by the database's clock. */
export interface ClaimedTask extends Task {
  /** The id of this task. It differs from the row's once another task has replaced this one. */
  readonly id: string;
  readonly leaseToken: string;
}

export interface TaskStatistics {
  readonly total: number;
  /** Tasks that are ready, running ones and those included that are tried again later. */
  readonly due: number;
  /** Seconds for which the task that is ready longest has been ready, whether it was tried or not; 0 when none is. */
  readonly oldestDueSeconds: number;
  /** The largest number of attempts of any task. */
  readonly maxAttempts: number;
}

/** A place of a worker, for a task that is claimed as it is put. */
export interface Place {
  /** Milliseconds for which the task is claimed. */
  readonly leaseMs: number;
  /** Runs the task in the place; gives the place back where the key was not free, or the task is there already. */
  run(task: ClaimedTask | undefined): void;
}

/** The columns of a task as `ClaimedTask` has them. */
const claimedColumns = `t.list, t.key, t.id, t.kind, t.payload, t.attempts, t.created_at AS "createdAt",
                  t.last_error AS "lastError", t.lease_token AS "leaseToken", t.traceparent,
                  coalesce(t.ready_at, t.due) AS "readyAt"`;

/**
 * Stores in PostgreSQL what processes still have to do, with at most one task a key. Tasks are delivered at least once.
 * Two workers never hold the same key at the same time, even when a task is replaced while it runs.
 */
@Injectable()
export class TaskList {
  /**
   * Emits the key, under the name of the list, when this process puts or removes a task, and whether it was claimed as
   * it was put.
   */
  readonly changed = new EventEmitter();
  /** Gives a place of a worker of this process, by the list; undefined while it has none. */
  readonly places = new Map<string, () => Place | undefined>();

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Adds a task, or replaces the key's task. The signal of a worker that runs the replaced task aborts, and that worker
   * cannot complete the new one, which starts when the key is released. Putting the same kind and payload again changes
   * nothing, so a redelivered event neither hurries nor repeats the task.
   *
   * Where a worker of this process has a place, a task that is due is claimed by the same statement. Others that are
   * due for longer are not before it: a worker with a place has found none.
   *
   * @param payload any JSON value.
   * @param due the earliest time to run it; at once when absent.
   * @param client with a transaction in which the task is put; none when absent.
   */
  async put(
    list: string,
    key: string,
    kind: string,
    payload: unknown,
    due?: Date,
    client: Pick<Connection, 'query'> = this.pool,
  ): Promise<void> {
    const values = [list, key, kind, JSON.stringify(payload), due ?? null, carried()?.traceparent ?? null];
    const place = due || client !== this.pool ? undefined : this.places.get(list)?.();
    if (place) return this.putClaimed(list, key, values, place);
    await client.query({ name: 'task-put', text: putSql(), values });
    this.changed.emit(list, key);
  }

  private async putClaimed(list: string, key: string, values: readonly unknown[], place: Place): Promise<void> {
    let task: ClaimedTask | undefined;
    try {
      const token = randomUUID();
      const { rows } = await this.pool.query<ClaimedTask>({
        name: 'task-put-claimed',
        text: `${putSql({ token: '$7', ms: '$8' })} RETURNING ${claimedColumns}`,
        values: [...values, token, place.leaseMs],
      });
      task = rows.find(({ leaseToken }) => leaseToken === token);
      this.changed.emit(list, key, task !== undefined);
    } finally {
      place.run(task);
    }
  }

  /** Removes the key's task, if any. The signal of a worker that runs it aborts. */
  async remove(list: string, key: string): Promise<void> {
    await this.pool.query('DELETE FROM tasks WHERE list = $1 AND key = $2', [list, key]);
    this.changed.emit(list, key);
  }

  /** Gives the names of the lists that have tasks. */
  async names(): Promise<string[]> {
    const { rows } = await this.pool.query<{ list: string }>('SELECT DISTINCT list FROM tasks ORDER BY list');
    return rows.map(({ list }) => list);
  }

  async statistics(list: string): Promise<TaskStatistics> {
    const { rows } = await this.pool.query<{ total: string; due: string; oldest: number; attempts: number }>(
      `SELECT count(*) AS total, count(*) FILTER (WHERE coalesce(ready_at, due) <= now()) AS due,
              greatest(extract(epoch FROM now() - min(coalesce(ready_at, due))), 0)::float8 AS oldest,
              coalesce(max(attempts), 0) AS attempts
       FROM tasks WHERE list = $1`,
      [list],
    );
    const { total, due, oldest, attempts } = rows[0]!;
    return { total: Number(total), due: Number(due), oldestDueSeconds: oldest, maxAttempts: attempts };
  }

  /** Reads up to `limit` payloads of a kind that contain `part` (as jsonb `@>`), due or not, the oldest task first. */
  async payloads<Payload>(list: string, kind: string, part: object, limit: number): Promise<Payload[]> {
    const { rows } = await this.pool.query<{ payload: Payload }>({
      name: 'task-payloads',
      text: `SELECT payload FROM tasks WHERE list = $1 AND kind = $2 AND payload @> $3
        ORDER BY created_at, key LIMIT $4`,
      values: [list, kind, JSON.stringify(part), limit],
    });
    return rows.map(({ payload }) => payload);
  }

  /** Claims up to `limit` due tasks for `leaseMs`, the one that is due longest first. */
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
        RETURNING ${claimedColumns}`,
      values: [list, limit, leaseMs],
    });
    return rows;
  }

  /** Gives the milliseconds until the next task that no worker holds is due (0: it is due), by the database's clock. */
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

  /**
   * Extends the lease. Gives false when this worker no longer holds the task: its lease has ended, or the task was
   * replaced or removed.
   */
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

  /** Removes a task that is done. */
  async complete(task: ClaimedTask): Promise<void> {
    const { rowCount } = await this.pool.query({
      name: 'task-complete',
      text: 'DELETE FROM tasks WHERE list = $1 AND key = $2 AND lease_token = $3 AND id = $4',
      values: [task.list, task.key, task.leaseToken, task.id],
    });
    if (rowCount === 0) await this.giveUp(task);
  }

  /** Releases the task after a failed attempt, until `delayMs` from now. */
  postpone(task: ClaimedTask, delayMs: number, error: string): Promise<void> {
    return this.releaseUntil(task, delayMs, error, 0);
  }

  /**
   * Releases a task that has to wait, until `delayMs` from now. The attempt does not count, so the back-off does not
   * grow.
   */
  defer(task: ClaimedTask, delayMs: number, reason: string): Promise<void> {
    return this.releaseUntil(task, delayMs, reason, 1);
  }

  private async releaseUntil(task: ClaimedTask, delayMs: number, reason: string, uncounted: 0 | 1): Promise<void> {
    const { rowCount } = await this.pool.query({
      name: 'task-release-until',
      text: `
        UPDATE tasks SET
          lease_token = NULL, lease_until = NULL, due = now() + $5 * interval '1 ms', last_error = $6,
          attempts = attempts - $7,
          ready_at = CASE WHEN $7 = 0 THEN coalesce(ready_at, due) ELSE now() + $5 * interval '1 ms' END
        WHERE list = $1 AND key = $2 AND lease_token = $3 AND id = $4`,
      values: [task.list, task.key, task.leaseToken, task.id, delayMs, reason, uncounted],
    });
    if (rowCount === 0) await this.giveUp(task);
  }

  /** Releases the key as if the task had never been claimed, so that a task that replaced it can start. */
  async giveUp(task: ClaimedTask): Promise<void> {
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

/**
 * Gives the statement that puts a task.
 *
 * @param lease with which it is claimed, where nobody holds the key: the parameters of a new token, and of its
 * milliseconds.
 */
function putSql(lease?: { readonly token: string; readonly ms: string }): string {
  const [token, until, attempts] = lease
    ? [`${lease.token}::uuid`, `now() + ${lease.ms} * interval '1 ms'`, '1']
    : ['NULL', 'NULL', '0'];
  const held = 't.lease_until > now()';
  const leased =
    lease &&
    `, lease_token = CASE WHEN ${held} THEN t.lease_token ELSE excluded.lease_token END,
          lease_until = CASE WHEN ${held} THEN t.lease_until ELSE excluded.lease_until END`;
  return `
        INSERT INTO tasks AS t (list, key, kind, payload, due, ready_at, traceparent, lease_token, lease_until, attempts)
        VALUES ($1, $2, $3, $4, coalesce($5, now()), coalesce($5, now()), $6, ${token}, ${until}, ${attempts})
        ON CONFLICT (list, key) DO UPDATE SET
          id = excluded.id, kind = excluded.kind, payload = excluded.payload, due = excluded.due,
          attempts = ${lease ? `CASE WHEN ${held} THEN 0 ELSE 1 END` : '0'}, last_error = NULL,
          created_at = excluded.created_at, ready_at = excluded.ready_at, traceparent = excluded.traceparent${leased ?? ''}
        WHERE t.kind <> excluded.kind OR t.payload <> excluded.payload`;
}
