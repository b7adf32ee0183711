import { randomInt } from 'node:crypto';
import { Body, Controller, Delete, Get, Param, Post, Put, Query, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { Faults } from './faults';
import { SandboxState, type StoredIdentity } from './state';
import { Zone } from './zone';

const hostedZone = 'dkim.amazonses.com';
const tags = z.array(z.object({ Key: z.string(), Value: z.string() })).default([]);
const create = z.object({ EmailIdentity: z.string().regex(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/i), Tags: tags });

interface Page {
  readonly PageSize?: string | number;
  readonly NextToken?: string;
}

/** An error of the SES API as the SDK reads it. */
class SesError extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    message: string,
  ) {
    super(message);
  }
}
const notFound = (name: string) => new SesError(404, 'NotFoundException', `Email identity ${name} does not exist.`);

/**
 * The identity operations of the SES v2 API, over its REST paths. `DkimAttributes.Status` follows the zone: PENDING until all
 * three CNAMEs are there, SUCCESS while they are, TEMPORARY_FAILURE when one has gone.
 */
@Controller()
export class SesController {
  private readonly calls: { readonly operation: string; readonly name: string; readonly at: string }[] = [];

  constructor(
    private readonly state: SandboxState,
    private readonly zone: Zone,
    private readonly faults: Faults,
  ) {}

  @Post('v2/email/identities')
  async createIdentity(
    @Body() body: unknown,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const parsed = create.safeParse(body);
    const name = parsed.success ? parsed.data.EmailIdentity.toLowerCase() : '';
    await this.play('CreateEmailIdentity', name, request, reply, () => {
      if (!parsed.success) throw new SesError(400, 'BadRequestException', 'EmailIdentity must be a domain name.');
      if (this.state.data.identities[name])
        throw new SesError(400, 'AlreadyExistsException', `Email identity ${name} already exist.`);
      const identity = this.keep(name, parsed.data.Tags);
      return { IdentityType: 'DOMAIN', VerifiedForSendingStatus: false, DkimAttributes: this.dkim(identity) };
    });
  }

  /** The SDK of today asks by POST with a body, the API's older form is a GET with a query. */
  @Post('v2/email/list-identities')
  async listByPost(
    @Body() page: Page | undefined,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.list(page ?? {}, request, reply);
  }

  @Get('v2/email/identities')
  async list(
    @Query() { PageSize = 100, NextToken }: Page,
    @Req() request: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.play('ListEmailIdentities', '', request, reply, () => {
      const names = Object.keys(this.state.data.identities).sort();
      const from = NextToken ? names.findIndex((name) => name > NextToken) : 0;
      const page = from < 0 ? [] : names.slice(from, from + Math.min(Number(PageSize), 1_000));
      const last = page.at(-1);
      return {
        EmailIdentities: page.map((name) => {
          const status = this.status(this.state.data.identities[name]!);
          return {
            IdentityName: name,
            IdentityType: 'DOMAIN',
            SendingEnabled: status === 'SUCCESS',
            VerificationStatus: status,
          };
        }),
        ...(last && last !== names.at(-1) && { NextToken: last }),
      };
    });
  }

  @Get('v2/email/identities/:name')
  async get(@Param('name') name: string, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.play('GetEmailIdentity', name, request, reply, () => {
      const identity = this.state.data.identities[name];
      if (!identity) throw notFound(name);
      const dkim = this.dkim(identity);
      return {
        IdentityType: 'DOMAIN',
        VerifiedForSendingStatus: dkim.Status === 'SUCCESS',
        VerificationStatus: dkim.Status,
        DkimAttributes: dkim,
        Tags: identity.tags,
      };
    });
  }

  @Delete('v2/email/identities/:name')
  async delete(@Param('name') name: string, @Req() request: FastifyRequest, @Res() reply: FastifyReply): Promise<void> {
    await this.play('DeleteEmailIdentity', name, request, reply, () => {
      if (!this.state.data.identities[name]) throw notFound(name);
      delete this.state.data.identities[name];
      this.state.changed();
      return {};
    });
  }

  /** What SES was asked, oldest first. Not of the API. */
  @Get('ses/calls')
  log(): unknown {
    return this.calls;
  }

  /** All identities with their tags. Not of the API. */
  @Get('ses/identities')
  identities(): unknown {
    return Object.values(this.state.data.identities);
  }

  /** An identity that somebody else has made, or with the tags of the body. Not of the API. */
  @Put('ses/identities/:name')
  plant(@Param('name') name: string, @Body() body: { Tags?: unknown } | undefined): unknown {
    return this.keep(name.toLowerCase(), tags.parse(body?.Tags));
  }

  private async play(
    operation: string,
    name: string,
    { id }: FastifyRequest,
    reply: FastifyReply,
    act: () => object,
  ): Promise<void> {
    this.calls.push({ operation, name, at: new Date().toISOString() });
    if (this.calls.length > 10_000) this.calls.shift();
    void reply.header('x-amzn-RequestId', id);
    try {
      switch (this.faults.take('ses', operation)) {
        case 'refuse':
          throw new SesError(400, 'LimitExceededException', 'The account may have no more identities.');
        case 'throttle':
          throw new SesError(429, 'TooManyRequestsException', 'Maximum sending rate exceeded.');
        case 'error':
          throw new SesError(500, 'InternalServiceErrorException', 'Internal failure.');
        case 'garbage':
          await reply.type('text/html').send('<html>this is no answer</html>');
          return;
        case 'hang':
          reply.hijack();
          return;
        case 'hang_after':
          act();
          reply.hijack();
          return;
        default:
          await reply.type('application/json').send(act());
      }
    } catch (error) {
      if (!(error instanceof SesError)) throw error;
      await reply.status(error.status).header('x-amzn-ErrorType', error.type).send({ message: error.message });
    }
  }

  private keep(name: string, withTags: StoredIdentity['tags']): StoredIdentity {
    const tokens = [1, 2, 3].map(() => Array.from({ length: 32 }, () => randomInt(36).toString(36)).join(''));
    const identity = { name, tags: withTags, tokens, seen: false };
    this.state.data.identities[name] = identity;
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

  private status(identity: StoredIdentity): 'PENDING' | 'SUCCESS' | 'TEMPORARY_FAILURE' {
    const there = identity.tokens.every((token) =>
      this.zone.values(`${token}._domainkey.${identity.name}`, 'CNAME').includes(`${token}.${hostedZone}`),
    );
    if (there && !identity.seen) {
      identity.seen = true;
      this.state.changed();
    }
    if (there) return 'SUCCESS';
    return identity.seen ? 'TEMPORARY_FAILURE' : 'PENDING';
  }
}
