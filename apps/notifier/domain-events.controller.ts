import { EventPattern, Payload } from '@nestjs/microservices';
import { DomainCommandHandler } from '@app/commands';
import type { RecordedEvent } from '@app/event-store';
import type { VerificationFailed } from '@app/mail-domain';
import { EventConsumer } from '@app/messaging';
import { TaskList } from '@app/tasks';
import { episodeOf, notifierTasks, recoveryOf, type FailureTask, type RecoveryTask } from './notifier';

/** Puts each failure, and the first success after it, on the list of what the owners must be told. */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly domains: DomainCommandHandler,
  ) {}

  @EventPattern<string>('VerificationFailed')
  async putOnTheList(@Payload() { stream, time, data, metadata: { correlationId } }: RecordedEvent): Promise<void> {
    const { episode, failing } = data as VerificationFailed['data'];
    const { state } = await this.domains.load(stream);
    if (state.status === 'absent') return;
    const failure: FailureTask = { domainId: stream, team: state.team, episode, at: time, correlationId, failing };
    await this.tasks.put(notifierTasks, episodeOf(failure), 'TellOwners', failure);
  }

  @EventPattern<string>('DomainVerified')
  async putRecoveryOnTheList(@Payload() { stream, time, metadata: { correlationId } }: RecordedEvent): Promise<void> {
    const { state } = await this.domains.load(stream);
    if (state.status !== 'verified' || state.episodes === 0) return;
    const recovery: RecoveryTask = { domainId: stream, episode: state.episodes, at: time, correlationId };
    await this.tasks.put(notifierTasks, recoveryOf(recovery), 'TellOfRecovery', recovery);
  }
}
