import { createParamDecorator, Injectable, SetMetadata, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Accounts, allows, KeyUses, type Caller, type Permission } from '@app/accounts';
import { ApiError } from './api-error';
import { RateLimit } from './rate-limit';

const permissionKey = 'permission';

/** Names the permission that a key needs for the operation. */
export const Requires = (permission: Permission) => SetMetadata(permissionKey, permission);

/** Marks an operation that any valid key may call. */
export const NeedsNoPermission = () => SetMetadata(permissionKey, null);

/** Injects the caller that the guard has identified. */
export const CurrentCaller = createParamDecorator((_: unknown, context: ExecutionContext) =>
  callers.get(context.switchToHttp().getRequest<FastifyRequest>()),
);

const callers = new WeakMap<FastifyRequest, Caller>();

/** Identifies the caller (401) and limits the rate (429). Runs on the head of a request, before its body is read. */
@Injectable()
export class ApiKeys {
  constructor(
    private readonly accounts: Accounts,
    private readonly rateLimit: RateLimit,
    private readonly uses: KeyUses,
  ) {}

  /** @throws {ApiError} `authentication_required`, `rate_limit_exceeded` */
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

    const { limit, remaining, reset, resetAt, exceeded } = this.rateLimit.take(caller.keyId);
    void reply.headers({
      'ratelimit-limit': limit,
      'ratelimit-remaining': remaining,
      'ratelimit-reset': reset,
      // The older names, which the public clients read: the end of the window is a time there.
      'x-ratelimit-limit': limit,
      'x-ratelimit-remaining': remaining,
      'x-ratelimit-reset': resetAt,
    });
    if (exceeded)
      throw new ApiError('rate_limit_exceeded', `This key may send ${limit} requests a minute. Wait ${reset} s.`, {
        retryAfter: reset,
      });
    this.uses.note(caller.keyId);
    callers.set(request, caller);
  }
}

/** Refuses callers without the permission of the operation (403). */
@Injectable()
export class ApiKeyGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    const caller = callers.get(context.switchToHttp().getRequest<FastifyRequest>());
    if (!caller) throw new Error(`${context.getClass().name} is not below the path whose callers are identified.`);
    const needed = this.reflector.get<Permission | null | undefined>(permissionKey, context.getHandler());
    if (needed === undefined) throw new Error(`${context.getHandler().name} requires no permission: say which.`);
    if (needed !== null && !allows(caller.permissions, needed))
      throw new ApiError('insufficient_permissions', `This API key lacks the permission ${needed}.`);
    return true;
  }
}

const unauthorized = (message: string, challenge: string) =>
  new ApiError('authentication_required', message, { headers: { 'www-authenticate': challenge } });
