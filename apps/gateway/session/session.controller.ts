import { Body, Controller, Delete, Get, Inject, Ip, Post, Req, Res } from '@nestjs/common';
import { ApiCookieAuth, ApiOperation, ApiSecurity, ApiTags } from '@nestjs/swagger';
import { KeyUses, Sessions, type Session } from '@app/accounts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { me } from '../accounts/examples';
import { Me } from '../accounts/me.service';
import { unauthorized } from '../http/api-key.guard';
import { ConsoleSessions } from '../http/console-session';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { RateLimit, sayAllowance } from '../http/rate-limit';
import { RequestLimits } from '../http/request-limits';
import { success } from '../http/success';
import { EndedSessionEnvelope, presentSession, SessionEnvelope, SignInRequest } from './session.dto';

const example = { ...me, data: { ...me.data, expires_at: '2026-04-15T10:30:00Z' } };
const ended = { ok: true, data: { deleted: true }, meta: me.meta };
const setCookie = {
  'Set-Cookie': '`__Host-sendmux_session`, which a page cannot read, and another site cannot have sent.',
};

/** Signs the console in and out: a key is sent once, and a cookie afterwards. */
@ApiTags('session')
@Controller('/api/v1/session')
export class SessionController {
  constructor(
    private readonly sessions: Sessions,
    @Inject(ConsoleSessions) private readonly console: ConsoleSessions,
    @Inject(RateLimit) private readonly attempts: RateLimit,
    @Inject(RequestLimits) private readonly limits: RequestLimits,
    private readonly uses: KeyUses,
    private readonly me: Me,
  ) {}

  @Post()
  @ApiSecurity({})
  @ApiOperation({
    operationId: 'signIn',
    summary: 'Begin a session of the console with an API key',
    description:
      'The cookie then stands for the key on every operation that takes one, with its permissions at that time, and ends with it. What changes something must come from a page of this origin. A key has 20 sessions at most, and a further one ends the oldest.',
  })
  @ApiSuccess(201, 'Whose key it is, and until when the session lasts.', SessionEnvelope, example, setCookie)
  @ApiErrors(
    'missing_parameter',
    'authentication_required',
    'insufficient_permissions',
    'payload_too_large',
    'unsupported_media_type',
  )
  async begin(
    @Body() { api_key: key }: SignInRequest,
    @Ip() address: string,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    this.console.assertNotForeign(request);
    const session = await this.sessions.begin(key);
    // By address only what fails is counted: behind a proxy everybody has the same, and nobody may lock others out.
    if (session) await this.limits.ofKey(session.caller, request, reply);
    else sayAllowance(this.attempts.take(`sessions of ${address}`), reply, 'This address');
    if (!session)
      throw unauthorized('This API key is unknown, revoked or over.', 'Bearer realm="sendmux", error="invalid_token"');
    this.uses.note(session.caller.keyId);
    void reply.header('set-cookie', this.console.cookie(session.token));
    return success(presentSession(await this.me.of(session.caller), session), request.id);
  }

  @Get()
  @ApiCookieAuth('session')
  @ApiOperation({ operationId: 'readSession', summary: 'Read whose session this is, and until when it lasts' })
  @ApiSuccess(200, 'Whose key it is, and until when the session lasts.', SessionEnvelope, example)
  @ApiErrors()
  async read(@Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply): Promise<object> {
    const session = await this.identified(request, reply);
    return success(presentSession(await this.me.of(session.caller), session), request.id);
  }

  @Delete()
  @ApiCookieAuth('session')
  @ApiOperation({ operationId: 'signOut', summary: 'End the session' })
  @ApiSuccess(200, 'Ended: the cookie opens nothing any more.', EndedSessionEnvelope, ended, setCookie)
  @ApiErrors('payload_too_large', 'unsupported_media_type')
  async end(@Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply): Promise<object> {
    await this.identified(request, reply);
    await this.console.end(request);
    void reply.header('set-cookie', this.console.noCookie());
    return success({ deleted: true }, request.id);
  }

  /** @throws {ApiError} `authentication_required`, `insufficient_permissions`, `rate_limit_exceeded` */
  private async identified(request: FastifyRequest, reply: FastifyReply): Promise<Session> {
    const session = await this.console.of(request);
    if (!session) {
      void reply.header('set-cookie', this.console.noCookie());
      throw unauthorized('There is no session, or no more. Sign in with an API key.', 'Bearer realm="sendmux"');
    }
    await this.limits.ofKey(session.caller, request, reply);
    return session;
  }
}
