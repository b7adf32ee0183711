import * as fc from 'fast-check';
import type { CommandContext } from '@app/decider';
import { decide, evolve, initialState, isLive, RecordCheck, type DomainEvent, type MailDomain } from '@app/mail-domain';
import { checkNames, type Assessment } from '@app/mail-records';
import { changesNothing, watched } from './watched-domain';

const id = 'mdom_1';
const at = '2026-11-23T00:00:00.000Z';
const context: CommandContext = { at, actor: 'test', correlationId: 'c' };

const provisioned: DomainEvent[] = [
  { type: 'DomainAdded', domainId: id, at, data: { name: 'mail.acme.com', team: 'team_abc123', deadline: at } },
  {
    type: 'DomainProvisioned',
    domainId: id,
    at,
    data: {
      dkimTokens: ['a', 'b', 'c'],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'eu-west-1',
      sesDkimStatus: 'pending',
    },
  },
];

const outcomes = fc.constantFrom<('pass' | 'fail' | 'indeterminate')[]>('pass', 'fail', 'indeterminate');
const looks: fc.Arbitrary<Assessment> = fc
  .record({
    checks: fc.oneof(
      fc.constant(checkNames.map(() => 'pass' as const)),
      fc.array(outcomes, { minLength: 5, maxLength: 5 }),
    ),
    observed: fc.constantFrom('one', 'another'),
    sesDkimStatus: fc.constantFrom('success' as const, 'failed' as const, null),
  })
  .map(({ checks, observed, sesDkimStatus }) => ({
    sesDkimStatus,
    findings: checkNames.map((check, index) => ({
      check,
      outcome: checks[index]!,
      code: checks[index] === 'pass' ? 'ok' : 'bad',
      message: 'Mend it.',
      name: 'mail.acme.com',
      type: 'TXT' as const,
      expected: 'this',
      observed: [observed],
    })),
  }));

const record = (state: MailDomain, look: Assessment, cycle: number | null) =>
  decide(new RecordCheck(id, { ...look, trigger: cycle === null ? 'requested' : 'scheduled', cycle }, context), state);

it('skips only assessments for which the model decides no event', () => {
  const history = fc.array(fc.tuple(looks, fc.boolean()), { maxLength: 8 });
  let old = 0;
  fc.assert(
    fc.property(history, looks, fc.boolean(), (past, newest, again) => {
      let state = provisioned.reduce(evolve, initialState);
      past.forEach(([look, scheduled], cycle) => {
        state = record(state, look, scheduled ? cycle : null).reduce(evolve, state);
      });
      if (!isLive(state) || state.status === 'failed') return;
      const look = (again && state.lastAssessment) || newest;
      if (!changesNothing(watched(state, 1), look)) return;
      old += 1;
      expect(record(state, look, past.length)).toEqual([]);
    }),
    { numRuns: 2_000 },
  );
  expect(old).toBeGreaterThan(100);
});

const pass: Assessment = {
  sesDkimStatus: 'success',
  findings: checkNames.map((check) => ({
    check,
    outcome: 'pass',
    code: 'ok',
    message: 'Found.',
    name: 'mail.acme.com',
    type: 'TXT',
    expected: 'this',
    observed: ['this'],
  })),
};

it('recognises a healthy domain without a change, and one whose answers differ', () => {
  const state = record(provisioned.reduce(evolve, initialState), pass, 1).reduce(
    evolve,
    provisioned.reduce(evolve, initialState),
  );
  if (!isLive(state)) throw new Error('not live');
  expect(changesNothing(watched(state, 4), pass)).toBe(true);
  const stricter = pass.findings.map((finding) => ({ ...finding, observed: ['this, and p=reject'] }));
  expect(changesNothing(watched(state, 4), { ...pass, findings: stricter })).toBe(false);
});

it('never skips the assessment of a lapsed domain, since it may count a strike', () => {
  const broken = { ...pass, findings: pass.findings.map((finding) => ({ ...finding, outcome: 'fail' as const })) };
  let state = provisioned.reduce(evolve, initialState);
  for (const look of [pass, broken]) state = record(state, look, null).reduce(evolve, state);
  if (!isLive(state)) throw new Error('not live');
  expect(watched(state, 6)).toMatchObject({ status: 'pending', lapsed: true });
  expect(changesNothing(watched(state, 6), broken)).toBe(false);
});
