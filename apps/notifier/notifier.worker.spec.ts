import { secondsOf } from './notifier.worker';

const ago = (seconds: number) => new Date(Date.now() - seconds * 1_000);

it.each([
  ['that was ready at once and failed for an hour', 3_605, 3_600, 3_600, 3_605],
  ['that waited for others for two hours', 7_200, 7_199, 3, 4],
  ['that a notifier has read a day late', 86_400, 2, 2, 86_400],
  ['of an event of a clock that is ahead', -5, 1, 1, 0],
])('a notice %s', (_, happened, created, ready, seconds) => {
  const task = { payload: { at: ago(happened).toISOString() }, createdAt: ago(created), readyAt: ago(ready) };
  expect(secondsOf(task)).toBeCloseTo(seconds, 0);
});
