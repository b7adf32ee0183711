import { sesDkimStatuses, haveSameTokens } from '@app/mail-records';
import { detectionBegunAt, identityFault, isRepairDue } from './identity-repair';

const answers = [...sesDkimStatuses, 'identity_missing', 'unavailable'] as const;
const faultsOf = (trigger: 'requested' | 'scheduled') =>
  answers.flatMap((answer) => {
    const fault = identityFault(answer, trigger);
    return fault === undefined ? [] : [[answer, fault]];
  });

describe('what SES is repaired of', () => {
  it('is all that it does not do, when a customer asks', () =>
    expect(faultsOf('requested')).toEqual([
      ['failed', 'gave_up'],
      ['not_started', 'not_started'],
      ['identity_missing', 'missing'],
    ]));
  it('F5 is not that it gave up, when nobody asks', () =>
    expect(faultsOf('scheduled')).toEqual([
      ['not_started', 'not_started'],
      ['identity_missing', 'missing'],
    ]));
});

it.each([
  [['a', 'b', 'c'], ['c', 'a', 'b'], true],
  [['a', 'b', 'c'], ['a', 'b', 'd'], false],
  [['a', 'b', 'c'], [], false],
])('tokens %j and %j are the same: %j', (some, others, same) => expect(haveSameTokens(some, others)).toBe(same));

describe('a repair that has failed', () => {
  const [failed, soon, later] = ['2026-05-01T10:00:00.000Z', '2026-05-01T10:59:00.000Z', '2026-05-01T11:00:00.000Z'];
  it.each([
    ['missing', soon, false],
    ['missing', later, true],
    ['no_mail_from', soon, true],
    ['no_tenant', soon, true],
  ] as const)('is due again for %s at %s: %j', (fault, at, isDue) =>
    expect(isRepairDue({ repairFailedAt: failed }, fault, at)).toBe(isDue),
  );
});

describe('SES has been looking for the DKIM records', () => {
  const [addedAt, asked, after] = ['2026-05-01T10:00:00.000Z', '2026-05-02T10:00:00.000Z', '2026-05-02T10:05:00.000Z'];
  it.each([
    ['since the domain was added', {}, addedAt],
    ['since a repair was asked for', { repairRequestedAt: asked }, asked],
    [
      'since the domain was added, where the repair has failed',
      { repairRequestedAt: asked, repairFailedAt: after },
      addedAt,
    ],
    [
      'since the domain was added, where it failed at once',
      { repairRequestedAt: asked, repairFailedAt: asked },
      addedAt,
    ],
    [
      'since the newest repair, where the one before failed',
      { repairRequestedAt: after, repairFailedAt: asked },
      after,
    ],
    ['since the domain was added, where a repair of another kind failed', { repairFailedAt: after }, addedAt],
  ])('%s', (_, repairs, since) => expect(detectionBegunAt({ addedAt, ...repairs })).toBe(since));
});
