import { evolve, initialState, isLive, schemaVersions, type DomainEvent, type MailDomain } from '@app/mail-domain';
import { evolveMailbox, everyMailboxEvent, noMailbox, type Mailbox, type MailboxEvent } from '@app/mailbox';
import { statusAfter, webhookTypeOf } from './webhook-types';

/** Has the fields of each event. */
const data = {
  name: 'mail.acme.com',
  team: 'team_a',
  deadline: '',
  address: 'ada@acme.com',
  domainId: null,
  provider: null,
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'z',
  sesRegion: 'r',
  sesDkimStatus: 'pending',
  recordsChanged: true,
  trigger: 'requested',
  cycle: null,
  findings: [],
  failing: [],
  strikes: 0,
  episode: 1,
  fault: 'missing',
  mode: 'off',
  rules: 0,
  digest: '',
  about: 'expiry',
  notice: 1,
  expiresAt: '',
  displayName: null,
};
const at = '2026-04-15T10:30:00.000Z';
const domainEvent = (type: string) => ({ type, domainId: 'mdom_1', at, data }) as unknown as DomainEvent;
const mailboxEvent = (type: string) => ({ type, mailboxId: 'mbx_1', at, data }) as unknown as MailboxEvent;

/** Gives the state after an event; undefined where it cannot follow. */
function after<State>(evolved: () => State): State | undefined {
  try {
    return evolved();
  } catch {
    return undefined;
  }
}
const domainAfter = (...types: string[]) =>
  types.reduce((state: MailDomain, type) => evolve(state, domainEvent(type)), initialState);

it('knows the status of a domain after each event, as the model has it', () => {
  const made = ['DomainAdded', 'DomainProvisioned'];
  const failed = [...made, 'DomainVerified', 'VerificationLapsed', 'VerificationFailed'];
  const states = [domainAfter(...made), domainAfter(...made, 'DomainVerified'), domainAfter(...failed)];
  expect(states.map(({ status }) => status)).toEqual(['pending', 'verified', 'failed']);
  const followed = new Set<string>();
  for (const before of states)
    for (const type of Object.keys(schemaVersions)) {
      const state = after(() => evolve(before, domainEvent(type)));
      if (!state || !isLive(state)) continue;
      followed.add(type);
      expect([type, statusAfter[type] ?? before.status]).toEqual([type, state.status]);
    }
  expect([...followed]).toEqual(expect.arrayContaining(['ReceivingEnabled', 'VerificationLapsed', 'IdentityRepaired']));
});

it('knows the status of a mailbox after each event, as the model has it', () => {
  const created: Mailbox = evolveMailbox(noMailbox, mailboxEvent('MailboxCreated'));
  for (const before of [created, evolveMailbox(created, mailboxEvent('MailboxSuspended'))])
    for (const type of everyMailboxEvent) {
      const state = after(() => evolveMailbox(before, mailboxEvent(type)));
      if (!state || state.status === 'deleted') continue;
      expect([type, statusAfter[type] ?? before.status]).toEqual([type, state.status]);
    }
});

it.each([
  ['failed', 'domain.recovered'],
  ['pending', 'domain.verified'],
])('a domain that was %s is told as %s', (before, type) => {
  expect(webhookTypeOf(domainEvent('DomainVerified'), before)).toBe(type);
});
