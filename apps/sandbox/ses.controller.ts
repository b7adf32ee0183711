import { randomInt } from 'node:crypto';
import {
  BadRequestException,
  Body,
  Controller,
  Delete,
  Get,
  NotFoundException,
  Param,
  Post,
  Put,
  Query,
  Req,
  Res,
} from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { alreadyExists, badRequest, defaultRegion, notFound, SesCalls, SesError } from './ses-calls';
import { SesRegions } from './ses-regions';
import { arnIn, tenantsIn } from './ses-tenants.controller';
import { forcedStatuses, identityKey, SandboxState, type ForcedStatus, type StoredIdentity } from './state';
import { canonical, isName, Zone } from './zone';

const hostedZone = 'dkim.amazonses.com';
const tags = z.array(z.object({ Key: z.string(), Value: z.string() })).default([]);
const domainName = z
  .string()
  .toLowerCase()
  .refine((name) => isName(name) && /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(name), 'is not a domain name');
const create = z.object({ EmailIdentity: domainName, Tags: tags, ConfigurationSetName: z.string().optional() });
const mailFromAttributes = z.object({
  MailFromDomain: domainName.optional(),
  BehaviorOnMxFailure: z.enum(['USE_DEFAULT_VALUE', 'REJECT_MESSAGE']).default('USE_DEFAULT_VALUE'),
});
const configurationSetAttributes = z.object({ ConfigurationSetName: z.string().optional() });
const tagResource = z.object({
  /** The name of the identity that the ARN ends with. */
  ResourceArn: z
    .string()
    .regex(/^arn:aws[a-z-]*:ses:[a-z0-9-]+:\d{12}:identity\/[a-z0-9.-]+$/)
    .transform((arn) => arn.slice(arn.indexOf('/') + 1)),
  Tags: tags,
});
const list = z.object({
  PageSize: z.coerce.number().int().min(0).max(1_000).default(100),
  NextToken: z.string().optional(),
});

const noIdentity = (name: string) => notFound(`Email identity ${name} does not exist.`);

/**
 * Serves the identity operations of the SES v2 API at its REST paths. `DkimAttributes.Status` follows the zone: PENDING
 * until all three CNAMEs are present, SUCCESS while they are, TEMPORARY_FAILURE when one of them has gone.
 * `MailFromDomainStatus` follows the MX record of the MAIL FROM domain in the same way.
 */
@Controller()
export class SesController {
  constructor(
    private readonly state: SandboxState,
    private readonly zone: Zone,
    private readonly calls: SesCalls,
    private readonly regions: SesRegions,
  ) {}

  @Post('v2/email/identities')
  async createIdentity(
    @Body() body: unknown,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const parsed = create.safeParse(body);
    const name = parsed.success ? parsed.data.EmailIdentity : '';
    await this.calls.play('CreateEmailIdentity', name, request, reply, (region) => {
      if (!parsed.success) throw badRequest(parsed.error);
      if (this.find(region, name)) throw alreadyExists(`Email identity ${name} already exist.`);
      const { ConfigurationSetName: configurationSet, Tags } = parsed.data;
      this.assertConfigurationSet(region, configurationSet);
      if (this.regions.of(region).isFull(() => this.identitiesIn(region).length))
        throw new SesError(400, 'LimitExceededException', 'The account may have no more identities.');
      const identity = this.keep(region, name, Tags);
      if (configurationSet !== undefined) identity.configurationSet = configurationSet;
      return { IdentityType: 'DOMAIN', VerifiedForSendingStatus: false, DkimAttributes: this.dkim(identity) };
    });
  }

