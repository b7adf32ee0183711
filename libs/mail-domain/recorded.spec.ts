import { EventNotUnderstood } from '@app/decider';
import { domainEvent } from './recorded';

it('refuses an event of a newer release', () => {
  const recorded = {
    stream: 'mdom_1',
    time: '2026-03-01T10:00:00.000Z',
    type: 'DomainAdded',
    schemaVersion: 99,
    data: {},
  };
  expect(() => domainEvent(recorded)).toThrow(EventNotUnderstood);
});

it.each([
  ['refused', 'SES: User: arn:aws:iam::123456789012:user/x is not authorized', 'Amazon SES refused it.'],
  [
    'deadline',
    'Amazon SES was not ready in time: connect ECONNREFUSED 10.0.0.7:443.',
    'Amazon SES was not ready in time.',
  ],
  ['foreign', 'Amazon SES has mail.acme.com for somebody else.', 'Amazon SES has mail.acme.com for somebody else.'],
] as const)('P1: shows nothing of what SES has said in an old event (%s)', (kind, reason, shown) => {
  const data = { step: 'ses', kind, reason } as const;
  const recorded = { stream: 'mdom_1', time: '2026-03-01T10:00:00.000Z', type: 'ProvisioningFailed', schemaVersion: 1 };
  expect(domainEvent({ ...recorded, data }).data).toEqual({ step: 'ses', kind, reason: shown });
  expect(data.reason).toBe(reason);
  const ours = { step: 'ses', kind, isOurs: false, reason: 'Said by this release.' } as const;
  expect(domainEvent({ ...recorded, data: ours }).data).toEqual(ours);
});

it.each(['DnsChecked', 'VerificationLapsed', 'VerificationFailed', 'IdentityRepairRequested', 'OwnersTold'])(
  'reads %s of its first version as it is, since what it named then is still named so',
  (type) => {
    const [stream, time, data] = ['mdom_1', '2026-03-01T10:00:00.000Z', { fault: 'missing' }];
    const read = domainEvent({ stream, time, type, schemaVersion: 1, data });
    expect(read).toStrictEqual({ type, domainId: stream, at: time, data });
  },
);
