/** Describes the events of a domain in sentences for its history, each with the state before the event. */
import type { DomainEvent, Notice, ProvisioningFailed, Trigger } from './events';
import { checkNamed, failing, type Finding } from '@app/mail-records';
import type { MailDomain } from './mail-domain';

/** Who caused an event. */
export interface Actor {
  /** `key` is whoever acts for the team: an API key, or a setup link of it. */
  readonly type: 'key' | 'process';
  /** `key_…`, `slnk_…`, or the name of the app. */
  readonly id: string;
  /** Names the actor for people, in Australian English. */
  readonly words: string;
}

/** The actor of what the claim of another team does to a domain: it is not told whose claim it was. */
export const claimsActor = 'claims';

/** @param actor as `CommandContext` has it. */
export function actorOf(actor: string): Actor {
  if (actor.startsWith('key_')) return { type: 'key', id: actor, words: `The API key ${actor}` };
  if (actor.startsWith('slnk_')) return { type: 'key', id: actor, words: `The setup link ${actor}` };
  if (actor === claimsActor) return { type: 'process', id: actor, words: 'Sendmux, for the claim of another team' };
  const app = {
    provisioning: 'provisioning',
    'verification-scheduler': 'the verification cycle',
    notifier: 'the notifier',
    operator: 'an operator',
  }[actor];
  return { type: 'process', id: actor, words: `Sendmux, ${app ?? `the process ${actor}`}` };
}

/** The facts about the domain before the event. */
interface Met {
  readonly name: string;
  readonly wasVerified: boolean;
  readonly wasEverVerified: boolean;
  /** Whether its name is another team's. */
  readonly isReleased: boolean;
}

type Sentences = { [E in DomainEvent as E['type']]: (data: E['data'], met: Met) => string };

const sentences: Sentences = {
  DomainAdded: ({ name, mode, claim, replaces }) => {
    const purpose = mode === 'send_only' ? ' to send mail only' : '';
    if (claim === undefined) return `${name} was added${purpose}, and its name reserved.`;
    const from = replaces === undefined ? '' : ', which another team had without proof';
    return `${name} was added${purpose} by a claim: your team has proved that the name is its own${from}.`;
  },
  DomainProvisioned: ({ sesRegion }, { name }) =>
    `The mail server and Amazon SES (${sesRegion}) have ${name} now; it is pending until its DNS records are in place.`,
  ProvisioningFailed: (failure, { name }) => `${refusal(failure, name)} What was done of it is being taken back.`,
  ProvisioningRolledBack: (_, { name }) =>
    `Nothing of ${name} is left in the mail server or Amazon SES, and the name is free.`,
  DnsChecked: ({ trigger, findings }, { name }) => {
    const broken = failing(findings);
    const open = findings.filter(({ outcome }) => outcome === 'indeterminate');
    if (broken.length + open.length === 0) return `${check(trigger)} found all records of ${name} in place.`;
    const said = [
      ...(broken.length > 0 ? [`found ${faults(broken)}`] : []),
      ...(open.length > 0 ? [`could not decide on ${list(open.map(undecided))}`] : []),
    ];
    return `${check(trigger)} of ${name} ${said.join(', and ')}.`;
  },
  DomainVerified: (_, { name, wasVerified }) =>
    `All required checks of ${name} pass, and it is verified${wasVerified ? ' again' : ''}.`,
  VerificationLapsed: ({ failing, strikes }, { name }) =>
    `${check(strikes === 1 ? 'scheduled' : 'requested')} found ${faults(failing)}; ${name} is pending again.`,
  VerificationFailed: ({ failing, episode }, { name }) =>
    `${check('scheduled')} still found ${faults(failing)}; ${name} has failed${episode === 1 ? '' : `, ${episode} times now`}, and the owners of its team are to be told.`,
  IdentityRepairRequested: ({ fault }, { name }) =>
    identityFaults.get(fault)?.(name) ??
    `Amazon SES was found not to have ${name} as it should (${fault}), and that is to be mended.`,
  IdentityRepaired: ({ recordsChanged }, { name }) =>
    `Amazon SES has ${name} as it should again${recordsChanged ? ', with other DKIM records, which have to be placed anew' : ''}.`,
  IdentityRepairFailed: ({ reason }, { name }) => `Amazon SES could not be given ${name} again: ${reason}`,
  IdentityMoveRequested: (_, { name }) =>
    `${name} is to move to another account or Region of Amazon SES, and goes on to send meanwhile.`,
  IdentityMovePrepared: ({ sesRegion }, { name }) =>
    `Amazon SES (${sesRegion}) has ${name} a second time now, with other DKIM records, which have to be placed beside those that are there.`,
  IdentityMoved: ({ mailFromChanged }, { name }) =>
    `Amazon SES has seen the new DKIM records of ${name}, which sends with them from now on${mailFromChanged ? '; the MX record of its MAIL FROM domain has to be changed' : ''}.`,
  IdentityMoveCompleted: (_, { name }) =>
    `Amazon SES no longer has ${name} where it was before, and the DKIM records from before may be removed.`,
  IdentityMoveCancelled: (_, { name }) => `An operator has cancelled the move of ${name}, which stays where it is.`,
  IdentityMoveFailed: ({ reason }, { name }) =>
    `${name} was not moved, and its DKIM records are those from before: ${reason}.`,
  DomainOutboundProviderChosen: ({ provider }, { name }) =>
    `${provider ?? 'Sendmux SES'} was chosen for what the mailboxes on ${name} send, but those with a choice of their own.`,
  ReceivingEnabled: (_, { name }) => `${name} is to receive mail too; it is pending until its MX record is in place.`,
  SenderFiltersChanged: ({ mode, rules }, { name }) =>
    `The mailboxes on ${name} ${filtering.get(mode) ?? 'filter senders in a way that this release does not know'}, by ${rules === 1 ? 'one rule' : `${rules} rules`}.`,
  OwnersTold: ({ about, owners }, { name }) =>
    `${owners === 1 ? 'The owner' : `${owners} owners`} of the team ${owners === 1 ? 'was' : 'were'} told by e-mail ${noticed.get(about)?.(name) ?? `about ${name} (${about})`}.`,
  ExpiryAnnounced: ({ expiresAt }, { name }) =>
    `${name} was never verified, and expires at ${expiresAt} unless it is verified before.`,
  DomainExpired: (_, { name }) => `${name} was not verified in time, and is being removed.`,
  DomainReleased: (_, { name, wasEverVerified }) =>
    `Another team has claimed ${name} and proved that the name is its own, while ${wasEverVerified ? 'the ownership record of this team was gone' : 'it was never verified here'}; ${name} is that team’s now, and is being removed here.`,
  DomainDeletionRequested: (_, { name }) => `The deletion of ${name} was asked for.`,
  DomainDeleted: (_, { name, isReleased }) =>
    isReleased
      ? `What this team had of ${name} is gone from the mail server and Amazon SES.`
      : `${name} is gone from the mail server and Amazon SES, and the name is free.`,
};