  /** The SDK sends a POST with a body; the older form of the API is a GET with a query. */
  @Post('v2/email/list-identities')
  async list(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.calls.play('ListEmailIdentities', '', request, reply, (region) => {
      const parsed = list.safeParse(body ?? {});
      if (!parsed.success) throw badRequest(parsed.error);
      const { PageSize, NextToken = '' } = parsed.data;
      const identities = this.identitiesIn(region)
        .filter(({ name }) => name > NextToken)
        .sort((a, b) => (a.name < b.name ? -1 : 1));
      const page = identities.slice(0, PageSize);
      return {
        EmailIdentities: page.map((identity) => {
          const status = this.status(identity);
          return {
            IdentityName: identity.name,
            IdentityType: 'DOMAIN',
            SendingEnabled: status === 'SUCCESS',
            VerificationStatus: status,
          };
        }),
        ...(page.length < identities.length && { NextToken: page.at(-1)?.name ?? NextToken }),
      };
    });
  }

  @Get('v2/email/identities')
  listByGet(@Query() query: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    return this.list(query, request, reply);
  }

  @Get('v2/email/identities/:name')
  async get(@Param('name') name: string, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.calls.play('GetEmailIdentity', name, request, reply, (region) => {
      const identity = this.find(region, name);
      if (!identity) throw noIdentity(name);
      const dkim = this.dkim(identity);
      return {
        IdentityType: 'DOMAIN',
        VerifiedForSendingStatus: dkim.Status === 'SUCCESS',
        VerificationStatus: dkim.Status,
        VerificationInfo: this.verificationInfo(identity),
        DkimAttributes: dkim,
        ...(identity.mailFrom && { MailFromAttributes: this.mailFrom(identity.mailFrom, region) }),
        ...(identity.configurationSet && { ConfigurationSetName: identity.configurationSet }),
        Tags: identity.tags,
      };
    });
  }

  @Put('v2/email/identities/:name/dkim/signing')
  async restartDkim(
    @Param('name') name: string,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.calls.play('PutEmailIdentityDkimSigningAttributes', name, request, reply, (region) => {
      const identity = this.find(region, name);
      if (!identity) throw noIdentity(name);
      delete identity.forced;
      identity.seen = false;
      this.state.changed();
      const { Status, Tokens, SigningHostedZone } = this.dkim(identity);
      return { DkimStatus: Status, DkimTokens: Tokens, SigningHostedZone };
    });
  }

  @Put('v2/email/identities/:name/mail-from')
  async setMailFrom(
    @Param('name') name: string,
    @Body() body: unknown,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.calls.play('PutEmailIdentityMailFromAttributes', name, request, reply, (region) => {
      const parsed = mailFromAttributes.safeParse(body ?? {});
      if (!parsed.success) throw badRequest(parsed.error);
      const identity = this.find(region, name);
      if (!identity) throw noIdentity(name);
      const { MailFromDomain: domain, BehaviorOnMxFailure: onMxFailure } = parsed.data;
      if (domain === undefined) delete identity.mailFrom;
      else if (!domain.endsWith(`.${identity.name}`))
        throw new SesError(400, 'BadRequestException', `${domain} is not a subdomain of ${identity.name}.`);
      else identity.mailFrom = { domain, onMxFailure, seen: false };
      this.state.changed();
      return {};
    });
  }

  @Put('v2/email/identities/:name/configuration-set')
  async setConfigurationSet(
    @Param('name') name: string,
    @Body() body: unknown,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.calls.play('PutEmailIdentityConfigurationSetAttributes', name, request, reply, (region) => {
      const parsed = configurationSetAttributes.safeParse(body ?? {});
      if (!parsed.success) throw badRequest(parsed.error);
      const identity = this.find(region, name);
      if (!identity) throw noIdentity(name);
      const { ConfigurationSetName: configurationSet } = parsed.data;
      this.assertConfigurationSet(region, configurationSet);
      if (configurationSet === undefined) delete identity.configurationSet;
      else identity.configurationSet = configurationSet;
      this.state.changed();
      return {};
    });
  }

