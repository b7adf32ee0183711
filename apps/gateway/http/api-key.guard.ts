import { createParamDecorator, Injectable, SetMetadata, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Accounts, allows, KeyUses, type Caller, type Permission } from '@app/accounts';
import { ApiError } from './api-error';
import { RateLimit } from './rate-limit';

const permissionKey = 'permission';

/** The permission that a key needs for this operation. */
export const Requires = (permission: Permission) => SetMetadata(permissionKey, permission);

/** Who calls, as the guard has found out. */
export const CurrentCaller = createParamDecorator((_: unknown, context: ExecutionContext) =>
  callers.get(context.switchToHttp().getRequest<FastifyRequest>()),
);

const callers = new WeakMap<FastifyRequest, Caller>();

/** 401, then 429: who it is, and whether that is too often. Known from the head of a request, before its body is read. */
@Injectable()
export class ApiKeys {
  constructor(
    private readonly accounts: Accounts,
    private readonly rateLimit: RateLimit,
    private readonly uses: KeyUses,
  ) {}

  /** @throws {ApiError} `unauthorized`, `rate_limited` */
  async identify(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const key = /^Bearer +([\x21-\x7e]+) *$/i.exec(request.headers.authorization ?? '')?.[1];
    if (key === undefined)
      throw unauthorized(
        'Send your API key in the header "Authorization: Bearer smx_root_…".',
        'Bearer realm="sendmux"',
      );
    const caller = await this.accounts.authenticate(key);
    if (!caller)
      throw unauthorized('This API key is unknown, revoked or over.', 'Bearer realm="sendmux", error="invalid_token"');

    const { limit, remaining, reset, exceeded } = this.rateLimit.take(caller.keyId);
    void reply.headers({
      'ratelimit-limit': limit,
      'ratelimit-remaining': remaining,
      'ratelimit-reset': reset,
    });
    if (exceeded)
      throw new ApiError('rate_limited', `This key may send ${limit} requests a minute. Wait ${reset} s.`, {
        retryAfter: reset,
      });
    this.uses.note(caller.keyId);
    callers.set(request, caller);
  }
}

/** 403: whether the caller may. */
@Injectable()
export class ApiKeyGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    const caller = callers.get(context.switchToHttp().getRequest<FastifyRequest>());
    if (!caller) throw new Error(`${context.getClass().name} is not below the path whose callers are identified.`);
    const needed = this.reflector.get<Permission | undefined>(permissionKey, context.getHandler());
    if (needed === undefined) throw new Error(`${context.getHandler().name} requires no permission: say which.`);
    if (!allows(caller.permissions, needed))
      throw new ApiError('insufficient_permissions', `This API key lacks the permission ${needed}.`);
    return true;
  }
}

const unauthorized = (message: string, challenge: string) =>
  new ApiError('unauthorized', message, { headers: { 'www-authenticate': challenge } });
