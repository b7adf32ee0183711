import type { Finding } from '@app/mail-records';
import { functionsIn, itIsLinear, ofText, textOf, textsOf, type Reader } from '../../test/support/bounded-time';
import { AddDomain, RecordCheck } from './commands';
import type { DomainEvent } from './events';
import { actorOf, sentenceOf } from './history';
import { decide, evolve, initialState, isLive, type MailDomain } from './mail-domain';
import { withoutWordsOfOthers } from './provisioning-failure';
import { domainEvent } from './recorded';

const at = '2026-03-01T10:00:00.000Z';
const context = { at, actor: 'key_1', correlationId: 'req_1' };
const stamp = { domainId: 'mdom_1', at };
const named = { name: 'mail.acme.com', team: 'team_1', deadline: at };
const live = [
  { ...stamp, type: 'DomainAdded', data: named },
  {
    ...stamp,
    type: 'DomainProvisioned',
    data: { dkimTokens: ['a', 'b', 'c'], dkimZone: 'x', sesRegion: 'x', sesDkimStatus: 'pending' },
  },
] as DomainEvent[];
const pending = live.reduce(evolve, initialState);

/** What a look has found, with the text in it whole and in parts. */
interface Look {
  readonly state: MailDomain;
  readonly findings: readonly Finding[];
}

const ofLook =
  (read: (look: Look) => unknown): Reader =>
  (text, length) => {
    const finding = (message: string, observed: readonly string[]): Finding => ({
      check: message,
      outcome: 'fail',
      code: message,
      message,
      name: 'mail.acme.com',
      type: 'TXT',
      expected: 'x',
      observed,
    });
    const findings = [finding(textOf(text, length), []), finding('x', textsOf(text, length))];
    const checked = { trigger: 'requested', cycle: null, findings, sesDkimStatus: 'pending' };
    const state = evolve(pending, { ...stamp, type: 'DnsChecked', data: checked } as DomainEvent);
    // The text of the first finding is there three times.
    return { octets: 4 * length, run: () => read({ state, findings }) };
  };
const failure = (reason: string) => ({ step: 'ses', kind: 'refused', reason }) as const;

const readers: Record<string, Reader> = {
  actorOf: ofText(actorOf),
  decide: ofLook(({ state, findings }) => [
    decide(new AddDomain('mdom_1', named, context), initialState),
    decide(
      new RecordCheck('mdom_1', { findings, sesDkimStatus: 'pending', trigger: 'requested', cycle: null }, context),
      state,
    ),
  ]),
  domainEvent: ofText((text) => {
    const recorded = { stream: 'mdom_1', schemaVersion: 1, time: at };
    return [
      domainEvent({ ...recorded, type: 'DomainAdded', data: { ...named, name: text } }),
      domainEvent({ ...recorded, type: 'ProvisioningFailed', data: failure(text) }),
    ];
  }),
  evolve: ofLook(({ state, findings }) =>
    evolve(state, {
      ...stamp,
      type: 'DnsChecked',
      data: { trigger: 'scheduled', cycle: 1, findings, sesDkimStatus: 'pending' },
    }),
  ),
  isLive: ofLook(({ state }) => isLive(state)),
  sentenceOf: ofLook(({ state, findings }) => [
    sentenceOf({ ...stamp, type: 'VerificationLapsed', data: { failing: findings, strikes: 1 } }, state),
    sentenceOf({ ...stamp, type: 'ProvisioningFailed', data: failure(findings[0]!.message) }, state),
  ]),
  withoutWordsOfOthers: ofText((text) => withoutWordsOfOthers(failure(text))),
};

/** They read words of ours, and times. */
const others = [
  'detectionBegunAt',
  'identityFault',
  'isRepairDue',
  'leavesDkim',
  'otherShardOf',
  'provisioningFailure',
];

describe('the life of a domain is read in time linear in the length of what others wrote', () => {
  it('by every function that there is', () =>
    expect([...Object.keys(readers), ...others].sort()).toEqual(functionsIn(__dirname)));

  itIsLinear(readers, 17, 40);
});
