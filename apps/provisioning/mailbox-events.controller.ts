import { EventPattern, Payload } from '@nestjs/microservices';
import type { RecordedEvent } from '@app/event-store';
import { EventConsumer } from '@app/messaging';
import { TaskList } from '@app/tasks';
import { placementTasks } from './placement.worker';

/** Each event that the mail server must know of puts its mailbox, or its domain, on the list; the state says what. */
@EventConsumer()
export class MailboxEventsController {
  constructor(private readonly tasks: TaskList) {}

  @EventPattern<string[]>([
    ...['MailboxCreated', 'MailboxSuspended', 'MailboxResumed', 'MailboxDeleted'],
    ...['OutboundProviderChosen', 'DomainOutboundProviderChosen'],
  ])
  async putOnTheList(@Payload() { stream, type, version }: RecordedEvent): Promise<void> {
    await this.tasks.put(placementTasks, stream, type, { version });
  }
}
