import { createHash } from 'node:crypto';
import { Controller, Get, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Caller } from '@app/accounts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CurrentCaller, NeedsNoPermission } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { CurrentPreconditions, IfNoneMatchHeader, type Preconditions } from '../http/preconditions';
import { success } from '../http/success';
import * as examples from './examples';
import { MeEnvelope } from './me.dto';
import { Me } from './me.service';

/** Tells a caller who he is: his team, key, permissions, usage and limits. */
@ApiTags('account')
@ApiBearerAuth('apiKey')
@Controller('/api/v1/me')
export class MeController {
  constructor(private readonly me: Me) {}

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
    const data = await this.me.of(caller);
    const tag = createHash('sha256').update(JSON.stringify(data)).digest('base64url').slice(0, 22);
    return preconditions.isUnchanged(tag, reply) ? undefined : success(data, requestId);
  }
}
