import { createHash } from 'node:crypto';
import { Controller, Get, Req, Res, UseGuards } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Accounts, type Caller } from '@app/accounts';
import { Quotas } from '@app/read-model';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiKeyGuard, CurrentCaller, NeedsNoPermission } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { CurrentPreconditions, IfNoneMatchHeader, type Preconditions } from '../http/preconditions';
import { RateLimit } from '../http/rate-limit';
import { success } from '../http/success';
import * as examples from './examples';
import { MeEnvelope, presentMe } from './me.dto';

/** Tells a caller who he is: his team, key, permissions, usage and limits. */
@ApiTags('account')
@ApiBearerAuth('apiKey')
@UseGuards(ApiKeyGuard)
@Controller('/api/v1/me')
export class MeController {
  constructor(
    private readonly accounts: Accounts,
    private readonly quotas: Quotas,
    private readonly rateLimit: RateLimit,
  ) {}

  @Get()
  @NeedsNoPermission()
  @ApiOperation({
    operationId: 'managementGetConnection',
    summary: 'Read whose key this is, and what it may do',
    description: 'Any valid key may ask. The key is checked before an answer of 304.',
  })
  @IfNoneMatchHeader()
  @ApiSuccess(200, 'The team, the key and what it may do.', MeEnvelope, examples.me, { ETag: 'Of this answer.' })
  @ApiSuccess(304, 'The answer is still the same.', null, undefined, { ETag: 'Of this answer.' })
  @ApiErrors('precondition_failed')
  async read(
    @CurrentPreconditions() preconditions: Preconditions,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object | undefined> {
    const [team, key, uses] = await Promise.all([
      this.accounts.team(caller.team),
      this.accounts.keyOf(caller.team, caller.keyId),
      this.quotas.of(caller.team),
    ]);
    const data = presentMe(team, key, uses, this.rateLimit.limit);
    const tag = createHash('sha256').update(JSON.stringify(data)).digest('base64url').slice(0, 22);
    const isKnown = preconditions.isKnown(tag);
    void reply.header('etag', `W/"${tag}"`);
    if (!isKnown) return success(data, requestId);
    void reply.status(304);
    return undefined;
  }
}
