import { Inject, Injectable } from '@nestjs/common';
import { testBody, WebhookMessages } from '@app/presentation';
import { testType, WebhookDeliveries, type Delivery } from '@app/webhooks';
import { ApiError } from '../http/api-error';
import { deliveryIdForm, statusOf } from './deliveries.dto';
import { Webhooks } from './webhooks.service';

/** What a list of deliveries is limited to. */
interface DeliveryFilter {
  /** The id of the last delivery of the page before. */
  readonly before: string | undefined;
  readonly type: string | undefined;
  /** The result as the API shows it, such as `retrying`. */
  readonly result: string | undefined;
}

/** Shows what was sent to the endpoints of teams, and has something sent to them. */
@Injectable()
export class Deliveries {
  constructor(
    @Inject(Webhooks) private readonly webhooks: Webhooks,
    private readonly deliveries: WebhookDeliveries,
    private readonly messages: WebhookMessages,
  ) {}

  /**
   * Has a test sent, once for each id of a message.
   *
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ApiError} `conflict` for an endpoint that is disabled.
   */
  async test(id: string, team: string, message: string): Promise<void> {
    const webhook = await this.webhooks.findEnabled(id, team);
    await this.deliveries.enqueueTest(webhook.id, message);
  }

  /** @throws {WebhookRuleBroken} `webhook_not_found` */
  async page(id: string, team: string, limit: number, { before, type, result }: DeliveryFilter): Promise<Delivery[]> {
    const webhook = await this.webhooks.find(id, team);
    return this.deliveries.page(webhook.id, limit, { before, type, status: statusOf(result) });
  }

  /**
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ApiError} `not_found`
   */
  async find(id: string, team: string, delivery: string): Promise<Delivery> {
    const webhook = await this.webhooks.find(id, team);
    const found = deliveryIdForm.test(delivery) ? await this.deliveries.find(webhook.id, delivery) : undefined;
    if (!found) throw notFound(delivery);
    return found;
  }

  /**
   * Makes the body of a delivery.
   *
   * @throws {ApiError} `not_found` where its event cannot be read.
   */
  async bodyOf(delivery: Delivery, webhook: string, team: string): Promise<string> {
    const { message, type, replay, createdAt } = delivery;
    if (type === testType) return testBody({ message, webhook, team, time: createdAt }).toString();
    const bodies = await this.messages.bodies([{ message, type, replayId: replay ?? undefined }]);
    const body = bodies.get(message);
    if (body === undefined) throw new ApiError('not_found', `The payload of ${delivery.id} cannot be made any more.`);
    return body.toString();
  }

  /**
   * Has a message delivered once more. One that waits already is tried now.
   *
   * @throws {WebhookRuleBroken} `webhook_not_found`
   * @throws {ApiError} `not_found`, and `conflict` for an endpoint that is disabled.
   */
  async redeliver(id: string, team: string, delivery: string): Promise<Delivery> {
    const { id: known } = await this.find(id, team, delivery);
    const webhook = await this.webhooks.findEnabled(id, team);
    await this.deliveries.redeliver(webhook.id, known);
    return this.find(id, team, known);
  }
}

const notFound = (id: string) => new ApiError('not_found', `There is no delivery ${id.slice(0, 100)}.`);
