import { RestartBackOff } from './restart-back-off';

it('waits ever longer for a process that keeps ending, a minute at most, and forgets what is long ago', () => {
  let now = 0;
  const backOff = new RestartBackOff(() => now);
  const waits = Array.from({ length: 12 }, () => backOff.ended().waitMs);
  waits.forEach((wait, index) => {
    const whole = Math.min(60_000, 500 * 2 ** index);
    expect(wait).toBeGreaterThanOrEqual(whole / 2);
    expect(wait).toBeLessThanOrEqual(whole);
  });
  now = 600_000;
  expect(backOff.ended()).toMatchObject({ times: 1 });
});
