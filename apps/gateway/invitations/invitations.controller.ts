import { Body, Controller, HttpCode, Ip, Post, Req } from '@nestjs/common';
import { ApiOperation, ApiProperty, ApiTags } from '@nestjs/swagger';
import { IsString } from 'class-validator';
import type { FastifyRequest } from 'fastify';
import { AccountRuleBroken, Invitations } from '@app/accounts';
import { ApiError } from '../http/api-error';
import { Envelope } from '../domains/domain.dto';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { RateLimit } from '../http/rate-limit';

class AcceptInvitationRequest {
  @ApiProperty({ example: 'smx_invite_…', description: 'From the mail that invited you.' })
  @IsString({ message: '"token" must be a string' })
  token: string;
}

class AcceptedSchema {
  @ApiProperty({ example: 'team_abc123' })
  team: string;
  @ApiProperty({ example: 'grace@acme.com' })
  email: string;
}

class AcceptedEnvelope extends Envelope {
  @ApiProperty({ type: AcceptedSchema })
  data: AcceptedSchema;
}

const example = {
  ok: true,
  data: { team: 'team_abc123', email: 'grace@acme.com' },
  meta: { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' },
};

/** Serves people without an API key: the token in the link authenticates them. */
@ApiTags('invitations')
@Controller('/api/v1/invitations')
export class InvitationsController {
  constructor(
    private readonly invitations: Invitations,
    private readonly rateLimit: RateLimit,
  ) {}

  @Post('accept')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'acceptInvitation',
    summary: 'Become an owner of a team that has invited you',
    description: 'Needs no API key. Owners are told by e-mail when a domain of the team stays broken.',
  })
  @ApiSuccess(200, 'You are an owner.', AcceptedEnvelope, example)
  @ApiErrors('missing_parameter', 'not_found', 'payload_too_large', 'unsupported_media_type')
  async accept(
    @Body() { token }: AcceptInvitationRequest,
    @Ip() address: string,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    try {
      return { ok: true, data: await this.invitations.accept(token), meta: { request_id: requestId } };
    } catch (error) {
      if (!(error instanceof AccountRuleBroken)) throw error;
      // What fails is counted alone: behind a proxy everybody has the same address, and nobody may lock others out.
      const { exceeded, reset } = this.rateLimit.take(`invitations of ${address}`);
      if (exceeded)
        throw new ApiError('rate_limit_exceeded', `Too many requests. Wait ${reset} s.`, { retryAfter: reset });
      throw new ApiError('not_found', error.message, { param: 'token' });
    }
  }
}
