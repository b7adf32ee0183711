import { EventPattern, Payload } from '@nestjs/microservices';
import { DomainCommandHandler } from '@app/commands';
import type { RecordedEvent } from '@app/event-store';
import { EventConsumer } from '@app/messaging';
import { WatchedDomains } from './watched-domains';

/**
 * Keeps the watched domains at what their streams say. An event that is older than the row says nothing new. Those that change nothing
 * but the version are heard as well, so that a row is the same whenever its events were read.
 */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly domains: DomainCommandHandler,
    private readonly watchedDomains: WatchedDomains,
  ) {}

  @EventPattern<string[]>([
    'DomainProvisioned',
    'DnsChecked',
    'DomainVerified',
    'VerificationLapsed',
    'VerificationFailed',
    'IdentityRepairRequested',
    'IdentityRepaired',
    'DomainOutboundProviderChosen',
    'OwnersTold',
    'DomainDeletionRequested',
  ])
  async follow(@Payload() event: RecordedEvent): Promise<void> {
    if ((await this.watchedDomains.version(event.stream)) >= event.version) return;
    const { state, version } = await this.domains.load(event.stream);
    await this.watchedDomains.follow(event.stream, state, version);
  }
}