  @Delete('v2/email/identities/:name')
  async delete(@Param('name') name: string, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.calls.play('DeleteEmailIdentity', name, request, reply, (region) => {
      const identity = this.find(region, name);
      if (!identity) throw noIdentity(name);
      const arn = arnIn(region, 'identity', identity.name);
      if (tenantsIn(this.state, region).some(({ resources }) => Object.hasOwn(resources, arn)))
        throw new SesError(
          400,
          'BadRequestException',
          `Cannot delete <${arn}> because it has tenant associations. Remove all tenant associations and try again.`,
        );
      delete this.state.data.identities[identityKey(identity.region, identity.name)];
      this.state.changed();
      return {};
    });
  }

  @Post('v2/email/tags')
  async tag(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    const parsed = tagResource.safeParse(body);
    const name = parsed.success ? parsed.data.ResourceArn : '';
    await this.calls.play('TagResource', name, request, reply, (region) => {
      if (!parsed.success) throw badRequest(parsed.error);
      const identity = this.find(region, name);
      if (!identity) throw noIdentity(name);
      const { Tags } = parsed.data;
      const others = identity.tags.filter(({ Key }) => !Tags.some((tag) => tag.Key === Key));
      identity.tags = others.concat(Tags);
      this.state.changed();
      return {};
    });
  }

  /** An account as AWS has opened it for production, with the quotas that it begins with. */
  @Get('v2/email/account')
  async account(@Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.calls.play('GetAccount', '', request, reply, () => ({
      EnforcementStatus: 'HEALTHY',
      ProductionAccessEnabled: true,
      SendingEnabled: true,
      SendQuota: { Max24HourSend: 50_000, MaxSendRate: 14, SentLast24Hours: 0 },
    }));
  }

  /** Lists the requests to SES, the oldest first. Not part of the SES API. */
  @Get('ses/calls')
  log(): unknown {
    return this.calls.all;
  }

  /** Lists all identities with their tags. Not part of the SES API. */
  @Get('ses/identities')
  identities(): unknown {
    return Object.values(this.state.data.identities);
  }

  /** Lists the Regions with what they have and may have. Not part of the SES API. */
  @Get('ses/regions')
  listRegions(): unknown {
    return this.regions.list((region) => this.identitiesIn(region).length);
  }

  /** Sets what a Region may have, how fast it may be called, and whether it is away. Not part of the SES API. */
  @Put('ses/regions/:region')
  limitRegion(@Param('region') region: string, @Body() body: unknown): unknown {
    const parsed = z
      .strictObject({
        capacity: z.int().min(0).optional(),
        calls_per_second: z.number().positive().max(10_000).optional(),
        is_away: z.boolean().optional(),
      })
      .safeParse(body ?? {});
    if (!parsed.success) throw new BadRequestException(z.prettifyError(parsed.error));
    if (!/^[a-z0-9-]{1,63}$/.test(region)) throw new BadRequestException('No name of a Region.');
    const { capacity, calls_per_second: callsPerSecond, is_away: isAway } = parsed.data;
    this.regions.limit(region, { capacity, callsPerSecond, isAway });
    return this.listRegions();
  }

  /** Creates an identity as somebody else would, or with the tags of the body. Not part of the SES API. */
  @Put('ses/identities/:name')
  plant(@Param('name') name: string, @Body() body: { Tags?: unknown; region?: unknown } | undefined): unknown {
    const parsed = create.safeParse({ EmailIdentity: name, Tags: body?.Tags ?? [] });
    if (!parsed.success) throw new BadRequestException(z.prettifyError(parsed.error));
    const region = typeof body?.region === 'string' ? body.region : defaultRegion;
    return this.keep(region, parsed.data.EmailIdentity, parsed.data.Tags);
  }

  /**
   * Sets the status of an identity, whatever the zone contains, until the detection is restarted. Not part of the SES
   * API.
   */
  @Put('ses/identities/:name/status')
  force(@Param('name') name: string, @Body() body: unknown): unknown {
    const parsed = z.strictObject({ status: z.enum(forcedStatuses) }).safeParse(body);
    if (!parsed.success) throw new BadRequestException(z.prettifyError(parsed.error));
    const identity = this.find(undefined, name);
    if (!identity) throw new NotFoundException(`There is no identity ${name}.`);
    identity.forced = parsed.data.status;
    this.state.changed();
    return identity;
  }

