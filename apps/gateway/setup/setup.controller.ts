import { createHash } from 'node:crypto';
import { Controller, Get, HttpCode, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Checks } from '@app/cycle';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { zoneFiles } from '../domains/plans.examples';
import { replyZoneFile, ZoneFileQuery } from '../domains/plans.dto';
import { Plans } from '../domains/plans.service';
import * as domainExamples from '../domains/examples';
import { VerificationEnvelope } from '../domains/verification.dto';
import { Verifications } from '../domains/verifications.service';
import { ApiErrors, ApiSuccess, ApiText } from '../http/openapi';
import { CountsAs, looksCountAs } from '../http/request-limits';
import { CurrentPreconditions, IfNoneMatchHeader, type Preconditions } from '../http/preconditions';
import { CurrentSetup, type SetupCaller } from '../http/setup-link.guard';
import { success } from '../http/success';
import * as examples from './examples';
import { presentSetup, SetupEnvelope, SetupQuery } from './setup.dto';
import { SetupLookUps } from './look-ups.service';

/** Serves whoever has a setup link: one domain, to read and to verify. */
@ApiTags('setup')
@ApiBearerAuth('setupLink')
@Controller('/api/v1/setup')
export class SetupController {
  constructor(
    private readonly checks: Checks,
    private readonly lookUps: SetupLookUps,
    private readonly plans: Plans,
    private readonly verifications: Verifications,
  ) {}

  @Get()
  @ApiOperation({
    operationId: 'readSetup',
    summary: 'Read the domain of a setup link, its records and what to change',
    description: 'With the token of a setup link. With `plan=false` no resolver is asked, for reading it often.',
  })
  @IfNoneMatchHeader()
  @ApiSuccess(200, 'The domain.', SetupEnvelope, examples.setup, { ETag: 'Of this answer.' })
  @ApiSuccess(304, 'The answer is still the same.', null, undefined, { ETag: 'Of this answer.' })
  @ApiErrors('not_found', 'precondition_failed')
  async read(
    @Query() { plan }: SetupQuery,
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentSetup() { domain }: SetupCaller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | undefined> {
    const [times, retryAt, lookedUp] = await Promise.all([
      this.checks.timesOf(domain),
      this.verifications.retryAt(domain),
      plan === 'true' ? this.lookUps.of(domain) : undefined,
    ]);
    const data = presentSetup(domain, times, retryAt, lookedUp);
    // A look that is due is always about to begin: that time alone makes no other answer.
    const told = JSON.stringify({ ...data, next_check_at: undefined });
    const tag = createHash('sha256').update(told).digest('base64url').slice(0, 22);
    return preconditions.isUnchanged(tag, reply) ? undefined : success(data, requestId);
  }

  @Post('verify')
  @CountsAs(looksCountAs)
  @HttpCode(200)
  @ApiOperation({
    operationId: 'verifySetup',
    summary: 'Verify the DNS records of the domain now',
    description: 'As `POST /domains/{id}/verify`, for the domain of the setup link.',
  })
  @ApiSuccess(200, 'What was found, and where the domain stands now.', VerificationEnvelope, domainExamples.verified)
  @ApiErrors('not_found', 'conflict', 'payload_too_large', 'unsupported_media_type')
  async verify(
    @CurrentSetup() { link, domain }: SetupCaller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const caller = { keyId: link.id, team: link.team };
    return success(await this.verifications.verify(domain, { caller, requestId }), requestId);
  }

  @Get('zone-file')
  @ApiOperation({
    operationId: 'readSetupZoneFile',
    summary: 'Read the DNS records as text for a tool',
    description: 'As `GET /domains/{id}/zone-file`, for the domain of the setup link.',
  })
  @ApiText('The records.', zoneFiles)
  @ApiErrors('not_found')
  async zoneFile(
    @Query() { format }: ZoneFileQuery,
    @CurrentSetup() { domain }: SetupCaller,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<string> {
    return replyZoneFile(reply, domain.name, format, await this.plans.zoneFile(domain, format));
  }
}
