import { Body, Controller, Delete, Get, Headers, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Caller } from '@app/accounts';
import { parseDomainName } from '@app/mail-records';
import { newId } from '@app/runtime';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { creationHeaders, IdempotencyKeyHeader, replyCreated } from '../http/creation';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { CountsAs, looksCountAs } from '../http/request-limits';
import { lastOfPageBefore, PageQuery, pageOf } from '../http/paging';
import { success } from '../http/success';
import { IdempotencyKeys } from '../idempotency/idempotency.service';
import {
  ClaimEnvelope,
  claimIdParam,
  ClaimPageEnvelope,
  ClaimRequest,
  examples,
  presentClaim,
  WithdrawnEnvelope,
} from './claims.dto';
import { claimIdForm, Claims } from './claims.service';

const base = '/api/v1/domains/claims';
/** The longest that opening a claim may take, in milliseconds. */
const openWithinMs = 10_000;

@ApiTags('claims')
@ApiBearerAuth('apiKey')
@Controller(base)
export class ClaimsController {
  constructor(
    private readonly claims: Claims,
    private readonly idempotencyKeys: IdempotencyKeys,
  ) {}

  @Post()
  @Requires('domain.create')
  @ApiOperation({
    operationId: 'createDomainClaim',
    summary: 'Claim a domain that another team holds',
    description:
      'Gives the record that proves that the domain is your team’s. A team has 20 open claims at most, and one ends by itself after 14 days. A name that is free is added with POST /domains.',
  })
  @IdempotencyKeyHeader()
  @ApiSuccess(201, 'Open. Place the record, and verify the claim.', ClaimEnvelope, examples.opened, creationHeaders)
  @ApiErrors(
    'missing_parameter',
    'conflict',
    'idempotency_conflict',
    'limit_exceeded',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async open(
    @Body() body: ClaimRequest,
    @Headers('idempotency-key') key: string | undefined,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const { name } = parseDomainName(body.domain);
    const answer = await this.idempotencyKeys.once(
      { team, operation: 'claimDomain', key, body, requestId, id: newId('claim'), withinMs: openWithinMs },
      async (id) => {
        const claim = await this.claims.open(id, name, body.mode ?? 'send_receive', team);
        return { status: 201, body: success(presentClaim(claim), requestId), etag: null };
      },
    );
    return replyCreated(reply, base, answer);
  }

  @Get()
  @Requires('domain.read')
  @ApiOperation({ operationId: 'listDomainClaims', summary: 'List the claims of your team, the newest first' })
  @ApiSuccess(200, 'A page of claims, ended ones too, for 90 days.', ClaimPageEnvelope, examples.page)
  @ApiErrors()
  async list(
    @Query() query: PageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const claims = await this.claims.page(team, query.limit + 1, lastOfPageBefore(query, claimIdForm));
    return pageOf(claims, query, requestId, presentClaim);
  }

  @Get(':id')
  @Requires('domain.read')
  @ApiOperation({ operationId: 'getDomainClaim', summary: 'Read a claim' })
  @ApiParam(claimIdParam)
  @ApiSuccess(200, 'The claim.', ClaimEnvelope, examples.opened)
  @ApiErrors('not_found')
  async find(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentClaim(await this.claims.find(id, team)), requestId);
  }

  @Post(':id/verify')
  @CountsAs(looksCountAs)
  @HttpCode(200)
  @Requires('domain.create')
  @ApiOperation({
    operationId: 'verifyDomainClaim',
    summary: 'Look for the record of a claim now',
    description:
      'Where the record is in place, and the name was never verified by the team that holds it, the domain is your team’s from that moment, with DKIM records of its own. A name that was verified is won once the ownership record of that team is gone for 7 days. When that cannot be decided, nothing changes.',
  })
  @ApiParam(claimIdParam)
  @ApiSuccess(200, 'The claim after it.', ClaimEnvelope, examples.won)
  @ApiErrors('not_found', 'conflict', 'limit_exceeded', 'payload_too_large', 'unsupported_media_type')
  async verify(
    @Param('id') id: string,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentClaim(await this.claims.verify(id, { caller, requestId })), requestId);
  }

  @Delete(':id')
  @Requires('domain.create')
  @ApiOperation({
    operationId: 'deleteDomainClaim',
    summary: 'Withdraw a claim',
    description: 'A domain that it has won stays.',
  })
  @ApiParam(claimIdParam)
  @ApiSuccess(200, 'Withdrawn.', WithdrawnEnvelope, examples.withdrawn)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async withdraw(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    await this.claims.withdraw(id, team);
    return success({ deleted: true, id }, requestId);
  }
}
