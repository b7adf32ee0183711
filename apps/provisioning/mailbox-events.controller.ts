import { everyMailboxEvent } from '@app/mailbox';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { OnEvent, type Delivered } from '@app/subscriptions';
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
    'IdentityRepaired',
    'IdentityMoved',
    'ReceivingEnabled',
    'SenderFiltersChanged',
    'DomainDeleted',
  )
  async putOnTheList({ stream, type, version }: Pick<DeliveredEvent, 'stream' | 'type' | 'version'>): Promise<void> {
    await this.tasks.put(placementTasks, stream, type, { version });
  }

  /** A domain whose mail names a tenant of SES has something to be told of from the start; others have not. */
  @OnEvent('DomainProvisioned')
  async putWithTenant(event: Delivered<'DomainProvisioned'>): Promise<void> {
    if (event.data.sesTenant !== undefined) await this.putOnTheList(event);
  }
}
