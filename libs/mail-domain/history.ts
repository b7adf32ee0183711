/** What happened to a domain in sentences, for its history: each of one event, on the state that it met. */
import type { DomainEvent, Notice, ProvisioningFailed, Trigger } from './events';
import { failing, type CheckName, type Finding } from './findings';
import type { MailDomain } from './mail-domain';

/** Who an event is of. */
export interface Actor {
  readonly type: 'key' | 'process';
  /** `key_…`, or the name of the app. */
  readonly id: string;
  /** In Australian English. */
  readonly words: string;
}

/** @param actor as `CommandContext` has it. */
export function actorOf(actor: string): Actor {
  if (actor.startsWith('key_')) return { type: 'key', id: actor, words: `The API key ${actor}` };
  const app = {
    provisioning: 'provisioning',
    'verification-scheduler': 'the verification cycle',
    notifier: 'the notifier',
  }[actor];
  return { type: 'process', id: actor, words: `Sendmux, ${app ?? `the process ${actor}`}` };
}

/** What was known of the domain when the event came. */
interface Met {
  readonly name: string;
  readonly wasVerified: boolean;
}

type Sentences = { [E in DomainEvent as E['type']]: (data: E['data'], met: Met) => string };

const sentences: Sentences = {
  DomainAdded: ({ name }) => `${name} was added, and its name reserved.`,
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
    `All checks of ${name} pass, and it is verified${wasVerified ? ' again' : ''}.`,
  VerificationLapsed: ({ failing, strikes }, { name }) =>
    `${check(strikes === 1 ? 'scheduled' : 'requested')} found ${faults(failing)}; ${name} is pending again.`,
  VerificationFailed: ({ failing, episode }, { name }) =>
    `${check('scheduled')} still found ${faults(failing)}; ${name} has failed${episode === 1 ? '' : `, ${episode} times now`}, and the owners of its team are to be told.`,
  IdentityRepairRequested: ({ fault }, { name }) =>
    fault === 'missing'
      ? `Amazon SES was found without ${name}, and is to have it again.`
      : `Amazon SES was found not to look for the DKIM records of ${name}, and is to begin.`,
  IdentityRepaired: ({ recordsChanged }, { name }) =>
    `Amazon SES has ${name} as it should again${recordsChanged ? ', with other DKIM records, which have to be placed anew' : ''}.`,
  DomainOutboundProviderChosen: ({ provider }, { name }) =>
    `${provider ?? 'Sendmux SES'} was chosen for what the mailboxes on ${name} send, but those with a choice of their own.`,
  OwnersTold: ({ about, owners }, { name }) =>
    `${owners === 1 ? 'The owner' : `${owners} owners`} of the team ${owners === 1 ? 'was' : 'were'} told by e-mail that ${noticed[about](name)}.`,
  DomainDeletionRequested: (_, { name }) => `The deletion of ${name} was asked for.`,
  DomainDeleted: (_, { name }) => `${name} is gone from the mail server and Amazon SES, and the name is free.`,
};

const noticed: Record<Notice, (name: string) => string> = {
  failure: (name) => `${name} has failed`,
  recovery: (name) => `${name} is verified again`,
  new_records: (name) => `${name} has other DKIM records, which have to be placed anew`,
};

/**
 * One or two sentences in Australian English, with the customer's own names, for people and not to be parsed.
 *
 * @param before the state that the event was decided on.
 */
export function sentenceOf(event: DomainEvent, before: MailDomain): string {
  const name = event.type === 'DomainAdded' ? event.data.name : 'name' in before ? before.name : event.domainId;
  const wasVerified = 'verifiedAt' in before && before.verifiedAt !== null;
  const say = sentences[event.type] as (data: DomainEvent['data'], met: Met) => string;
  return say(event.data, { name, wasVerified });
}

const parts = { mail_server: 'The mail server', ses: 'Amazon SES' } as const;

function refusal({ step, kind, reason }: ProvisioningFailed['data'], name: string): string {
  const why = reason.replace(/(?<=[^.!?])$/, '.');
  switch (kind) {
    case 'refused':
      return `${parts[step]} refused ${name}: ${why}`;
    case 'foreign':
      return `${name} could not be added: ${why}`;
    case 'deadline':
      return `${name} was not provisioned in time: ${why}`;
  }
}

const check = (trigger: Trigger): string => `A ${trigger} check`;

const records: Record<CheckName, string> = {
  mx: 'the MX record',
  verification_txt: 'the verification TXT record',
  spf: 'the SPF record',
  dmarc: 'the DMARC record',
  dkim: 'the DKIM records',
};

/** The code says finely what is wrong; these, a word says as well. */
const missing = new Set(['mx_missing', 'txt_missing', 'txt_missing_nodata', 'spf_missing', 'dmarc_missing']);

const faults = (broken: readonly Finding[]): string =>
  list(
    broken.map(({ check, code }) => {
      if (missing.has(code)) return `${records[check]} missing`;
      if (code === 'dkim_pending') return `${records[check]} not seen by Amazon SES yet`;
      return `${records[check]} wrong (${code})`;
    }),
  );

const undecided = ({ check, code }: Finding): string => `${records[check]} (${code})`;

const list = (items: readonly string[]): string => new Intl.ListFormat('en-AU').format(items);
