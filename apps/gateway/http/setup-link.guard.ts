import { createParamDecorator, Inject, Injectable, type ExecutionContext } from '@nestjs/common';
import { SetupLinks, type SetupLink } from '@app/accounts';
import { DomainsReadModel, type DomainView } from '@app/read-model';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from './api-error';
import { unauthorized } from './api-key.guard';
import { bearerOf } from './bearer';
import { RequestLimits } from './request-limits';

/** Who calls with a setup link: the link, and the one domain that it opens. */
export interface SetupCaller {
  readonly link: SetupLink;
  readonly domain: DomainView;
}

/** Injects the setup link of the caller, with its domain. */
export const CurrentSetup = createParamDecorator((_: unknown, context: ExecutionContext) => {
  const caller = callers.get(context.switchToHttp().getRequest<FastifyRequest>());
  if (!caller) throw new Error(`${context.getClass().name} is not below the path whose setup links are identified.`);
  return caller;
});

const callers = new WeakMap<FastifyRequest, SetupCaller>();

/**
 * Identifies the setup link of a request and limits its rate (429). Runs on the head of a request, before its body is
 * read.
 */
@Injectable()
export class SetupCallers {
  constructor(
    private readonly links: SetupLinks,
    private readonly domains: DomainsReadModel,
    @Inject(RequestLimits) private readonly limits: RequestLimits,
  ) {}

  /**
   * @throws {ApiError} `authentication_required` without a token, `rate_limit_exceeded`; and `not_found` alike for a
   * token that is unknown, expired or revoked, and for one whose domain is gone.
   */
  async identify(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const token = bearerOf(request);
    if (token === undefined)
      throw unauthorized(
        'Send the token of the setup link in the header "Authorization: Bearer smx_setup_…".',
        'Bearer realm="sendmux-setup"',
      );
    const link = await this.links.find(token);
    const domain = link && (await this.domains.find(link.domainId, link.team));
    if (!domain || domain.status === 'deleting') throw noSuchLink();
    await this.limits.ofSetupLink(link.id, request, reply);
    callers.set(request, { link, domain });
  }
}

const noSuchLink = () =>
  new ApiError(
    'not_found',
    'There is no such setup link, or no more: it was revoked, its time is over, or the domain was deleted. Ask whoever gave it to you for a new one.',
  );
