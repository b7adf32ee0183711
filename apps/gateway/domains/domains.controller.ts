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
import { SetupLinks, type Caller } from '@app/accounts';
import { Checks } from '@app/cycle';
import { parseDomainName, type PreflightFinding } from '@app/mail-records';
import { presentDeletion, presentDomain } from '@app/presentation';
import { MailboxesReadModel, type DomainView } from '@app/read-model';
import { newId } from '@app/runtime';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { CountsAs, looksCountAs } from '../http/request-limits';
import { lastOfPageBefore, pageOf } from '../http/paging';
import {
  AddDomainRequest,
  DeletionEnvelope,
  DomainEnvelope,
  domainIdForm,
  DomainPageEnvelope,
  DomainPageQuery,
  DomainReadEnvelope,
  type DomainSchema,
  idParam,
  UpgradeDomainRequest,
  WarnedDomainEnvelope,
  type WarnedDomainSchema,
} from './domain.dto';
import { Domains } from './domains.service';
import * as examples from './examples';
import { AsOfQuery } from './history.dto';
import { DomainHistory } from './history.service';
import { ChooseProviderRequest, OutboundProviders } from '../mailboxes/outbound-providers';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import {
  CurrentPreconditions,
  entityTag,
  IfMatchHeader,
  IfNoneMatchHeader,
  type Preconditions,
} from '../http/preconditions';
import { success } from '../http/success';
import { Plans } from './plans.service';
import { VerificationEnvelope } from './verification.dto';
import { Verifications } from './verifications.service';

const base = '/api/v1/domains';

@ApiTags('domains')
@ApiBearerAuth('apiKey')
@Controller(base)
export class DomainsController {
  constructor(
    @Inject(Domains) private readonly domains: Domains,
    private readonly idempotencyKeys: IdempotencyKeys,
    private readonly verifications: Verifications,
    private readonly checks: Checks,
    private readonly history: DomainHistory,
    private readonly mailboxes: MailboxesReadModel,
    private readonly plans: Plans,
    @Inject(OutboundProviders) private readonly providers: OutboundProviders,
    private readonly setupLinks: SetupLinks,
  ) {}

  @Post()
  @Requires('domain.create')
  @ApiOperation({
    operationId: 'managementCreateDomain',
    summary: 'Add a domain',
    description:
      'Provisions the domain in the mail server and Amazon SES, both or neither, and answers when the outcome is known, with every DNS record to place.',
  })
  @IdempotencyKeyHeader()
  @ApiSuccess(201, 'Added, in the mail server and in Amazon SES.', WarnedDomainEnvelope, examples.added, {
    ...creationHeaders,
    ETag: 'Version of the domain at the first answer.',
  })
  @ApiErrors(
    'missing_parameter',
    'invalid_parameter',
    'conflict',
    'idempotency_conflict',
    'limit_exceeded',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
    'provisioning_failed',
    'provisioning_timeout',
  )
  async add(
    @Body() body: AddDomainRequest,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const { name } = parseDomainName(body.domain);
    const { mode = 'send_receive' } = body;
    const { team } = caller;
    const answer = await this.idempotencyKeys.once(
      {
        team,
        operation: 'addDomain',
        key,
        body,
        requestId,
        id: newId('mdom'),
        withinMs: this.domains.addTakesAtMostMs,
      },
      async (id) => {
        const [view, warnings] = await Promise.all([
          this.domains.add(id, name, mode, { caller, requestId }),
          this.plans.warningsOf(name, mode, 'add'),
        ]);
        const data = await this.presentWarned(view, warnings);
        return { status: 201, body: success(data, requestId), etag: entityTag(view.version) };
      },
    );
    return replyCreated(reply, base, answer);
  }

  @Get()
  @Requires('domain.read')
  @ApiOperation({ operationId: 'managementListDomains', summary: 'List the domains of your team, the newest first' })
  @ApiSuccess(200, 'A page of domains.', DomainPageEnvelope, examples.page)
  @ApiErrors('invalid_parameter')
  async list(
    @Query() query: DomainPageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const { status, mode, name } = query;
    const before = lastOfPageBefore(query, domainIdForm);
    const filter = { before, status, mode, namePart: name?.toLowerCase() };
    const views = await this.domains.page(team, query.limit + 1, filter);
    return pageOf(views, query, requestId, (view) => this.present(view));
  }

