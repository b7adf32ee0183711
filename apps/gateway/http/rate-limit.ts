import type { FastifyReply } from 'fastify';
import { ApiError } from './api-error';

export interface Allowance {
  readonly limit: number;
  readonly remaining: number;
  /** Seconds until the window ends. */
  readonly reset: number;
  /** When the window ends, in seconds since 1970. */
  readonly resetAt: number;
  readonly exceeded: boolean;
}

const windowMs = 60_000;

/** Gives the number of the window of a time, and when it ends. */
export function windowAt(now: number): Pick<Allowance, 'reset' | 'resetAt'> & { readonly window: number } {
  const window = Math.floor(now / windowMs);
  const end = (window + 1) * windowMs;
  return { window, reset: Math.ceil((end - now) / 1_000), resetAt: end / 1_000 };
}

/**
 * Counts what nobody has identified himself for, such as failed attempts by address, in fixed windows of a minute. The
 * counts are in memory, so each process has its own: whoever has many addresses must not write to the database.
 */
export class RateLimit {
  private readonly counts = new Map<string, number>();
  private window = 0;

  /** @param limit requests per minute and key. */
  constructor(readonly limit: number) {}

  take(keyId: string, now = Date.now()): Allowance {
    const { window, ...end } = windowAt(now);
    if (window !== this.window) {
      this.window = window;
      this.counts.clear();
    }
    const count = (this.counts.get(keyId) ?? 0) + 1;
    this.counts.set(keyId, count);
    return {
      limit: this.limit,
      remaining: Math.max(0, this.limit - count),
      exceeded: count > this.limit,
      ...end,
    };
  }
}

/**
 * Says in an answer how many requests are left.
 *
 * @param whose begins the sentence of a refusal: `This key`.
 * @throws {ApiError} `rate_limit_exceeded`
 */
export function sayAllowance(allowance: Allowance, reply: FastifyReply, whose: string): void {
  const { limit, remaining, reset, resetAt, exceeded } = allowance;
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
    throw new ApiError('rate_limit_exceeded', `${whose} may send ${limit} requests a minute. Wait ${reset} s.`, {
      retryAfter: reset,
    });
}
