import { Controller, Get, Headers, HttpCode, Inject, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Caller } from '@app/accounts';
import { newId } from '@app/runtime';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, pageOf } from '../http/paging';
import { success } from '../http/success';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import {
  DeliveryEnvelope,
  deliveryIdForm,
  deliveryIdParam,
  DeliveryPageEnvelope,
  DeliveryPageQuery,
  PayloadEnvelope,
  presentDelivery,
  presentPayload,
} from './deliveries.dto';
import { Deliveries } from './deliveries.service';
import * as examples from './examples';
import { TestedWebhookEnvelope, webhookIdParam, webhooksPath } from './webhooks.dto';

/** Milliseconds after which the process of a request counts as dead; each is a single transaction. */
const takesAtMostMs = 40_000;
const { 'Idempotent-Replayed': replayed } = creationHeaders;

/** Shows what was sent to an endpoint, and has something sent to it. */
@ApiTags('webhooks')
@ApiBearerAuth('apiKey')
@Controller(webhooksPath)
export class DeliveriesController {
  constructor(
    @Inject(Deliveries) private readonly deliveries: Deliveries,
    private readonly idempotencyKeys: IdempotencyKeys,
  ) {}

  @Post(':id/test')
  @HttpCode(200)
  @Requires('webhook.update')
  @ApiOperation({
    operationId: 'managementTestWebhook',
    summary: 'Send a test to a webhook',
    description:
      'A message of the type `sendmux.test`, signed as all others are, whatever types the webhook has chosen. It is sent within moments; `GET /webhooks/{id}/deliveries` says what came of it.',
  })
  @ApiParam(webhookIdParam)
  @IdempotencyKeyHeader()
  @ApiSuccess(200, 'The test is on its way.', TestedWebhookEnvelope, examples.tested, {
    'Idempotent-Replayed': replayed,
  })
  @ApiErrors('not_found', 'conflict', 'idempotency_conflict', 'payload_too_large', 'unsupported_media_type')
  async test(
    @Param('id') id: string,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const answer = await this.idempotencyKeys.once(
      { team, operation: 'testWebhook', key, body: { id }, requestId, id: newId('msg'), withinMs: takesAtMostMs },
      async (message) => {
        await this.deliveries.test(id, team, message);
        return { status: 200, body: success({ event_id: message }, requestId), etag: null };
      },
    );
    return replyCreated(reply, webhooksPath, answer);
  }

  @Get(':id/deliveries')
  @Requires('webhook.read')
  @ApiOperation({
    operationId: 'managementListDelivery',
    summary: 'List what was sent to a webhook, and what waits, the newest first',
  })
  @ApiParam(webhookIdParam)
  @ApiSuccess(200, 'A page of deliveries.', DeliveryPageEnvelope, examples.deliveries)
  @ApiErrors('not_found')
  async list(
    @Param('id') id: string,
    @Query() query: DeliveryPageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const before = lastOfPageBefore(query, deliveryIdForm);
    const { event_type: type, result } = query;
    const page = await this.deliveries.page(id, team, query.limit + 1, { before, type, result });
    return pageOf(page, query, requestId, presentDelivery);
  }

  @Get(':id/deliveries/:delivery_id')
  @Requires('webhook.read')
  @ApiOperation({ operationId: 'getWebhookDelivery', summary: 'Read what became of a delivery' })
  @ApiParam(webhookIdParam)
  @ApiParam(deliveryIdParam)
  @ApiSuccess(200, 'The delivery.', DeliveryEnvelope, examples.delivery)
  @ApiErrors('not_found')
  async find(
    @Param('id') id: string,
    @Param('delivery_id') delivery: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentDelivery(await this.deliveries.find(id, team, delivery)), requestId);
  }

  @Get(':id/deliveries/:delivery_id/payload')
  @Requires('webhook.read')
  @ApiOperation({
    operationId: 'managementGetDeliveryPayload',
    summary: 'Read the body of a delivery',
    description: 'It is made anew from the log, from which each try makes it as well.',
  })
  @ApiParam(webhookIdParam)
  @ApiParam(deliveryIdParam)
  @ApiSuccess(200, 'The body.', PayloadEnvelope, examples.payload)
  @ApiErrors('not_found')
  async payload(
    @Param('id') id: string,
    @Param('delivery_id') delivery: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const found = await this.deliveries.find(id, team, delivery);
    return success(presentPayload(found, await this.deliveries.bodyOf(found, id, team)), requestId);
  }

  @Post(':id/deliveries/:delivery_id/redeliver')
  @HttpCode(202)
  @Requires('webhook.update')
  @ApiOperation({
    operationId: 'redeliverWebhookDelivery',
    summary: 'Have a message delivered once more',
    description:
      'Under its id, with all tries anew, beside what else is sent. One that still waits keeps its place, and is tried at once.',
  })
  @ApiParam(webhookIdParam)
  @ApiParam(deliveryIdParam)
  @IdempotencyKeyHeader()
  @ApiSuccess(202, 'The delivery, which waits now.', DeliveryEnvelope, examples.waiting, {
    'Idempotent-Replayed': replayed,
  })
  @ApiErrors('not_found', 'conflict', 'idempotency_conflict', 'payload_too_large', 'unsupported_media_type')
  async redeliver(
    @Param('id') id: string,
    @Param('delivery_id') delivery: string,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const body = { id, delivery };
    const answer = await this.idempotencyKeys.once(
      { team, operation: 'redeliverWebhook', key, body, requestId, id: newId('req'), withinMs: takesAtMostMs },
      async () => {
        const waiting = await this.deliveries.redeliver(id, team, delivery);
        return { status: 202, body: success(presentDelivery(waiting), requestId), etag: null };
      },
    );
    return replyCreated(reply, webhooksPath, answer);
  }
}
