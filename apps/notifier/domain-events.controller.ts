import { DomainCommandHandler } from '@app/commands';
import { EventConsumer } from '@app/messaging';
import { OnEvent, type Delivered } from '@app/subscriptions';
import { TaskList } from '@app/tasks';
import {
  episodeOf,
  newRecordsOf,
  notifierTasks,
  recoveryOf,
  type FailureTask,
  type NewRecordsTask,
  type RecoveryTask,
} from './notices';

/** Milliseconds for which the task of a failure is delayed, so that failures of the same moment share one mail. */
const gatheringMs = 500;

/**
 * Puts a task on the list for each notice to the owners: a failure, the first success after it, and new DKIM records.
 */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly domains: DomainCommandHandler,
  ) {}

  @OnEvent('VerificationFailed')
  async putOnTheList({ stream, time, metadata, data }: Delivered<'VerificationFailed'>): Promise<void> {
    const { correlationId } = metadata;
    const { episode, failing } = data;
    const { state } = await this.domains.load(stream);
    if (state.status === 'absent') return;
    const failure: FailureTask = { domainId: stream, team: state.team, episode, at: time, correlationId, failing };
    const due = new Date(Date.now() + gatheringMs);
    await this.tasks.put(notifierTasks, episodeOf(failure), 'TellOwners', failure, due);
  }

  @OnEvent('IdentityRepaired')
  async putNewRecordsOnTheList(event: Delivered<'IdentityRepaired'>): Promise<void> {
    if (!event.data.recordsChanged) return;
    const { stream, version, time, metadata } = event;
    const { correlationId } = metadata;
    const change: NewRecordsTask = { domainId: stream, version, at: time, correlationId };
    await this.tasks.put(notifierTasks, newRecordsOf(change), 'TellOfNewRecords', change);
  }

  @OnEvent('DomainVerified')
  async putRecoveryOnTheList({ stream, time, metadata }: Delivered<'DomainVerified'>): Promise<void> {
    const { correlationId } = metadata;
    const { state } = await this.domains.load(stream);
    if (state.status !== 'verified' || state.episodes === 0) return;
    const recovery: RecoveryTask = { domainId: stream, episode: state.episodes, at: time, correlationId };
    await this.tasks.put(notifierTasks, recoveryOf(recovery), 'TellOfRecovery', recovery);
  }
}
