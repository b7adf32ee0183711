import { sesDkimStatuses, haveSameTokens } from '@app/mail-records';
import { identityFault } from './identity-repair';

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