  /** Finds an identity of a Region, or of any where it is undefined. */
  private find(region: string | undefined, name: string): StoredIdentity | undefined {
    const { identities } = this.state.data;
    const canonicalName = name.toLowerCase();
    if (region !== undefined) return identities[identityKey(region, canonicalName)] ?? identities[canonicalName];
    return Object.values(identities).find((each) => each.name === canonicalName);
  }

  private assertConfigurationSet(region: string, name: string | undefined): void {
    if (name !== undefined && !this.state.data.configurationSets.includes(identityKey(region, name)))
      throw notFound(`Configuration set <${name}> does not exist.`);
  }

  private identitiesIn(region: string): StoredIdentity[] {
    return Object.values(this.state.data.identities).filter((each) => (each.region ?? region) === region);
  }

  private keep(region: string, name: string, withTags: StoredIdentity['tags']): StoredIdentity {
    const tokens = [1, 2, 3].map(() => Array.from({ length: 32 }, () => randomInt(36).toString(36)).join(''));
    const identity = { name, region, tags: withTags, tokens, seen: false };
    this.state.data.identities[identityKey(region, name)] = identity;
    this.state.changed();
    return identity;
  }

  private dkim(identity: StoredIdentity) {
    return {
      SigningEnabled: true,
      Status: this.status(identity),
      Tokens: identity.tokens,
      SigningHostedZone: hostedZone,
      SigningAttributesOrigin: 'AWS_SES',
    };
  }

  /** SES takes the domain while the MX record of the Region is the only one there. */
  private mailFrom(mailFrom: NonNullable<StoredIdentity['mailFrom']>, region: string) {
    const records = this.zone.values(mailFrom.domain, 'MX').map(canonical);
    const isThere = records.length === 1 && records[0] === `10 feedback-smtp.${region}.amazonses.com`;
    if (isThere && !mailFrom.seen) {
      mailFrom.seen = true;
      this.state.changed();
    }
    return {
      MailFromDomain: mailFrom.domain,
      MailFromDomainStatus: isThere ? 'SUCCESS' : mailFrom.seen ? 'TEMPORARY_FAILURE' : 'PENDING',
      BehaviorOnMxFailure: mailFrom.onMxFailure,
    };
  }

  /** Reports a check of the zone at the time of the request, with the error of the first wrong record. */
  private verificationInfo(identity: StoredIdentity) {
    const now = Date.now() / 1_000;
    const errors = identity.tokens.flatMap((token) => this.errorAt(identity.name, token) ?? []);
    return {
      LastCheckedTimestamp: now,
      ...(errors.length > 0 ? { ErrorType: errors[0] } : { LastSuccessTimestamp: now }),
    };
  }

  private errorAt(name: string, token: string): 'HOST_NOT_FOUND' | 'TYPE_NOT_FOUND' | 'INVALID_VALUE' | undefined {
    if (this.isInPlace(name, token)) return undefined;
    const { rcode, answers } = this.zone.resolve(`${token}._domainkey.${name}`, 'CNAME');
    if (answers.length > 0) return 'INVALID_VALUE';
    return rcode === 'NXDOMAIN' ? 'HOST_NOT_FOUND' : 'TYPE_NOT_FOUND';
  }

  private isInPlace(name: string, token: string): boolean {
    const targets = this.zone.values(`${token}._domainkey.${name}`, 'CNAME');
    return targets.some((target) => canonical(target) === `${token}.${hostedZone}`);
  }

  private status(identity: StoredIdentity): 'PENDING' | 'SUCCESS' | ForcedStatus {
    if (identity.forced) return identity.forced;
    const there = identity.tokens.every((token) => this.isInPlace(identity.name, token));
    if (there && !identity.seen) {
      identity.seen = true;
      this.state.changed();
    }
    if (there) return 'SUCCESS';
    return identity.seen ? 'TEMPORARY_FAILURE' : 'PENDING';
  }
}
