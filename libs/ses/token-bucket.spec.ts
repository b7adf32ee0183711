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

  it('rejects a caller that gives up at once, and gives its place to the next', async () => {
    const [bucket, nobodyGivesUp] = [new TokenBucket(10), new TokenBucket(10)];
    await Promise.all([bucket.take(), nobodyGivesUp.take()]);
    const order: string[] = [];
    const note = (what: string, turn: Promise<void>) =>
      turn.then(
        () => order.push(what),
        (error: Error) => order.push(`${what}: ${error.message}`),
      );
    const [first, second] = [new AbortController(), new AbortController()];
    const turns = [
      note('first', bucket.take(first.signal)),
      note('second', bucket.take(second.signal)),
      note('third', bucket.take()),
      note('first of the others', nobodyGivesUp.take()),
      note('second of the others', nobodyGivesUp.take()),
    ];
    second.abort(new Error('enough'));
    await turns[1];
    first.abort(new Error('enough'));
    await Promise.all(turns);
    expect(order.slice(0, 2)).toEqual(['second: enough', 'first: enough']);
    expect(order.indexOf('third')).toBeLessThan(order.indexOf('second of the others'));
    await expect(bucket.take(first.signal)).rejects.toThrow('enough');
  });
});
