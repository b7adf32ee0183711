import {
  createParamDecorator,
  Inject,
  Injectable,
  SetMetadata,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Accounts, allows, KeyUses, type Caller, type Permission } from '@app/accounts';
import { ApiError } from './api-error';
import { ConsoleSessions } from './console-session';
import { bearerOf } from './bearer';
import { RequestLimits } from './request-limits';

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
    @Inject(RequestLimits) private readonly limits: RequestLimits,
    private readonly uses: KeyUses,
    private readonly sessions: ConsoleSessions,
  ) {}

  /** @throws {ApiError} `authentication_required`, `rate_limit_exceeded` */
  async identify(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const caller = await this.callerOf(request);
    await this.limits.ofKey(caller, request, reply);
    this.uses.note(caller.keyId);
    callers.set(request, caller);
  }

  /** A key that is sent comes before a session: only a session is sent by a browser on its own. */
  private async callerOf(request: FastifyRequest): Promise<Caller> {
    const key = bearerOf(request);
    if (key !== undefined) {
      const caller = await this.accounts.authenticate(key);
      if (caller) return caller;
      throw unauthorized('This API key is unknown, revoked or over.', 'Bearer realm="sendmux", error="invalid_token"');
    }
    const session = await this.sessions.of(request);
    if (session) return session.caller;
    throw unauthorized('Send your API key in the header "Authorization: Bearer smx_root_…".', 'Bearer realm="sendmux"');
  }
}

/**
 * Refuses callers without the permission of the operation (403). It stands before all operations, and finds at once one
 * behind the keys that says nothing of a permission.
 */
export class ApiKeyGuard implements CanActivate {
  private readonly reflector = new Reflector();

  canActivate(context: ExecutionContext): boolean {
    const caller = callers.get(context.switchToHttp().getRequest<FastifyRequest>());
    const handler = context.getHandler();
    const needed = this.reflector.get<Permission | null | undefined>(permissionKey, handler);
    if (!caller && needed === undefined) return true;
    if (!caller) throw new Error(`${handler.name} is not below the path whose callers are identified.`);
    if (needed === undefined) throw new Error(`${handler.name} requires no permission: say which.`);
    if (needed !== null && !allows(caller.permissions, needed))
      throw new ApiError('insufficient_permissions', `This API key lacks the permission ${needed}.`);
    return true;
  }
}

export const unauthorized = (message: string, challenge: string) =>
  new ApiError('authentication_required', message, { headers: { 'www-authenticate': challenge } });
