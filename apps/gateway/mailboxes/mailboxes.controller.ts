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
  Put,
  Query,
  Req,
  Res,
} from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from '@app/accounts';
import { presentMailbox } from '@app/presentation';
import type { MailboxView } from '@app/read-model';
import { newId } from '@app/runtime';
import { ApiError } from '../http/api-error';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, pageOf } from '../http/paging';
import {
  CurrentPreconditions,
  entityTag,
  IfMatchHeader,
  IfNoneMatchHeader,
  type Preconditions,
} from '../http/preconditions';
import { success } from '../http/success';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import { MailboxAvailability } from './availability.service';
import * as examples from './examples';
import {
  AvailabilityEnvelope,
  AvailabilityQuery,
  CreateMailboxRequest,
  ListMailboxesQuery,
  MailboxDeletionEnvelope,
  MailboxEnvelope,
  mailboxIdForm,
  MailboxPageEnvelope,
  NewMailboxEnvelope,
  presentNewMailbox,
  providerFieldOf,
  providerOf,
  UpdateMailboxRequest,
} from './mailbox.dto';
import { Mailboxes } from './mailboxes.service';
import { ChooseProviderRequest, OutboundProviders } from './outbound-providers';

const base = '/api/v1/mailboxes';
const idParam = { name: 'id', example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;
const changedHeaders = { ETag: 'Version of the mailbox after it.' };
/** Milliseconds after which the process of a creation counts as dead; a creation is a single append. */
const createTakesAtMostMs = 40_000;

@ApiTags('mailboxes')
@ApiBearerAuth('apiKey')
@Controller(base)
export class MailboxesController {
  constructor(
    private readonly mailboxes: Mailboxes,
    private readonly availability: MailboxAvailability,
    private readonly idempotencyKeys: IdempotencyKeys,
    @Inject(OutboundProviders) private readonly providers: OutboundProviders,
  ) {}

  @Post()
  @Requires('mailbox.create')
  @ApiOperation({
    operationId: 'managementCreateMailbox',
    summary: 'Create a mailbox',
    description:
      'On a custom domain of your team, which must be verified at that moment; or on `myagent.mx`, one for a team, with no DNS to place. It takes mail as soon as the mail server has read of it, within seconds.',
  })
  @IdempotencyKeyHeader()
  @ApiSuccess(201, 'Created.', NewMailboxEnvelope, examples.createdNow, {
    ...creationHeaders,
    ETag: 'Version of the mailbox at the first answer.',
  })
  @ApiErrors(
    'missing_parameter',
    'conflict',
    'idempotency_conflict',
    'limit_exceeded',
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
    const provider = providerOf(body) ?? null;
    this.providers.assertKnown(provider, providerFieldOf(body));
    const { address = body.email!, display_name: displayName = null } = body;
    if (body.email !== undefined && body.email !== address)
      throw new ApiError('invalid_parameter', '"address" and "email" are the same: send one of them.', {
        param: 'email',
      });
    const answer = await this.idempotencyKeys.once(
      {
        team: caller.team,
        operation: 'createMailbox',
        key,
        body,
        requestId,
        id: newId('mbx'),
        withinMs: createTakesAtMostMs,
      },
      async (id) => {
        const view = await this.mailboxes.create(id, address, { provider, displayName }, { caller, requestId });
        return { status: 201, body: success(presentNewMailbox(view), requestId), etag: entityTag(view.version) };
      },
    );
    return replyCreated(reply, base, answer);
  }

  @Get()
  @Requires('mailbox.read')
  @ApiOperation({
    operationId: 'managementListMailboxes',
    summary: 'List the mailboxes of your team, the newest first',
  })
  @ApiSuccess(200, 'A page of mailboxes.', MailboxPageEnvelope, examples.page)
  @ApiErrors()
  async list(
    @Query() query: ListMailboxesQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const views = await this.mailboxes.page(team, query.limit + 1, {
      before: lastOfPageBefore(query, mailboxIdForm),
      domainId: query.domain_id,
      withDeleted: query.include_deleted === 'true',
    });
    return pageOf(views, query, requestId, presentMailbox);
  }

  @Get('availability')
  @Requires('mailbox.read')
  @ApiOperation({
    operationId: 'managementCheckMailboxAvailability',
    summary: 'Ask whether a mailbox could be created',
    description: 'Nothing is reserved by it, and the quota of the team is not looked at: `GET /me` has that.',
  })
  @ApiSuccess(200, 'Whether it could, and why not.', AvailabilityEnvelope, examples.available)
  @ApiErrors('missing_parameter')
  async availabilityOf(
    @Query() { email }: AvailabilityQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(await this.availability.of(email, team), requestId);
  }

  @Get(':id')
  @Requires('mailbox.read')
  @ApiOperation({ operationId: 'managementGetMailbox', summary: 'Read a mailbox' })
  @ApiParam(idParam)
  @IfNoneMatchHeader()
  @ApiSuccess(200, 'The mailbox.', MailboxEnvelope, examples.created, { ETag: 'Version of the mailbox.' })
  @ApiSuccess(304, 'The mailbox is still of that version.', null, undefined, { ETag: 'Version of the mailbox.' })
  @ApiErrors('not_found', 'precondition_failed')
  async find(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | undefined> {
    const view = await this.mailboxes.find(id, team);
    return preconditions.isUnchanged(view.version, reply) ? undefined : success(presentMailbox(view), requestId);
  }

  @Post(':id/suspend')
  @HttpCode(200)
  @Requires('mailbox.update')
  @ApiOperation({
    operationId: 'managementSuspendMailbox',
    summary: 'Suspend a mailbox',
    description: 'It takes no mail and sends none until it is resumed; senders are asked to try again later.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.suspended, changedHeaders)
  @ApiErrors('not_found', 'precondition_failed', 'payload_too_large', 'unsupported_media_type')
  async suspend(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    return this.changed(await this.mailboxes.suspend(id, { caller, requestId, preconditions }), requestId, reply);
  }

  @Post(':id/resume')
  @HttpCode(200)
  @Requires('mailbox.update')
  @ApiOperation({ operationId: 'managementResumeMailbox', summary: 'Resume a suspended mailbox' })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.created, changedHeaders)
  @ApiErrors('not_found', 'conflict', 'precondition_failed', 'payload_too_large', 'unsupported_media_type')
  async resume(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    return this.changed(await this.mailboxes.resume(id, { caller, requestId, preconditions }), requestId, reply);
  }

  @Put(':id/outbound-provider')
  @Requires('mailbox.update')
  @ApiOperation({
    operationId: 'chooseOutboundProvider',
    summary: 'Choose what a mailbox sends through',
    description: '`null` leaves it to its domain. A mailbox on `myagent.mx` is locked to Sendmux SES.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.chosen, changedHeaders)
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
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    this.providers.assertKnown(provider);
    const view = await this.mailboxes.update(id, { provider }, { caller, requestId, preconditions });
    return this.changed(view, requestId, reply);
  }

  @Patch(':id')
  @Requires('mailbox.update')
  @ApiOperation({
    operationId: 'managementUpdateMailbox',
    summary: 'Change the display name of a mailbox, or what it sends through',
    description: 'A field that is absent stays as it is; `null` takes the choice back.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The mailbox after it.', MailboxEnvelope, examples.named, changedHeaders)
  @ApiErrors('not_found', 'conflict', 'payload_too_large', 'unsupported_media_type', 'validation_error')
  async update(
    @Param('id') id: string,
    @Body() body: UpdateMailboxRequest,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const provider = providerOf(body);
    if (provider !== undefined) this.providers.assertKnown(provider, providerFieldOf(body));
    const choices = { displayName: body.display_name, provider };
    return this.changed(
      await this.mailboxes.update(id, choices, { caller, requestId, preconditions }),
      requestId,
      reply,
    );
  }

  @Delete(':id')
  @Requires('mailbox.delete')
  @ApiOperation({ operationId: 'managementDeleteMailbox', summary: 'Delete a mailbox' })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'Deleted; the address is free.', MailboxDeletionEnvelope, examples.deleted)
  @ApiErrors('not_found', 'precondition_failed', 'payload_too_large', 'unsupported_media_type')
  async delete(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    await this.mailboxes.delete(id, { caller, requestId, preconditions });
    return success({ deleted: true, id }, requestId);
  }

  private changed(view: MailboxView, requestId: string, reply: FastifyReply): object {
    void reply.header('etag', entityTag(view.version));
    return success(presentMailbox(view), requestId);
  }
}
