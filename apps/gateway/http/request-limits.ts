import type { Caller } from '@app/accounts';
import { RouteConfig } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { sayAllowance } from './rate-limit';
import type { SharedRateLimit } from './shared-rate-limit';

/** How many requests an operation counts as that looks at the DNS, and asks Amazon SES. */
export const looksCountAs = 5;

/** Says how many requests an operation counts as; 1 where it says nothing. */
export const CountsAs = (requests: number) => RouteConfig({ countsAs: requests });

const costOf = ({ routeOptions }: Pick<FastifyRequest, 'routeOptions'>): number =>
  (routeOptions.config as { readonly countsAs?: number }).countsAs ?? 1;

/** The most requests in a minute, over all gateways. */
export interface RequestsPerMinute {
  /** The requests of one API key, or of one setup link. */
  readonly key: number;
  /** The requests of all keys of a team together. */
  readonly team: number;
}

/** Limits the requests of those who are identified. Says in each answer how many are left. */
export class RequestLimits {
  constructor(
    private readonly shared: SharedRateLimit,
    readonly perMinute: RequestsPerMinute,
  ) {}

  /** @throws {ApiError} `rate_limit_exceeded` */
  async ofKey(
    { keyId, team }: Pick<Caller, 'keyId' | 'team'>,
    request: Pick<FastifyRequest, 'routeOptions'>,
    reply: FastifyReply,
  ): Promise<void> {
    const cost = costOf(request);
    const key = await this.shared.take(keyId, this.perMinute.key, cost);
    const all = key.exceeded ? undefined : await this.shared.take(team, this.perMinute.team, cost);
    if (all && (all.exceeded || all.remaining < key.remaining)) sayAllowance(all, reply, 'Your team');
    else sayAllowance(key, reply, 'This key');
  }

  /** @throws {ApiError} `rate_limit_exceeded` */
  async ofSetupLink(id: string, request: Pick<FastifyRequest, 'routeOptions'>, reply: FastifyReply): Promise<void> {
    sayAllowance(await this.shared.take(id, this.perMinute.key, costOf(request)), reply, 'This setup link');
  }
}
