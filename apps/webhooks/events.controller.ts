import { eventId } from '@app/event-store';
import { EventConsumer } from '@app/messaging';
import { announcedEvents, WebhookMessages } from '@app/presentation';
import { OnEvent, type Delivered, type EventType } from '@app/subscriptions';
import { WebhookDeliveries } from '@app/webhooks';
import { EventOwners } from './event-owners';

/** Puts a message about each event that customers are told of on the lanes of the endpoints that want it. */
@EventConsumer()
export class EventsController {
  constructor(
    private readonly messages: WebhookMessages,
    private readonly owners: EventOwners,
    private readonly deliveries: WebhookDeliveries,
  ) {}

  @OnEvent(...announcedEvents)
  async enqueue(event: Delivered<EventType>): Promise<void> {
    const type = await this.messages.typeOf(event);
    if (type === undefined) return;
    const { stream, version, position, time } = event;
    const { team, domain } = await this.owners.of(stream);
    const message = eventId(event);
    await this.deliveries.enqueue({
      team,
      domain,
      message,
      type,
      subject: stream,
      version,
      position,
      occurredAt: time,
    });
  }
}
