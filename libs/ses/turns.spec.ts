import fc from 'fast-check';
import { goesBefore, graceMs, spacingMs, turnsALease, wayMs } from './turns';

const rates = [0.1, 0.5, 1, 1.5, 2, 20, 100, 10_000];

/** Gives the largest number of calls in any second, or in the time of one call where that is longer. */
function mostAtOnce(arrivals: readonly number[], callsPerSecond: number): number {
  const windowMs = Math.max(1_000, 1_000 / callsPerSecond);
  const sorted = arrivals.toSorted((a, b) => a - b);
  let [most, first] = [0, 0];
  for (const [last, at] of sorted.entries()) {
    while (sorted[first]! <= at - windowMs) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

describe('turns', () => {
  it.each(
    rates.flatMap((rate) => [
      [rate, 0],
      [rate, 700],
    ]),
  )('never have more calls reach SES in a second than it allows: %d, with a slack of %d ms', (rate, slackMs) => {
    const call = fc.record({
      lateMs: fc.double({ min: 0, max: graceMs + slackMs, noNaN: true }),
      wayMs: fc.double({ min: 0, max: wayMs, noNaN: true }),
      isUsed: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 500 }), (calls) => {
        const arrivals = calls.flatMap(({ lateMs, wayMs, isUsed }, i) =>
          isUsed ? i * spacingMs(rate, slackMs) + lateMs + wayMs : [],
        );
        expect(mostAtOnce(arrivals, rate)).toBeLessThanOrEqual(Math.ceil(rate));
      }),
      { numRuns: 50 },
    );
  });

  it.each(rates)('leave at least nine tenths of what SES allows: %d', (rate) => {
    expect(1_000 / spacingMs(rate) / rate).toBeGreaterThan(0.9);
  });

  it('are leased for a quarter of a second at most, and one at least', () => {
    expect(rates.map(turnsALease)).toEqual([1, 1, 1, 1, 1, 4, 22, 2_272]);
  });

  it('go to those of the highest priority, and of these to the one that has waited longest', () => {
    const calls = [
      { name: 'a listing', priority: 'background' as const, since: 0 },
      { name: 'an add of later', priority: 'change' as const, since: 3 },
      { name: 'a check', priority: 'check' as const, since: 1 },
      { name: 'an add', priority: 'change' as const, since: 2 },
    ];
    expect(calls.toSorted((a, b) => (goesBefore(a, b) ? -1 : 1)).map(({ name }) => name)).toEqual([
      'an add',
      'an add of later',
      'a check',
      'a listing',
    ]);
  });
});
