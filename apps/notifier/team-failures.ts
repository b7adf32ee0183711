import { inTransaction } from '@app/database';
import { DomainsReadModel } from '@app/read-model';
import { TaskList } from '@app/tasks';
import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';
import { notifierTasks, type FailureTask } from './notices';

/** Number of failures in one mail; the rest follow in the next. */
const mostAtOnce = 500;

/**
 * First key of the advisory locks by which only one process at a time mails the owners of a team. The second key is the
 * hash of the team.
 */
const teamLocks = 1_853_122_665;

/** Finds the failures of one team that belong in one mail. */
@Injectable()
export class TeamFailures {
  constructor(
    @Inject(Pool) private readonly pool: Pool,
    private readonly domains: DomainsReadModel,
    private readonly tasks: TaskList,
  ) {}

  /**
   * Whether other domains of the team had their first strike at or before this time. Each of those fails, or is
   * verified again, within a cycle.
   *
   * @param at ISO 8601.
   */
  areComing(team: string, at: string): Promise<boolean> {
    return this.domains.hasFirstStrikes(team, at);
  }

  /** Reads the failures of the team that are on the task list, the oldest first. */
  waiting(team: string): Promise<FailureTask[]> {
    return this.tasks.payloads<FailureTask>(notifierTasks, 'TellOwners', { team }, mostAtOnce);
  }

  /**
   * Runs `work` unless another call for the team is running, in this process or another.
   *
   * @param work gets a signal that aborts when the lock is lost, since another call may then run.
   * @returns undefined when another call is running.
   */
  alone<Result>(team: string, work: (lost: AbortSignal) => Promise<Result>): Promise<Result | undefined> {
    // The lock belongs to the transaction, so it is released even if the connection breaks.
    return inTransaction(this.pool, async (client, lost) => {
      const { rows } = await client.query<{ mine: boolean }>(
        'SELECT pg_try_advisory_xact_lock($1::int, hashtext($2)) AS mine',
        [teamLocks, team],
      );
      return rows[0]!.mine ? work(lost) : undefined;
    });
  }
}