  @Get(':id')
  @Requires('domain.read')
  @ApiOperation({
    operationId: 'managementGetDomain',
    summary: 'Read a domain and its DNS records',
    description:
      'With `as_of`, as this operation would have answered then: 404 before the domain was provisioned and from its deletion on. What is not known of the past is not made up: `next_check_at` is null, and `last_checked_at` is the last look that was recorded, while a later one that found nothing new is not; `mailbox_count` counts the mailboxes that were suspended then as well.',
  })
  @ApiParam(idParam)
  @IfNoneMatchHeader()
  @ApiSuccess(200, 'The domain.', DomainReadEnvelope, examples.added, {
    ETag: 'Version of the domain; with `as_of`, at that time.',
  })
  @ApiSuccess(304, 'The domain is still of that version.', null, undefined, { ETag: 'Version of the domain.' })
  @ApiErrors('invalid_parameter', 'not_found', 'precondition_failed')
  async find(
    @Param('id') id: string,
    @Query() { as_of: asOf }: AsOfQuery,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | undefined> {
    const past = asOf === undefined ? undefined : await this.history.at(id, team, asOf);
    const view = past?.view ?? (await this.domains.find(id, team));
    if (preconditions.isUnchanged(view.version, reply)) return undefined;
    if (!past) return success(await this.present(view), requestId);
    const times = { lastCheckedAt: view.checkedAt, nextCheckAt: null };
    const mailboxCount = await this.mailboxes.countAt(id, past.at);
    const data = presentDomain({ ...view, mailboxCount }, times);
    return { ok: true, data, meta: { request_id: requestId, as_of: past.at.toISOString() } };
  }

  @Post(':id/verify')
  @CountsAs(looksCountAs)
  @HttpCode(200)
  @Requires('domain.verify')
  @ApiOperation({
    operationId: 'managementVerifyDomain',
    summary: 'Verify the DNS records now',
    description:
      'Looks up the records of the domain, asks Amazon SES for DKIM, and says of each what was found and what to change. When that cannot be decided, nothing changes. Requests for one domain at the same time share one look, and more than ten within ten seconds get the last one again.',
  })
  @ApiParam(idParam)
  @ApiSuccess(200, 'What was found, and where the domain stands now.', VerificationEnvelope, examples.verified)
  @ApiErrors(
    'invalid_parameter',
    'not_found',
    'conflict',
    'precondition_failed',
    'payload_too_large',
    'unsupported_media_type',
  )
  async verify(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const view = await this.domains.find(id, caller.team);
    preconditions.demand(view.version);
    return success(await this.verifications.verify(view, { caller, requestId }), requestId);
  }

  @Patch(':id')
  @Requires('domain.create')
  @ApiOperation({
    operationId: 'managementUpdateDomain',
    summary: 'Let a domain that only sends receive mail too',
    description:
      'The domain is pending until its MX record is in place, and never goes back to sending only. One that receives already is left as it is. `warnings` say so when somebody else receives its mail now.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The domain after it.', WarnedDomainEnvelope, examples.added, {
    ETag: 'Version of the domain after it.',
  })
  @ApiErrors(
    'missing_parameter',
    'not_found',
    'conflict',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async update(
    @Param('id') id: string,
    @Body() _: UpgradeDomainRequest,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const view = await this.domains.enableReceiving(id, { caller, requestId, preconditions });
    const warnings = await this.plans.warningsOf(view.name, view.mode, 'upgrade');
    void reply.header('etag', entityTag(view.version));
    return success(await this.presentWarned(view, warnings), requestId);
  }

  @Put(':id/outbound-provider')
  @Requires('domain.update')
  @ApiOperation({
    operationId: 'chooseDomainOutboundProvider',
    summary: 'Choose what the mailboxes of the domain send through',
    description: 'A mailbox that has chosen for itself keeps its choice. `null` is Sendmux SES.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'The domain after it.', DomainEnvelope, examples.added, { ETag: 'Version of the domain after it.' })
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
    const view = await this.domains.chooseProvider(id, provider, { caller, requestId, preconditions });
    void reply.header('etag', entityTag(view.version));
    return success(await this.present(view), requestId);
  }

  @Delete(':id')
  @Requires('domain.delete')
  @ApiOperation({
    operationId: 'managementDeleteDomain',
    summary: 'Delete a domain',
    description:
      'Removes the domain from the mail server and Amazon SES. The DNS records in your zone are yours to clean up. A repeated DELETE joins the first. Mailboxes go first: while one lives on the domain, active or suspended, this is a 409 with their number.',
  })
  @ApiParam(idParam)
  @IfMatchHeader()
  @ApiSuccess(200, 'Gone from the mail server and from Amazon SES.', DeletionEnvelope, examples.deleted)
  @ApiErrors(
    'precondition_failed',
    'invalid_parameter',
    'not_found',
    'conflict',
    'payload_too_large',
    'unsupported_media_type',
  )
  async delete(
    @Param('id') id: string,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const endLinks = () => this.setupLinks.endOf(id);
    const deleted = await this.domains.delete(id, { caller, requestId, preconditions }, endLinks);
    return success(presentDeletion(deleted), requestId);
  }

  private async present(view: DomainView): Promise<DomainSchema> {
    return presentDomain(view, await this.checks.timesOf(view));
  }

  private async presentWarned(view: DomainView, warnings: PreflightFinding[]): Promise<WarnedDomainSchema> {
    return { ...(await this.present(view)), ...(warnings.length > 0 && { warnings }) };
  }
}
