import { EventPattern, Payload } from '@nestjs/microservices';
import { DomainCommandHandler } from '@app/commands';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { TaskList } from '@app/tasks';
import { asksForWork, ProvisioningTimes } from './provisioner';
import { provisioningTasks } from './provisioning.worker';

/** Each event that asks something of the mail server or of SES puts its domain on the list; the state says what. */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly times: ProvisioningTimes,
    private readonly domains: DomainCommandHandler,
  ) {}

  @EventPattern<string[]>(['DomainAdded', 'ProvisioningFailed', 'IdentityRepairRequested', 'DomainDeletionRequested'])
  async putOnTheList(@Payload() { stream, type, version, replayId }: DeliveredEvent): Promise<void> {
    // A replay of what is done must not have SES asked about every domain that ever was.
    if (replayId && !asksForWork((await this.domains.load(stream)).state)) return;
    // The version makes it another task: one that is being finished right now does not swallow it.
    await this.tasks.put(provisioningTasks, stream, type, { version });
  }

  @EventPattern<string[]>(['ProvisioningRolledBack', 'DomainDeleted'])
  async lookAgain(@Payload() { stream, type, version, time, replayId }: DeliveredEvent): Promise<void> {
    // What came late was looked for at the time.
    if (replayId) return;
    const due = new Date(Date.parse(time) + this.times.lookAgainMs);
    await this.tasks.put(provisioningTasks, stream, type, { version }, due);
  }
}
