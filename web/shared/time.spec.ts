import { countdown, localToTime, nextOwnCheck, secondsUntil } from './time';

const now = Date.parse('2026-04-15T10:00:00Z');

it('counts down to a time, and stays at nothing after it', () => {
  expect(secondsUntil('2026-04-15T10:04:05Z', now)).toBe(245);
  expect(secondsUntil('2026-04-15T10:00:00.001Z', now)).toBe(1);
  expect([secondsUntil('2026-04-15T09:00:00Z', now), secondsUntil(null, now)]).toEqual([0, 0]);
  expect([0, 59, 60, 245, 7_860].map(countdown)).toEqual(['0 s', '59 s', '1 min 0 s', '4 min 5 s', '2 h 11 min']);
});

it('looks by itself at once, then less and less often, and not before the DNS can show a change', () => {
  const after = (times: number, retryAt: string | null = null) => nextOwnCheck({ times, at: now }, retryAt) - now;
  expect([0, 1, 2, 3, 4, 5, 6, 100].map((times) => after(times) / 1000)).toEqual([0, 15, 30, 60, 120, 300, 300, 300]);
  expect(after(1, '2026-04-15T10:05:00Z')).toBe(300_000);
  expect(after(1, '2026-04-15T09:05:00Z')).toBe(15_000);
});

it('takes only times', () => {
  expect(localToTime('2026-04-15T10:00')).toMatch(/^2026-04-1[456]T\d\d:00:00.000Z$/);
  expect([localToTime(''), localToTime('soon')]).toEqual([null, null]);
});
