import { Body, Controller, Get, Headers, HttpCode, Inject, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Caller } from '@app/accounts';
import { newId } from '@app/runtime';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, PageQuery, pageOf } from '../http/paging';
import { success } from '../http/success';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import * as examples from './examples';
import {
  presentReplay,
  ReplayEnvelope,
  replayIdForm,
  replayIdParam,
  ReplayPageEnvelope,
  ReplayRequest,
} from './replays.dto';
import { Replays } from './replays.service';
import { webhookIdParam, webhooksPath } from './webhooks.dto';

/** Milliseconds after which the process of a request counts as dead. */
const takesAtMostMs = 40_000;

/** Has an endpoint get everything of a span of time once more. */
@ApiTags('webhooks')
@ApiBearerAuth('apiKey')
@Controller(webhooksPath)
export class ReplaysController {
  constructor(
    @Inject(Replays) private readonly replays: Replays,
    private readonly idempotencyKeys: IdempotencyKeys,
  ) {}

  @Post(':id/replay')
  @Requires('webhook.update')
  @ApiOperation({
    operationId: 'replayWebhook',
    summary: 'Have everything of a span of time sent once more',
    description:
      'From the log, in order, under the ids that the messages had, each marked as of this replay. It runs beside what is sent otherwise, and delays nothing. A webhook has one replay at a time. What happened before the webhook was created can be replayed as well.',
  })
  @ApiParam(webhookIdParam)
  @IdempotencyKeyHeader()
  @ApiSuccess(201, 'The replay, which runs.', ReplayEnvelope, examples.replay, creationHeaders)
  @ApiErrors(
    'missing_parameter',
    'not_found',
    'conflict',
    'idempotency_conflict',
    'payload_too_large',
    'unsupported_media_type',
  )
  async begin(
    @Param('id') id: string,
    @Body() body: ReplayRequest,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const request = { id, ...body };
    const answer = await this.idempotencyKeys.once(
      { team, operation: 'replayWebhook', key, body: request, requestId, id: newId('rpl'), withinMs: takesAtMostMs },
      async (replay) => {
        const begun = await this.replays.begin(replay, id, team, body);
        return { status: 201, body: success(presentReplay(begun), requestId), etag: null };
      },
    );
    return replyCreated(reply, `${webhooksPath}/${id}/replays`, answer);
  }

  @Get(':id/replays')
  @Requires('webhook.read')
  @ApiOperation({ operationId: 'listWebhookReplays', summary: 'List the replays of a webhook, the newest first' })
  @ApiParam(webhookIdParam)
  @ApiSuccess(200, 'A page of replays.', ReplayPageEnvelope, examples.replays)
  @ApiErrors('not_found')
  async list(
    @Param('id') id: string,
    @Query() query: PageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const before = lastOfPageBefore(query, replayIdForm);
    return pageOf(await this.replays.page(id, team, query.limit + 1, before), query, requestId, presentReplay);
  }

  @Get(':id/replays/:replay_id')
  @Requires('webhook.read')
  @ApiOperation({ operationId: 'getWebhookReplay', summary: 'Read how far a replay has come' })
  @ApiParam(webhookIdParam)
  @ApiParam(replayIdParam)
  @ApiSuccess(200, 'The replay.', ReplayEnvelope, examples.replay)
  @ApiErrors('not_found')
  async find(
    @Param('id') id: string,
    @Param('replay_id') replay: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentReplay(await this.replays.find(id, team, replay)), requestId);
  }

  @Post(':id/replays/:replay_id/stop')
  @HttpCode(200)
  @Requires('webhook.update')
  @ApiOperation({
    operationId: 'stopWebhookReplay',
    summary: 'Stop a replay',
    description: 'What of it waits is not sent; a message that is under way may arrive. One that has ended stays so.',
  })
  @ApiParam(webhookIdParam)
  @ApiParam(replayIdParam)
  @ApiSuccess(200, 'The replay after it.', ReplayEnvelope, examples.stoppedReplay)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async stop(
    @Param('id') id: string,
    @Param('replay_id') replay: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentReplay(await this.replays.stop(id, team, replay)), requestId);
  }
}
