import { RateLimit } from './rate-limit';

describe('the rate limit', () => {
  it('counts each key by itself, in windows of a minute', () => {
    const limit = new RateLimit(2);
    expect(limit.take('a', 60_000)).toEqual({ limit: 2, remaining: 1, reset: 60, resetAt: 120, exceeded: false });
    expect(limit.take('a', 60_500)).toEqual({ limit: 2, remaining: 0, reset: 60, resetAt: 120, exceeded: false });
    expect(limit.take('a', 90_000)).toEqual({ limit: 2, remaining: 0, reset: 30, resetAt: 120, exceeded: true });
    expect(limit.take('b', 119_999)).toEqual({ limit: 2, remaining: 1, reset: 1, resetAt: 120, exceeded: false });
    expect(limit.take('a', 120_000)).toEqual({ limit: 2, remaining: 1, reset: 60, resetAt: 180, exceeded: false });
  });
});
