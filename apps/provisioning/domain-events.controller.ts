import { DomainCommandHandler } from '@app/commands';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { OnEvent } from '@app/subscriptions';
import { TaskList } from '@app/tasks';
import { isUnfinished, ProvisioningTimes } from './provisioner';
import { provisioningTasks } from './provisioning.worker';

/**
 * Puts a domain on the task list for each event after which the mail server or SES may need a change. The task reads
 * from the domain's state what to do.
 */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly times: ProvisioningTimes,
    private readonly domains: DomainCommandHandler,
  ) {}

  @OnEvent(
    'DomainAdded',
    'ProvisioningFailed',
    'IdentityRepairRequested',
    'IdentityMoveRequested',
    'IdentityMoveCancelled',
    'DomainDeletionRequested',
    'DomainExpired',
    'DomainReleased',
  )
  async putOnTheList({ stream, type, version, replayId }: DeliveredEvent): Promise<void> {
    // A replay must not cause a request to SES for every domain of the past.
    if (replayId && !isUnfinished((await this.domains.load(stream)).state)) return;
    // The version makes it another task than one that is being finished at this moment, which would remove it.
    await this.tasks.put(provisioningTasks, stream, type, { version });
  }

  @OnEvent('ProvisioningRolledBack', 'DomainDeleted')
  async lookAgain({ stream, type, version, time, replayId }: DeliveredEvent): Promise<void> {
    // A replayed event needs no second look: late effects were removed when the event was new.
    if (replayId) return;
    const due = new Date(Date.parse(time) + this.times.lookAgainMs);
    await this.tasks.put(provisioningTasks, stream, type, { version }, due);
  }
}
