import type { Commands } from '@app/commands';
import { AssessmentRecorder } from './assessment-recorder';
import type { AssessedDomain } from './looks';

const lookedAt = Date.UTC(2026, 3, 15, 10);
const assessed = {
  domain: { id: 'mdom_1', status: 'verified', lapsed: false },
  assessment: { findings: [], sesDkimStatus: null },
  lookedAt,
} as unknown;

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

it.each([
  ['pending', false, true],
  ['pending', true, false],
  ['verified', false, false],
])(
  'says of a look at a domain that was %s, and lapsed: %s, whether it had nothing to lose',
  async (status, lapsed, is) => {
    const given: { data: { hadNothingToLose: boolean } }[] = [];
    const recorder = new AssessmentRecorder(
      {
        execute: (command: (typeof given)[number]) => (
          given.push(command),
          Promise.resolve({ state: {}, version: 1, events: [] })
        ),
      } as unknown as Commands,
      { refresh: () => Promise.resolve(), isOvertaken: () => Promise.resolve(false) },
      () => lookedAt,
    );
    await recorder.record({ ...(assessed as AssessedDomain), domain: { status, lapsed } as never }, 1);
    expect(given.map(({ data }) => data.hadNothingToLose)).toEqual([is]);
  },
);