const filtering: ReadonlyMap<string, string> = new Map([
  ['off', 'take mail from every sender now'],
  ['allowlist', 'take mail only from the senders that are allowed now'],
  ['denylist', 'take mail from every sender now but those that are denied'],
]);

const identityFaults: ReadonlyMap<string, (name: string) => string> = new Map([
  ['missing', (name) => `Amazon SES was found without ${name}, and is to have it again.`],
  ['not_started', (name) => `Amazon SES was found not to look for the DKIM records of ${name}, and is to begin.`],
  ['gave_up', (name) => `Amazon SES was found to have given up on the DKIM records of ${name}, and is to look again.`],
  ['no_mail_from', (name) => `Amazon SES was asked to send the mail of ${name} with a MAIL FROM domain of its own.`],
  ['no_tenant', (name) => `Amazon SES was asked to count the mail of ${name} with that of its team alone.`],
]);

const notices: Record<Notice, (name: string) => string> = {
  failure: (name) => `that ${name} has failed`,
  recovery: (name) => `that ${name} is verified again`,
  new_records: (name) => `that ${name} has other DKIM records, which have to be placed anew`,
  expiry: (name) => `that ${name} expires unless it is verified`,
  ownership_gone: (name) => `that the ownership record of ${name} is gone, so that another team may claim the name`,
  released: (name) => `that another team has ${name} now`,
};
const noticed: ReadonlyMap<string, (name: string) => string> = new Map(Object.entries(notices));

/** The facts that sentences need of the events before theirs. */
export interface Facts {
  readonly name: string;
  /** The time of a success; null before the first. */
  readonly verifiedAt: string | null;
  /** Present once its name is another team's. */
  readonly status?: 'released' | undefined;
}
/** What a sentence needs of the state that its event was decided on. */
export type Before = MailDomain | Facts;

/** Describes an event in one or two sentences of Australian English, for people and not to be parsed. */
export function sentenceOf(event: DomainEvent, before: Before): string {
  const name = 'name' in before ? before.name : event.domainId;
  const wasVerified = 'verifiedAt' in before && before.verifiedAt !== null;
  // An upgrade to receiving takes back the time of the last success, and not that of the first.
  const wasEverVerified = wasVerified || ('firstVerifiedAt' in before && before.firstVerifiedAt !== undefined);
  const say = sentences[event.type] as (data: DomainEvent['data'], met: Met) => string;
  const isReleased = 'status' in before && before.status === 'released';
  return say(event.data, { name, wasVerified, wasEverVerified, isReleased });
}

function refusal({ kind, reason }: ProvisioningFailed['data'], name: string): string {
  const why = reason.replace(/(?<=[^.!?])$/, '.');
  return kind === 'deadline' ? `${name} was not provisioned in time: ${why}` : `${name} could not be added: ${why}`;
}

const check = (trigger: Trigger): string => `A ${trigger} check`;

/** Names the record of a check; for a check that only a newer release has, gives the name in the finding. */
const labelOf = (check: string): string => checkNamed(check)?.label ?? `the records of the check ${check}`;

const faults = (broken: readonly Finding[]): string =>
  list(
    broken.map(({ check, code }) => {
      const words = checkNamed(check)?.faults ?? {};
      return `${labelOf(check)} ${Object.hasOwn(words, code) ? words[code] : `wrong (${code})`}`;
    }),
  );

const undecided = ({ check, code }: Finding): string => `${labelOf(check)} (${code})`;

const list = (items: readonly string[]): string => new Intl.ListFormat('en-AU').format(items);
