import { RateLimiter } from './rate-limiter';

it('lets a number of tasks begin per second, over all callers, without a burst after a pause', async () => {
  const limiter = new RateLimiter(100);
  await limiter.acquire();
  await new Promise((later) => setTimeout(later, 200));
  const begin = performance.now();
  await Promise.all(Array.from({ length: 21 }, () => limiter.acquire()));
  expect(performance.now() - begin).toBeGreaterThan(195);
});
