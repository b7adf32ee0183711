import type { Accounts, Caller, KeyUses } from '@app/accounts';
import type { ExecutionContext } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiKeyGuard, ApiKeys, NeedsNoPermission, Requires } from './api-key.guard';
import type { ConsoleSessions } from './console-session';
import type { RequestLimits } from './request-limits';

class Operations {
  @Requires('domain.read')
  read(this: void): void {}
  @NeedsNoPermission()
  me(this: void): void {}
  saysNothing(this: void): void {}
}
const { read, me, saysNothing } = Operations.prototype;

async function requestOf(permissions?: readonly string[]): Promise<FastifyRequest> {
  const request = { headers: { authorization: 'Bearer smx_root_a' } } as FastifyRequest;
  if (!permissions) return request;
  const caller: Caller = { keyId: 'key_a', team: 'team_a', role: null, permissions };
  const keys = new ApiKeys(
    { authenticate: () => Promise.resolve(caller) } as unknown as Accounts,
    { ofKey: () => Promise.resolve() } as unknown as RequestLimits,
    { note: () => undefined } as unknown as KeyUses,
    {} as ConsoleSessions,
  );
  await keys.identify(request, {} as FastifyReply);
  return request;
}

const enter = (request: FastifyRequest, handler: () => void): boolean =>
  new ApiKeyGuard().canActivate({
    switchToHttp: () => ({ getRequest: () => request }),
    getHandler: () => handler,
  } as unknown as ExecutionContext);

it('lets in who has the permission of an operation, and nobody else', async () => {
  expect(enter(await requestOf(['domain.*']), read)).toBe(true);
  expect(enter(await requestOf(['mailbox.read']), me)).toBe(true);
  const lacking = await requestOf(['mailbox.read']);
  expect(() => enter(lacking, read)).toThrow('This API key lacks the permission domain.read.');
});

it('lets everybody in to an operation that is not behind keys', async () =>
  expect(enter(await requestOf(), saysNothing)).toBe(true));

it('finds an operation behind keys that says nothing of a permission, and one of keys that is not behind them', async () => {
  const identified = await requestOf(['domain.*']);
  expect(() => enter(identified, saysNothing)).toThrow('say which');
  const anybody = await requestOf();
  expect(() => enter(anybody, read)).toThrow('is not below the path');
});
