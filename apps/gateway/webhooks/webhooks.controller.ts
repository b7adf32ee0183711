import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  HttpCode,
  Inject,
  Param,
  Patch,
  Post,
  Query,
  Req,
  Res,
} from '@nestjs/common';
import { ApiBearerAuth, ApiBody, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Caller } from '@app/accounts';
import { newId } from '@app/runtime';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, PageQuery, pageOf } from '../http/paging';
import {
  CurrentPreconditions,
  entityTag,
  IfMatchHeader,
  IfNoneMatchHeader,
  type Preconditions,
} from '../http/preconditions';
import { success } from '../http/success';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import * as examples from './examples';
import {
  CreateWebhookRequest,
  DeletedWebhookEnvelope,
  NewWebhookEnvelope,
  presentWebhook,
  RotateSecretRequest,
  UpdateWebhookRequest,
  WebhookEnvelope,
  webhookIdForm,
  webhookIdParam,
  WebhookPageEnvelope,
  webhooksPath,
} from './webhooks.dto';
import { Webhooks } from './webhooks.service';

/** Milliseconds after which the process of a creation counts as dead; each is a single transaction. */
const takesAtMostMs = 40_000;
const { 'Idempotent-Replayed': replayed } = creationHeaders;

@ApiTags('webhooks')
@ApiBearerAuth('apiKey')
@Controller(webhooksPath)
export class WebhooksController {
  constructor(
    @Inject(Webhooks) private readonly webhooks: Webhooks,
    private readonly idempotencyKeys: IdempotencyKeys,
  ) {}

  @Post()
  @Requires('webhook.create')
  @ApiOperation({
    operationId: 'managementCreateWebhook',
    summary: 'Create a webhook',
    description:
      'An endpoint of yours, to which a message is sent for each transition of your domains and mailboxes from now on, as it is documented in the `webhooks` section.',
  })
  @IdempotencyKeyHeader()
  @ApiSuccess(201, 'Created, with its secret, which cannot be read again.', NewWebhookEnvelope, examples.created, {
    ...creationHeaders,
    ETag: 'Version of the webhook at the first answer.',
  })
  @ApiErrors(
    'missing_parameter',
    'not_found',
    'idempotency_conflict',
    'limit_exceeded',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async create(
    @Body() body: CreateWebhookRequest,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const choices = await this.webhooks.checked(body, team);
    const kept = await this.idempotencyKeys.once(
      { team, operation: 'createWebhook', key, body, requestId, id: newId('whk'), withinMs: takesAtMostMs },
      async (id) => {
        const made = await this.webhooks.create(id, team, choices);
        return { status: 201, body: this.webhooks.sealed(made, requestId), etag: entityTag(made.webhook.version) };
      },
    );
    return replyCreated(reply, webhooksPath, this.webhooks.revealed(kept));
  }

  @Get()
  @Requires('webhook.read')
  @ApiOperation({ operationId: 'managementListWebhooks', summary: 'List the webhooks of your team, the newest first' })
  @ApiSuccess(200, 'A page of webhooks, never with their secrets.', WebhookPageEnvelope, examples.page)
  @ApiErrors()
  async list(
    @Query() query: PageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const webhooks = await this.webhooks.page(team, query.limit + 1, lastOfPageBefore(query, webhookIdForm));
    return pageOf(webhooks, query, requestId, presentWebhook);
  }

  @Get(':id')
  @Requires('webhook.read')
  @ApiOperation({
    operationId: 'managementGetWebhook',
    summary: 'Read a webhook',
    description: 'The version changes with what is chosen of it; `failing` may change without one.',
  })
  @ApiParam(webhookIdParam)
  @IfNoneMatchHeader()
  @ApiSuccess(200, 'The webhook, without its secret.', WebhookEnvelope, examples.one, {
    ETag: 'Version of the webhook.',
  })
  @ApiSuccess(304, 'The webhook is still of that version.', null, undefined, { ETag: 'Version of the webhook.' })
  @ApiErrors('not_found', 'precondition_failed')
  async find(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | undefined> {
    const webhook = await this.webhooks.find(id, team);
    return preconditions.isUnchanged(webhook.version, reply) ? undefined : success(presentWebhook(webhook), requestId);
  }

  @Patch(':id')
  @Requires('webhook.update')
  @ApiOperation({
    operationId: 'managementUpdateWebhook',
    summary: 'Change a webhook, enable or disable it',
    description:
      'A field that is absent stays as it is. A disabled webhook keeps what waits for it; what happens meanwhile is not sent to it.',
  })
  @ApiParam(webhookIdParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The webhook after it.', WebhookEnvelope, examples.one, { ETag: 'Version of the webhook after it.' })
  @ApiErrors('not_found', 'conflict', 'payload_too_large', 'unsupported_media_type', 'validation_error')
  async update(
    @Param('id') id: string,
    @Body() body: UpdateWebhookRequest,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const { version } = await this.webhooks.find(id, team);
    const changes = await this.webhooks.checked(body, team);
    const webhook = await this.webhooks.update(id, team, changes, preconditions.demand(version));
    void reply.header('etag', entityTag(webhook.version));
    return success(presentWebhook(webhook), requestId);
  }

  @Delete(':id')
  @Requires('webhook.delete')
  @ApiOperation({
    operationId: 'managementDeleteWebhook',
    summary: 'Delete a webhook',
    description: 'With its deliveries. What waits for it is not sent any more.',
  })
  @ApiParam(webhookIdParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'Deleted.', DeletedWebhookEnvelope, examples.deleted)
  @ApiErrors('not_found', 'precondition_failed', 'payload_too_large', 'unsupported_media_type')
  async delete(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const { version } = await this.webhooks.find(id, team);
    await this.webhooks.remove(id, team, preconditions.demand(version));
    return success({ deleted: true, id }, requestId);
  }

  @Post(':id/rotate-secret')
  @HttpCode(200)
  @Requires('webhook.update')
  @ApiOperation({
    operationId: 'managementRotateWebhookSecret',
    summary: 'Replace the secret of a webhook by a new one',
    description:
      'For a day, or for `overlap_seconds`, each message has two signatures, by the new secret and by the old one, so that you can change over. A rotation within the time of another one ends the older secret.',
  })
  @ApiParam(webhookIdParam)
  @ApiBody({ type: RotateSecretRequest, required: false })
  @IdempotencyKeyHeader()
  @ApiSuccess(
    200,
    'The webhook with its new secret, which cannot be read again.',
    NewWebhookEnvelope,
    examples.rotated,
    {
      'Idempotent-Replayed': replayed,
      ETag: 'Version of the webhook after it.',
    },
  )
  @ApiErrors('not_found', 'idempotency_conflict', 'payload_too_large', 'unsupported_media_type')
  async rotate(
    @Param('id') id: string,
    @Body() { overlap_seconds: overlap }: RotateSecretRequest,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    await this.webhooks.find(id, team);
    const body = { id, overlap };
    const kept = await this.idempotencyKeys.once(
      { team, operation: 'rotateWebhookSecret', key, body, requestId, id: newId('whk'), withinMs: takesAtMostMs },
      async (rotation) => {
        const made = await this.webhooks.rotate(id, team, rotation, overlap);
        return { status: 200, body: this.webhooks.sealed(made, requestId), etag: entityTag(made.webhook.version) };
      },
    );
    return replyCreated(reply, webhooksPath, this.webhooks.revealed(kept));
  }
}
