import { carried, endTracing, isTracing, openTrace, originOf, span, trace, traceIds } from './tracing';

const parent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

describe('where nothing is traced', () => {
  it('work is only done, and its outcome is its own', async () => {
    expect(await trace('a', { parent }, (recorded) => (recorded.set({ a: 1 }), Promise.resolve(1)))).toBe(1);
    await expect(span('a', {}, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  });

  it('nothing is carried, logged or opened', async () => {
    await trace('a', { parent }, () => {
      expect([carried(), traceIds(), openTrace('b', { parent }), isTracing()]).toEqual([
        undefined,
        {},
        undefined,
        false,
      ]);
      return Promise.resolve();
    });
    await endTracing();
  });
});

describe('what was recorded earlier', () => {
  it.each([
    [0, { parent }],
    [599_000, { parent }],
    [601_000, { link: parent }],
  ])('%d ms ago leads to a span of %j', (ms, origin) => {
    expect(originOf(parent, new Date(Date.now() - ms))).toEqual(origin);
  });

  it('without a trace leads to none', () => {
    expect([originOf(null, new Date()), originOf(undefined, new Date(0))]).toEqual([{}, {}]);
  });
});
