import { everyMailboxEvent } from '@app/mailbox';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { OnEvent } from '@app/subscriptions';
import { TaskList } from '@app/tasks';
import { placementTasks } from './placement.worker';

/**
 * Puts a mailbox or its domain on the task list for each event that the mail server needs to know. The task reads from
 * the state what to do.
 */
@EventConsumer()
export class MailboxEventsController {
  constructor(private readonly tasks: TaskList) {}

  @OnEvent(
    ...everyMailboxEvent,
    'DomainOutboundProviderChosen',
    'IdentityMoved',
    'ReceivingEnabled',
    'SenderFiltersChanged',
    'DomainDeleted',
  )
  async putOnTheList({ stream, type, version }: Pick<DeliveredEvent, 'stream' | 'type' | 'version'>): Promise<void> {
    await this.tasks.put(placementTasks, stream, type, { version });
  }
}
