import type { DomainEvent } from './events';
import type { Finding } from '@app/mail-records';
import { actorOf, sentenceOf } from './history';
import { evolve, initialState } from './mail-domain';

const at = '2026-04-15T10:00:00.000Z';
const event = <Type extends DomainEvent['type']>(type: Type, data: Extract<DomainEvent, { type: Type }>['data']) =>
  ({ type, domainId: 'mdom_1', at, data }) as DomainEvent;

const finding = (check: string, outcome: Finding['outcome'] = 'pass', code = 'ok'): Finding => ({
  check,
  outcome,
  code,
  message: '',
  name: 'mail.acme.com',
  type: 'TXT',
  expected: 'x',
  observed: [],
});
const mxMissing = finding('mx', 'fail', 'mx_missing');
const checked = (trigger: 'scheduled' | 'requested', ...findings: Finding[]) =>
  event('DnsChecked', { trigger, cycle: null, findings, sesDkimStatus: null });

const added = event('DomainAdded', { name: 'mail.acme.com', team: 'team_a', deadline: at });
const ses = { dkimTokens: ['a'], dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' } as const;
const provisioned = event('DomainProvisioned', { ...ses, sesDkimStatus: 'pending' });
const repaired = (recordsChanged: boolean) =>
  event('IdentityRepaired', { ...ses, sesDkimStatus: 'pending', recordsChanged });
const failed = (step: 'mail_server' | 'ses', kind: 'refused' | 'foreign' | 'deadline', reason: string) =>
  event('ProvisioningFailed', { step, kind, reason });

/** The sentence of each event of a life. */
function told(...events: DomainEvent[]): string[] {
  let state = initialState;
  return events.map((each) => {
    const sentence = sentenceOf(each, state);
    state = evolve(state, each);
    return sentence;
  });
}

it('tells a whole life in words, with the names of the customer', () => {
  expect(
    told(
      added,
      provisioned,
      checked('requested', finding('mx')),
      event('DomainVerified', {}),
      checked('scheduled', mxMissing),
      event('VerificationLapsed', { failing: [mxMissing], strikes: 1 }),
      event('VerificationFailed', { failing: [mxMissing, finding('spf', 'fail', 'spf_multiple')], episode: 1 }),
      event('DomainVerified', {}),
      event('VerificationLapsed', { failing: [mxMissing], strikes: 0 }),
      event('VerificationFailed', { failing: [finding('dkim', 'fail', 'dkim_pending')], episode: 2 }),
      event('IdentityRepairRequested', { fault: 'missing' }),
      repaired(true),
      event('IdentityRepairRequested', { fault: 'not_started' }),
      repaired(false),
      event('IdentityRepairRequested', { fault: 'gave_up' }),
      ...['mailgun', null].map((provider) => event('DomainOutboundProviderChosen', { provider })),
      event('DomainDeletionRequested', {}),
      event('DomainDeleted', {}),
    ),
  ).toEqual([
    'mail.acme.com was added, and its name reserved.',
    'The mail server and Amazon SES (eu-west-1) have mail.acme.com now; it is pending until its DNS records are in place.',
    'A requested check found all records of mail.acme.com in place.',
    'All required checks of mail.acme.com pass, and it is verified.',
    'A scheduled check of mail.acme.com found the MX record missing.',
    'A scheduled check found the MX record missing; mail.acme.com is pending again.',
    'A scheduled check still found the MX record missing and the SPF record wrong (spf_multiple); mail.acme.com has failed, and the owners of its team are to be told.',
    'All required checks of mail.acme.com pass, and it is verified again.',
    'A requested check found the MX record missing; mail.acme.com is pending again.',
    'A scheduled check still found the DKIM records not seen by Amazon SES yet; mail.acme.com has failed, 2 times now, and the owners of its team are to be told.',
    'Amazon SES was found without mail.acme.com, and is to have it again.',
    'Amazon SES has mail.acme.com as it should again, with other DKIM records, which have to be placed anew.',
    'Amazon SES was found not to look for the DKIM records of mail.acme.com, and is to begin.',
    'Amazon SES has mail.acme.com as it should again.',
    'Amazon SES was found to have given up on the DKIM records of mail.acme.com, and is to look again.',
    'mailgun was chosen for what the mailboxes on mail.acme.com send, but those with a choice of their own.',
    'Sendmux SES was chosen for what the mailboxes on mail.acme.com send, but those with a choice of their own.',
    'The deletion of mail.acme.com was asked for.',
    'mail.acme.com is gone from the mail server and Amazon SES, and the name is free.',
  ]);
});

it.each([
  ['mail_server', 'refused', 'It is full', 'mail.acme.com could not be added: It is full.'],
  ['ses', 'refused', 'No more identities!', 'mail.acme.com could not be added: No more identities!'],
  ['ses', 'foreign', 'Amazon SES has it.', 'mail.acme.com could not be added: Amazon SES has it.'],
  ['ses', 'deadline', 'It is slow.', 'mail.acme.com was not provisioned in time: It is slow.'],
] as const)('tells why %s failed (%s, %j)', (step, kind, reason, sentence) => {
  expect(told(added, failed(step, kind, reason), event('ProvisioningRolledBack', {})).slice(1)).toEqual([
    `${sentence} What was done of it is being taken back.`,
    'Nothing of mail.acme.com is left in the mail server or Amazon SES, and the name is free.',
  ]);
});

it.each([
  [
    [mxMissing, finding('spf', 'fail', 'spf_missing'), finding('verification_txt', 'fail', 'txt_missing_nodata')],
    'found the MX record missing, the SPF record missing and the verification TXT record missing.',
  ],
  [
    [mxMissing, finding('dmarc', 'indeterminate', 'resolver_disagreement'), finding('dkim')],
    'found the MX record missing, and could not decide on the DMARC record (resolver_disagreement).',
  ],
  [
    [finding('mx'), finding('dkim', 'indeterminate', 'dkim_temporary_failure')],
    'could not decide on the DKIM records (dkim_temporary_failure).',
  ],
  [[finding('spf', 'fail', 'a_code_of_tomorrow')], 'found the SPF record wrong (a_code_of_tomorrow).'],
  [[finding('constructor', 'fail', 'x')], 'found the records of the check constructor wrong (x).'],
])('tells what a look saw (%#)', (findings, said) => {
  expect(told(added, provisioned, checked('scheduled', ...findings))[2]).toBe(
    `A scheduled check of mail.acme.com ${said}`,
  );
});

it('tells of a fault of tomorrow that SES is repaired of', () =>
  expect(told(added, provisioned, event('IdentityRepairRequested', { fault: 'constructor' }))[2]).toBe(
    'Amazon SES was found not to have mail.acme.com as it should (constructor), and that is to be mended.',
  ));

it.each([
  ['no_mail_from', 'Amazon SES was asked to send the mail of mail.acme.com with a MAIL FROM domain of its own.'],
  ['no_tenant', 'Amazon SES was asked to count the mail of mail.acme.com with that of its team alone.'],
] as const)('tells of %s, which an operator has asked to be mended', (fault, sentence) =>
  expect(told(added, provisioned, event('IdentityRepairRequested', { fault }))[2]).toBe(sentence),
);

it.each([
  ['off', 0, 'take mail from every sender now, by 0 rules'],
  ['allowlist', 1, 'take mail only from the senders that are allowed now, by one rule'],
  ['denylist', 2, 'take mail from every sender now but those that are denied, by 2 rules'],
  ['constructor', 2, 'filter senders in a way that this release does not know, by 2 rules'],
])('tells of rules about senders: %s', (mode, rules, said) => {
  const changed = event('SenderFiltersChanged', { mode, rules, digest: '' });
  expect(told(added, provisioned, changed)[2]).toBe(`The mailboxes on mail.acme.com ${said}.`);
});

it.each([
  ['failure', 1, 'The owner of the team was told by e-mail that mail.acme.com has failed.'],
  ['recovery', 2, '2 owners of the team were told by e-mail that mail.acme.com is verified again.'],
  [
    'new_records',
    2,
    '2 owners of the team were told by e-mail that mail.acme.com has other DKIM records, which have to be placed anew.',
  ],
  ['expiry', 2, '2 owners of the team were told by e-mail that mail.acme.com expires unless it is verified.'],
  [
    'ownership_gone',
    2,
    '2 owners of the team were told by e-mail that the ownership record of mail.acme.com is gone, so that another team may claim the name.',
  ],
  ['released', 2, '2 owners of the team were told by e-mail that another team has mail.acme.com now.'],
  ['constructor', 2, '2 owners of the team were told by e-mail about mail.acme.com (constructor).'],
])('tells what owners were told: %s', (about, owners, sentence) => {
  const toldOwners = event('OwnersTold', { about, notice: 1, owners });
  expect(told(added, provisioned, toldOwners)[2]).toBe(sentence);
});

it('tells that a domain expires', () => {
  const announced = event('ExpiryAnnounced', { expiresAt: '2026-05-15T10:00:00.000Z' });
  expect(told(added, provisioned, announced, event('DomainExpired', {})).slice(2)).toEqual([
    'mail.acme.com was never verified, and expires at 2026-05-15T10:00:00.000Z unless it is verified before.',
    'mail.acme.com was not verified in time, and is being removed.',
  ]);
});

it('tells both sides of a claim', () => {
  const released = event('DomainReleased', { claim: 'claim_1' });
  const never =
    'Another team has claimed mail.acme.com and proved that the name is its own, while it was never verified here; mail.acme.com is that team’s now, and is being removed here.';
  expect(told(added, provisioned, released, event('DomainDeleted', {})).slice(2)).toEqual([
    never,
    'What this team had of mail.acme.com is gone from the mail server and Amazon SES.',
  ]);
  const verified = [checked('requested', finding('mx')), event('DomainVerified', {})];
  expect(told(added, provisioned, ...verified, released)[4]).toBe(
    never.replace('it was never verified here', 'the ownership record of this team was gone'),
  );
  const sendOnly = event('DomainAdded', { name: 'mail.acme.com', team: 'team_a', deadline: at, mode: 'send_only' });
  const upgraded = event('ReceivingEnabled', {});
  expect(told(sendOnly, provisioned, upgraded, released).slice(2)).toEqual([
    'mail.acme.com is to receive mail too; it is pending until its MX record is in place.',
    never,
  ]);
  expect(told(sendOnly, provisioned, ...verified, upgraded, released)[5]).toBe(
    never.replace('it was never verified here', 'the ownership record of this team was gone'),
  );
  const won = { name: 'mail.acme.com', team: 'team_b', deadline: at, claim: 'claim_1' };
  expect(told(event('DomainAdded', { ...won, replaces: 'mdom_2' }))).toEqual([
    'mail.acme.com was added by a claim: your team has proved that the name is its own, which another team had without proof.',
  ]);
  expect(told(event('DomainAdded', { ...won, mode: 'send_only' }))).toEqual([
    'mail.acme.com was added to send mail only by a claim: your team has proved that the name is its own.',
  ]);
});

it.each([
  ['key_1', 'key', 'The API key key_1'],
  ['slnk_1', 'key', 'The setup link slnk_1'],
  ['provisioning', 'process', 'Sendmux, provisioning'],
  ['verification-scheduler', 'process', 'Sendmux, the verification cycle'],
  ['notifier', 'process', 'Sendmux, the notifier'],
  ['operator', 'process', 'Sendmux, an operator'],
  ['claims', 'process', 'Sendmux, for the claim of another team'],
  ['gateway', 'process', 'Sendmux, the process gateway'],
])('tells who %s is', (actor, type, words) => expect(actorOf(actor)).toEqual({ type, id: actor, words }));

it('tells of a move to another shard of SES', () => {
  const [from, to] = ['default', 'us-1'];
  const requested = event('IdentityMoveRequested', { from, to });
  const prepared = event('IdentityMovePrepared', { ...ses, sesRegion: 'us-east-1' });
  const moved = (mailFromChanged: boolean) => event('IdentityMoved', { from, to, mailFromChanged });
  const failed = event('IdentityMoveFailed', { reason: 'An operator has cancelled it', recordsChanged: true });
  const life = [added, provisioned, requested, prepared, event('IdentityMoveCancelled', {}), failed];
  expect(told(...life, requested, prepared, moved(false))[8]).toBe(
    'Amazon SES has seen the new DKIM records of mail.acme.com, which sends with them from now on.',
  );
  expect(told(...life, requested, prepared, moved(true), event('IdentityMoveCompleted', {})).slice(2)).toEqual([
    'mail.acme.com is to move to another account or Region of Amazon SES, and goes on to send meanwhile.',
    'Amazon SES (us-east-1) has mail.acme.com a second time now, with other DKIM records, which have to be placed beside those that are there.',
    'An operator has cancelled the move of mail.acme.com, which stays where it is.',
    'mail.acme.com was not moved, and its DKIM records are those from before: An operator has cancelled it.',
    'mail.acme.com is to move to another account or Region of Amazon SES, and goes on to send meanwhile.',
    'Amazon SES (us-east-1) has mail.acme.com a second time now, with other DKIM records, which have to be placed beside those that are there.',
    'Amazon SES has seen the new DKIM records of mail.acme.com, which sends with them from now on; the MX record of its MAIL FROM domain has to be changed.',
    'Amazon SES no longer has mail.acme.com where it was before, and the DKIM records from before may be removed.',
  ]);
});
