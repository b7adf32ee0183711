import { EventPattern, Payload } from '@nestjs/microservices';
import type { RecordedEvent } from '@app/event-store';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { TaskList } from '@app/tasks';
import { ProvisioningTimes } from './provisioner';
import { provisioningTasks } from './provisioning.worker';

/** Each event that asks something of the mail server or of SES puts its domain on the list; the state says what. */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly times: ProvisioningTimes,
  ) {}

  @EventPattern<string[]>(['DomainAdded', 'ProvisioningFailed', 'IdentityRepairRequested', 'DomainDeletionRequested'])
  async putOnTheList(@Payload() { stream, type, version }: RecordedEvent): Promise<void> {
    // The version makes it another task: one that is being finished right now does not swallow it.
    await this.tasks.put(provisioningTasks, stream, type, { version });
  }

  @EventPattern<string[]>(['ProvisioningRolledBack', 'DomainDeleted'])
  async lookAgain(@Payload() { stream, type, version, time, replayId }: DeliveredEvent): Promise<void> {
    // What came late was looked for at the time. A replay of years would ask SES for all that is long gone.
    if (replayId) return;
    const due = new Date(Date.parse(time) + this.times.lookAgainMs);
    await this.tasks.put(provisioningTasks, stream, type, { version }, due);
  }
}
