import { retryAfterOf, retryTimes, waitMs } from './retry-times';

const middle = () => 0.5;

it('waits longer after each failure, and gives up after the last wait', () => {
  const waits = Array.from({ length: 9 }, (_, i) => waitMs(retryTimes, i + 1, 0, middle));
  expect(waits.map((ms) => ms && ms / 1_000)).toEqual([5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200, undefined]);
});

it('pauses a lane for ten minutes at most, and has an endpoint disabled after five days of failures', () => {
  expect(retryTimes.pause.capMs).toBe(600_000);
  expect(retryTimes.disableAfterMs).toBe(5 * 86_400_000);
});

it('varies each wait, so that what failed together is not tried together', () => {
  expect([0, 0.5, 1].map((random) => waitMs(retryTimes, 3, 0, () => random))).toEqual([102_000, 120_000, 138_000]);
});

it('waits as long as the endpoint asks for, within bounds, and never less than otherwise', () => {
  const [minute, hour] = [60_000, 3_600_000];
  expect(waitMs(retryTimes, 1, 10 * minute, middle)).toBe(10 * minute);
  expect(waitMs(retryTimes, 4, minute, middle)).toBe(10 * minute);
  expect(waitMs(retryTimes, 1, 1_000 * hour, middle)).toBe(12 * hour);
  expect(waitMs(retryTimes, 9, minute, middle)).toBeUndefined();
});

it.each([
  [undefined, undefined],
  ['120', 120_000],
  ['0', 0],
  ['Sun, 06 Nov 1994 08:49:37 GMT', 37_000],
  ['Sun, 06 Nov 1994 08:48:37 GMT', 0],
  ['Sunday, 06-Nov-94 08:49:37 GMT', 37_000],
  ['Sun Nov  6 08:49:37 1994', 37_000],
  ['Sun Nov  6 08:49 1994', undefined],
  ['-1', undefined],
  ['1.5', undefined],
  ['soon', undefined],
  ['', undefined],
  ['9'.repeat(41), undefined],
])('reads Retry-After: %s', (value, ms) => {
  expect(retryAfterOf(value, Date.parse('1994-11-06T08:49:00Z'))).toBe(ms);
});
