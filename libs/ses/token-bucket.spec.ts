import { TokenBucket } from './token-bucket';

describe('the token bucket', () => {
  it('lets calls through in order, at the rate', async () => {
    const bucket = new TokenBucket(50);
    const startedAt = performance.now();
    const order: number[] = [];
    await Promise.all([1, 2, 3, 4].map((each) => bucket.take().then(() => order.push(each))));
    expect(order).toEqual([1, 2, 3, 4]);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(55);
  });

  it('frees a caller that gives up at once, and gives its place to the next', async () => {
    const bucket = new TokenBucket(10);
    await bucket.take();
    const startedAt = performance.now();
    const [first, second] = [new AbortController(), new AbortController()];
    const turns = [bucket.take(first.signal), bucket.take(second.signal), bucket.take()];
    second.abort(new Error('enough'));
    await expect(turns[1]).rejects.toThrow('enough');
    expect(performance.now() - startedAt).toBeLessThan(60);
    first.abort(new Error('enough'));
    await expect(turns[0]).rejects.toThrow('enough');
    await turns[2];
    expect(performance.now() - startedAt).toBeLessThan(180);
    await expect(bucket.take(first.signal)).rejects.toThrow('enough');
  });
});
