import type { Commands } from '@app/commands';
import { AssessmentRecorder } from './assessment-recorder';
import type { AssessedDomain } from './looks';

const lookedAt = Date.UTC(2026, 3, 15, 10);
const assessed = { domain: { id: 'mdom_1' }, assessment: { findings: [], sesDkimStatus: null }, lookedAt } as unknown;

it.each([
  ['began before a requested one that found nothing new', lookedAt + 1, 0],
  ['began after the requested one', lookedAt - 1, 1],
])('N6: a scheduled look that %s is recorded accordingly', async (_which, requestedAt, commands) => {
  let executed = 0;
  const recorder = new AssessmentRecorder(
    { execute: () => (executed++, Promise.resolve({ state: {}, version: 1, events: [] })) } as unknown as Commands,
    {
      refresh: () => Promise.resolve(),
      isOvertaken: (_id, at) => Promise.resolve(at < requestedAt),
    },
    () => lookedAt,
  );
  expect(await recorder.record(assessed as AssessedDomain, 1)).toBe('unchanged');
  expect(executed).toBe(commands);
});
