import { Body, Controller, Get, HttpCode, Inject, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller } from '@app/accounts';
import { Quotas } from '@app/read-model';
import { parseDomainName } from '@app/mail-records';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess, ApiText } from '../http/openapi';
import { CountsAs, looksCountAs } from '../http/request-limits';
import { success } from '../http/success';
import { AddDomainRequest, idParam } from './domain.dto';
import { Domains } from './domains.service';
import { planned, preflighted, zoneFiles } from './plans.examples';
import { DnsPlanEnvelope, PreflightEnvelope, replyZoneFile, withinLimit, ZoneFileQuery } from './plans.dto';
import { Plans } from './plans.service';

/** Serves customers before they add a domain and while they place its records. */
@ApiTags('domains')
@ApiBearerAuth('apiKey')
@Controller('/api/v1/domains')
export class PlansController {
  constructor(
    @Inject(Domains) private readonly domains: Domains,
    private readonly plans: Plans,
    private readonly quotas: Quotas,
  ) {}

  @Post('preflight')
  @CountsAs(looksCountAs)
  @HttpCode(200)
  @Requires('domain.create')
  @ApiOperation({
    operationId: 'preflightDomain',
    summary: 'See what adding a domain would change',
    description:
      'Who receives its mail now, which SPF and DMARC records it has, and whether it is free. Creates nothing.',
  })
  @ApiSuccess(200, 'What there is now.', PreflightEnvelope, preflighted)
  @ApiErrors(
    'missing_parameter',
    'invalid_parameter',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async preflight(
    @Body() { domain, mode = 'send_receive' }: AddDomainRequest,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const { name } = parseDomainName(domain);
    const [found, { domains }] = await Promise.all([this.plans.preflight(name, mode, team), this.quotas.of(team)]);
    return success(withinLimit(found, domains), requestId);
  }

  @Get(':id/dns-plan')
  @CountsAs(looksCountAs)
  @Requires('domain.read')
  @ApiOperation({
    operationId: 'planDns',
    summary: 'Plan the changes to the zone',
    description:
      'What to create, replace, delete and keep so that the domain verifies, against what is published now. SPF and DMARC are merged with what is there; DMARC is never weakened.',
  })
  @ApiParam(idParam)
  @ApiSuccess(200, 'The operations, in the order to apply.', DnsPlanEnvelope, planned)
  @ApiErrors('not_found')
  async plan(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(await this.plans.plan(await this.domains.find(id, team)), requestId);
  }

  @Get(':id/zone-file')
  @Requires('domain.read')
  @ApiOperation({
    operationId: 'managementGetDomainZoneFile',
    summary: 'Read the DNS records as text for a tool',
    description: 'All records with a TTL of 300 seconds, for a zone that has none of them yet.',
  })
  @ApiParam(idParam)
  @ApiText('The records.', zoneFiles)
  @ApiErrors('invalid_parameter', 'not_found')
  async zoneFile(
    @Param('id') id: string,
    @Query() { format }: ZoneFileQuery,
    @CurrentCaller() { team }: Caller,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<string> {
    const domain = await this.domains.find(id, team);
    return replyZoneFile(reply, domain.name, format, await this.plans.zoneFile(domain, format));
  }
}
