import { DomainCommandHandler } from '@app/commands';
import { everyDomainEvent } from '@app/mail-domain';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import { OnEvent } from '@app/subscriptions';
import { WatchedDomains } from './watched-domains';

/**
 * Updates the watched domains from their streams. An event that is older than the row is ignored. Events that change
 * nothing but the version are handled as well, so that a row does not depend on when its events were read.
 */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly domains: DomainCommandHandler,
    private readonly watchedDomains: WatchedDomains,
  ) {}

  @OnEvent(...everyDomainEvent)
  async follow(event: Pick<DeliveredEvent, 'stream' | 'version'>): Promise<void> {
    if ((await this.watchedDomains.version(event.stream)) >= event.version) return;
    const { state, version } = await this.domains.load(event.stream);
    await this.watchedDomains.follow(event.stream, state, version);
  }
}
