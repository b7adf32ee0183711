import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';
import { notifierTasks, type FailureTask } from './notifier';

/** Failures that one mail names at most; the rest are in the next. */
const mostAtOnce = 500;

/** The failures of one team, which belong into one mail. */
@Injectable()
export class TeamFailures {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Whether other domains of the team have had their first strike before this time, so that each of them fails or is well
   * again within a cycle from then.
   *
   * @param at ISO 8601.
   */
  async areComing(team: string, at: string): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'notifier-coming',
      text: `SELECT FROM domains
        WHERE team = $1 AND status = 'pending' AND verified_at IS NOT NULL AND checked_at <= $2 LIMIT 1`,
      values: [team, at],
    });
    return rowCount === 1;
  }

  /** Failures of the team that are still on the list, the oldest first. */
  async waiting(team: string): Promise<FailureTask[]> {
    const { rows } = await this.pool.query<{ payload: FailureTask }>({
      name: 'notifier-waiting',
      text: `SELECT payload FROM tasks WHERE list = $1 AND kind = 'TellOwners' AND payload->>'team' = $2
        ORDER BY created_at, key LIMIT $3`,
      values: [notifierTasks, team, mostAtOnce],
    });
    return rows.map(({ payload }) => payload);
  }

  /** Does the work while nobody else works for the same team, here or in another process; undefined when somebody does. */
  async alone<Result>(team: string, work: () => Promise<Result>): Promise<Result | undefined> {
    const client = await this.pool.connect();
    const key = `notifier ${team}`;
    let isLost: Error | boolean = false;
    try {
      const { rows } = await client.query<{ mine: boolean }>(
        'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS mine',
        [key],
      );
      if (!rows[0]!.mine) return undefined;
      try {
        return await work();
      } finally {
        await client
          .query('SELECT pg_advisory_unlock(hashtextextended($1, 0))', [key])
          .catch((error: Error) => (isLost = error));
      }
    } finally {
      client.release(isLost);
    }
  }
}
