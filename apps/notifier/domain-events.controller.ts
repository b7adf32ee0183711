import { EventPattern, Payload } from '@nestjs/microservices';
import type { RecordedEvent } from '@app/event-store';
import type { VerificationFailed } from '@app/mail-domain';
import { EventConsumer } from '@app/messaging';
import { TaskList } from '@app/tasks';
import { episodeOf, notifierTasks, type FailureTask } from './notifier';

/** Puts each failure on the list of what the owners must be told. */
@EventConsumer()
export class DomainEventsController {
  constructor(private readonly tasks: TaskList) {}

  @EventPattern<string>('VerificationFailed')
  async putOnTheList(@Payload() { stream, time, data }: RecordedEvent): Promise<void> {
    const { episode, failing } = data as VerificationFailed['data'];
    const failure: FailureTask = { domainId: stream, episode, at: time, failing };
    await this.tasks.put(notifierTasks, episodeOf(failure), 'TellOwners', failure);
  }
}
