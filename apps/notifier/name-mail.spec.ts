import {
  AddDomain,
  AnnounceExpiry,
  CompleteDeletion,
  CompleteProvisioning,
  decide,
  evolve,
  initialState,
  RecordCheck,
  ReleaseDomain,
  RequestDeletion,
  type DomainCommand,
  type MailDomain,
} from '@app/mail-domain';
import { checkNames, ownership } from '@app/mail-records';
import { nameMail } from './name-mail';

const at = '2026-11-23T23:30:00.000Z';
const id = 'mdom_1';
const context = { at, actor: 'key_1', correlationId: 'req_1' };
const week = 7 * 86_400_000;
const identity = { dkimTokens: ['a', 'b', 'c'], dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' };
const look = (outcome: 'pass' | 'fail') =>
  new RecordCheck(
    id,
    {
      trigger: 'requested',
      cycle: null,
      sesDkimStatus: 'success',
      findings: checkNames.map((check) => ({
        check,
        outcome: check === ownership.name ? outcome : 'pass',
        code: outcome,
        message: '',
        name: 'x',
        type: 'TXT',
        expected: '',
        observed: [],
      })),
    },
    context,
  );
const after = (...commands: DomainCommand[]): MailDomain =>
  [
    new AddDomain(id, { name: 'mail.acme.com', team: 'team_a1', deadline: at }, context),
    new CompleteProvisioning(id, { ...identity, sesDkimStatus: 'pending' }, context),
    ...commands,
  ].reduce((state, command) => decide(command, state).reduce(evolve, state), initialState);
const announced = new AnnounceExpiry(id, { expiresAt: '2026-12-01T09:00:00.000Z' }, context);
const released = new ReleaseDomain(id, { claim: 'claim_1', ownership: 'absent', graceMs: 0 }, context);

it.each([
  ['expiry', after(announced), ['expires on 1 December 2026 at 09:00 UTC', 'never been verified', 'verify it before']],
  [
    'ownership_gone',
    after(look('pass'), look('fail')),
    [
      'sendmux-verify=team_a1 at _sendmux.mail.acme.com',
      'From 30 November 2026 at 23:30 UTC on another team may claim',
    ],
  ],
  ['released', after(released), ['On 23 November 2026 at 23:30 UTC another team claimed', 'mailboxes are suspended']],
  ['released', after(released, new CompleteDeletion(id, context)), ['another team claimed']],
] as const)('says what has become of the name: %s', (about, state, words) => {
  const mail = nameMail({ about, at }, state, week)!;
  expect([mail.name, mail.team]).toEqual(['mail.acme.com', 'team_a1']);
  expect(mail.written.subject).toContain('mail.acme.com');
  for (const part of [mail.written.text, mail.written.html])
    for (const said of [...words, 'because you are an owner']) expect(part).toContain(said);
});

it.each([
  ['expiry', after(announced, look('pass'))],
  ['expiry', after(announced, new RequestDeletion(id, context))],
  ['ownership_gone', after(look('pass'), look('fail'), look('pass'))],
  ['ownership_gone', after(look('pass'), look('fail'), new RequestDeletion(id, context))],
] as const)('says nothing that is true no more: %s', (about, state) => {
  expect(nameMail({ about, at }, state, week)).toBeUndefined();
});
