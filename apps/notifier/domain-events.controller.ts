import { EventPattern, Payload } from '@nestjs/microservices';
import { DomainCommandHandler } from '@app/commands';
import type { RecordedEvent } from '@app/event-store';
import { domainEvent, type IdentityRepaired, type VerificationFailed } from '@app/mail-domain';
import { EventConsumer } from '@app/messaging';
import { TaskList } from '@app/tasks';
import {
  episodeOf,
  newRecordsOf,
  notifierTasks,
  recoveryOf,
  type FailureTask,
  type NewRecordsTask,
  type RecoveryTask,
} from './notifier';

/** Failures of the same moment come one after the other: a mail waits for the next ones this long, in milliseconds. */
const companyMs = 500;

/** Puts each failure, the first success after it, and each change of the records on the list of what the owners must be told. */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly domains: DomainCommandHandler,
  ) {}

  @EventPattern<string>('VerificationFailed')
  async putOnTheList(@Payload() event: RecordedEvent): Promise<void> {
    const { stream, time, metadata } = event;
    const { correlationId } = metadata;
    const { episode, failing } = (domainEvent(event) as VerificationFailed).data;
    const { state } = await this.domains.load(stream);
    if (state.status === 'absent') return;
    const failure: FailureTask = { domainId: stream, team: state.team, episode, at: time, correlationId, failing };
    const due = new Date(Date.now() + companyMs);
    await this.tasks.put(notifierTasks, episodeOf(failure), 'TellOwners', failure, due);
  }

  @EventPattern<string>('IdentityRepaired')
  async putNewRecordsOnTheList(@Payload() event: RecordedEvent): Promise<void> {
    if (!(domainEvent(event) as IdentityRepaired).data.recordsChanged) return;
    const { stream, version, time, metadata } = event;
    const { correlationId } = metadata;
    const change: NewRecordsTask = { domainId: stream, version, at: time, correlationId };
    await this.tasks.put(notifierTasks, newRecordsOf(change), 'TellOfNewRecords', change);
  }

  @EventPattern<string>('DomainVerified')
  async putRecoveryOnTheList(@Payload() { stream, time, metadata: { correlationId } }: RecordedEvent): Promise<void> {
    const { state } = await this.domains.load(stream);
    if (state.status !== 'verified' || state.episodes === 0) return;
    const recovery: RecoveryTask = { domainId: stream, episode: state.episodes, at: time, correlationId };
    await this.tasks.put(notifierTasks, recoveryOf(recovery), 'TellOfRecovery', recovery);
  }
}
