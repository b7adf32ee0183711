import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  HttpCode,
  Inject,
  Param,
  Post,
  Put,
  Query,
  Req,
  Res,
  UseGuards,
} from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from '@app/accounts';
import { newId } from '@app/runtime';
import { ApiKeyGuard, CurrentCaller, Requires } from '../http/api-key.guard';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, pageOf } from '../http/paging';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import * as examples from './examples';
import {
  CreateMailboxRequest,
  ListMailboxesQuery,
  MailboxDeletionEnvelope,
  MailboxEnvelope,
  mailboxIdForm,
  MailboxPageEnvelope,
  presentMailbox,
} from './mailbox.dto';
import { Mailboxes } from './mailboxes.service';
import { ChooseProviderRequest, OutboundProviders } from './outbound-providers';

const base = '/api/v1/mailboxes';
const idParam = { name: 'id', example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;
/** A creation is one append; after this long, in milliseconds, its process is dead. */
const createTakesAtMostMs = 40_000;

const success = (data: object, requestId: string) => ({ ok: true, data, meta: { request_id: requestId } });

@ApiTags('mailboxes')
@ApiBearerAuth('apiKey')
@UseGuards(ApiKeyGuard)
@Controller(base)
export class MailboxesController {
  constructor(
    private readonly mailboxes: Mailboxes,
    private readonly idempotencyKeys: IdempotencyKeys,
    @Inject(OutboundProviders) private readonly providers: OutboundProviders,
  ) {}

  @Post()
  @Requires('mailbox.create')
  @ApiOperation({
    operationId: 'createMailbox',
    summary: 'Create a mailbox',
    description:
      'On a custom domain of your team, which must be verified at that moment; or on `myagent.mx`, one for a team, with no DNS to place. It takes mail as soon as the mail server has read of it, within seconds.',
  })
  @IdempotencyKeyHeader()
  @ApiSuccess(201, 'Created.', MailboxEnvelope, examples.created, creationHeaders)
  @ApiErrors(
    'missing_parameter',
    'conflict',
    'idempotency_conflict',
    'payload_too_large',
    'unsupported_media_type',
    'not_found',
    'validation_error',
  )
  async create(
    @Body() body: CreateMailboxRequest,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const provider = body.outbound_provider ?? null;
    this.providers.assertKnown(provider);
    const answer = await this.idempotencyKeys.once(
      { team: caller.team, key, body, id: newId('mbx'), withinMs: createTakesAtMostMs },
      async (id) => {
        const view = await this.mailboxes.create(id, body.address, provider, { caller, requestId });
        return { status: 201, body: success(presentMailbox(view), requestId), etag: null };
      },
    );
    return replyCreated(reply, base, answer);
  }

  @Get()
  @Requires('mailbox.read')
  @ApiOperation({ operationId: 'listMailboxes', summary: 'List the mailboxes of your team, the newest first' })
  @ApiSuccess(200, 'A page of mailboxes.', MailboxPageEnvelope, examples.page)
  @ApiErrors()
  async list(
    @Query() query: ListMailboxesQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const before = lastOfPageBefore(query, mailboxIdForm);
    const views = await this.mailboxes.page(team, query.limit + 1, before, query.domain_id);
    const { shown, meta } = pageOf(views, query, requestId);
    return { ok: true, data: shown.map(presentMailbox), meta };
  }

  @Get(':id')
  @Requires('mailbox.read')
  @ApiOperation({ operationId: 'getMailbox', summary: 'Read a mailbox' })
  @ApiParam(idParam)
  @ApiSuccess(200, 'The mailbox.', MailboxEnvelope, examples.created)
  @ApiErrors('not_found')
  async find(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentMailbox(await this.mailboxes.find(id, team)), requestId);
  }

  @Post(':id/suspend')
  @HttpCode(200)
  @Requires('mailbox.update')
  @ApiOperation({
    operationId: 'suspendMailbox',
    summary: 'Suspend a mailbox',
    description: 'It takes no mail and sends none until it is resumed; senders are asked to try again later.',
  })
  @ApiParam(idParam)
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.suspended)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async suspend(
    @Param('id') id: string,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentMailbox(await this.mailboxes.suspend(id, { caller, requestId })), requestId);
  }

  @Post(':id/resume')
  @HttpCode(200)
  @Requires('mailbox.update')
  @ApiOperation({ operationId: 'resumeMailbox', summary: 'Resume a suspended mailbox' })
  @ApiParam(idParam)
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.created)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async resume(
    @Param('id') id: string,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentMailbox(await this.mailboxes.resume(id, { caller, requestId })), requestId);
  }

  @Put(':id/outbound-provider')
  @Requires('mailbox.update')
  @ApiOperation({
    operationId: 'chooseOutboundProvider',
    summary: 'Choose what a mailbox sends through',
    description: '`null` leaves it to its domain. A mailbox on `myagent.mx` is locked to Sendmux SES.',
  })
  @ApiParam(idParam)
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.chosen)
  @ApiErrors(
    'missing_parameter',
    'not_found',
    'conflict',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async chooseProvider(
    @Param('id') id: string,
    @Body() { outbound_provider: provider }: ChooseProviderRequest,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    this.providers.assertKnown(provider);
    return success(presentMailbox(await this.mailboxes.chooseProvider(id, provider, { caller, requestId })), requestId);
  }

  @Delete(':id')
  @Requires('mailbox.delete')
  @ApiOperation({ operationId: 'deleteMailbox', summary: 'Delete a mailbox' })
  @ApiParam(idParam)
  @ApiSuccess(200, 'Deleted; the address is free.', MailboxDeletionEnvelope, examples.deleted)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async delete(
    @Param('id') id: string,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    await this.mailboxes.delete(id, { caller, requestId });
    return success({ deleted: true, id }, requestId);
  }
}
