/**
 * The life of a mail domain as a decider: `decide` turns a command and a state into events, `evolve` folds an event into
 * a state. Pure: no clock, no I/O, no ids of its own.
 */
import type { CompleteProvisioning, DomainCommand, RecordCheck } from './commands';
import { DomainRuleBroken } from './errors';
import type { DomainEvent, IdentityRepaired, Notice, ProvisioningFailed } from './events';
import { allPass, failing, sameAssessment, type Assessment, type SesDkimStatus } from './findings';

interface Named {
  readonly id: string;
  readonly name: string;
  readonly team: string;
  readonly addedAt: string;
}

/** What a domain has once it is provisioned, whatever its verification says. */
export interface Provisioned extends Named {
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
  readonly sesRegion: string;
  readonly sesDkimStatus: SesDkimStatus;
  /** Time of the last success; null until the first. */
  readonly verifiedAt: string | null;
  readonly lastAssessment: Assessment | null;
  /** When `lastAssessment` was recorded. */
  readonly checkedAt: string | null;
  /** The newest cycle that has judged this domain with effect. */
  readonly lastCycle: number | null;
  readonly episodes: number;
  /** SES does not have it as it should, and provisioning is at it. */
  readonly inRepair: boolean;
  /** What the mailboxes on it send through, but those that have chosen for themselves; null for Sendmux SES. */
  readonly outboundProvider: string | null;
  /** The newest notice of each kind that its owners were told of (`OwnersTold`); absent before the first. */
  readonly told?: Readonly<Partial<Record<Notice, number>>> | undefined;
}

export type MailDomain =
  | { readonly status: 'absent' }
  | (Named & { readonly status: 'provisioning'; readonly deadline: string })
  | (Named & { readonly status: 'rolling_back'; readonly failure: ProvisioningFailed['data'] })
  | (Named & { readonly status: 'rolled_back' })
  /** `lapsed`: it was verified before, so scheduled cycles count strikes against it. */
  | (Provisioned & { readonly status: 'pending'; readonly lapsed: boolean; readonly strikes: number })
  | (Provisioned & { readonly status: 'verified' })
  | (Provisioned & { readonly status: 'failed' })
  | (Provisioned & { readonly status: 'deleting' })
  | (Named & { readonly status: 'deleted' });

/** A domain that customers can see and verify. */
export type LiveDomain = Extract<MailDomain, { status: 'pending' | 'verified' | 'failed' }>;

export const initialState: MailDomain = { status: 'absent' };

/** The second strike in a row, in consecutive cycles that could decide, is a failure. */
const strikesToFail = 2;

export const isLive = (state: MailDomain): state is LiveDomain =>
  state.status === 'pending' || state.status === 'verified' || state.status === 'failed';

/**
 * Decides what a command changes. A command that changes nothing gives no event, so that a redelivery is harmless.
 *
 * @throws {DomainRuleBroken} when the command breaks a rule; nothing has changed then.
 */
export function decide(command: DomainCommand, state: MailDomain): DomainEvent[] {
  const event = <Type extends DomainEvent['type']>(type: Type, data: Extract<DomainEvent, { type: Type }>['data']) =>
    ({ type, domainId: command.domainId, at: command.context.at, data }) as DomainEvent;

  switch (command.type) {
    case 'AddDomain':
      return state.status === 'absent' ? [event('DomainAdded', command.data)] : [];

    case 'CompleteProvisioning':
      return state.status === 'provisioning' ? [event('DomainProvisioned', command.data)] : [];

    case 'FailProvisioning':
      return state.status === 'provisioning' ? [event('ProvisioningFailed', command.data)] : [];

    case 'CompleteRollback':
      return state.status === 'rolling_back' ? [event('ProvisioningRolledBack', {})] : [];

    case 'RecordCheck':
      return decideCheck(command, state);

    case 'RequestIdentityRepair':
      return isLive(state) && !state.inRepair ? [event('IdentityRepairRequested', command.data)] : [];

    case 'CompleteIdentityRepair':
      return isLive(state) && state.inRepair ? [event('IdentityRepaired', repaired(command.data, state))] : [];

    case 'ChooseDomainOutboundProvider': {
      const { provider } = command.data;
      if (isLive(state))
        return provider === state.outboundProvider ? [] : [event('DomainOutboundProviderChosen', { provider })];
      if (state.status === 'deleting')
        throw new DomainRuleBroken('conflict', `${state.name} is being deleted, and sends no more.`);
      throw new DomainRuleBroken('not_found', `There is no domain ${command.domainId}.`);
    }

    case 'RecordOwnersTold': {
      const { about, notice } = command.data;
      if (!isLive(state) && state.status !== 'deleting') return [];
      return notice > (state.told?.[about] ?? 0) ? [event('OwnersTold', command.data)] : [];
    }

    case 'RequestDeletion':
      if (isLive(state)) return [event('DomainDeletionRequested', {})];
      if (state.status === 'deleting') return [];
      throw new DomainRuleBroken('not_found', `There is no domain ${command.domainId}.`);

    case 'CompleteDeletion':
      return state.status === 'deleting' ? [event('DomainDeleted', {})] : [];
  }
}

function decideCheck({ domainId, data, context }: RecordCheck, state: MailDomain): DomainEvent[] {
  if (!isLive(state)) {
    if (data.trigger === 'scheduled') return [];
    if (state.status !== 'deleting') throw new DomainRuleBroken('not_found', `There is no domain ${domainId}.`);
    throw new DomainRuleBroken('conflict', `${state.name} is being deleted and can no longer be verified.`);
  }
  const { trigger, cycle, findings, sesDkimStatus, dnssec } = data;
  const scheduled = trigger === 'scheduled';
  if (scheduled && (state.status === 'failed' || (cycle ?? 0) <= (state.lastCycle ?? -1))) return [];

  if (scheduled && data.lookedAt && state.checkedAt && data.lookedAt < state.checkedAt) return [];

  const stamp = { domainId, at: context.at };
  const seen = { trigger, cycle, findings, sesDkimStatus, ...(dnssec && { dnssec }) };
  const checked: DomainEvent = { ...stamp, type: 'DnsChecked', data: seen };
  const broken = failing(findings);
  const transition: DomainEvent[] = [];
  if (allPass(findings)) {
    if (state.status !== 'verified') transition.push({ ...stamp, type: 'DomainVerified', data: {} });
  } else if (broken.length > 0 && state.status === 'verified') {
    transition.push({
      ...stamp,
      type: 'VerificationLapsed',
      data: { failing: broken, strikes: scheduled ? 1 : 0 },
    });
  } else if (scheduled && strikesAfter(state, broken.length > 0) >= strikesToFail) {
    const episode = state.episodes + 1;
    transition.push({ ...stamp, type: 'VerificationFailed', data: { failing: broken, episode } });
  }

  const struck = scheduled && state.status === 'pending' && strikesAfter(state, broken.length > 0) > state.strikes;
  const news = !state.lastAssessment || !sameAssessment(state.lastAssessment, { findings, sesDkimStatus });
  return !scheduled || news || struck || transition.length > 0 ? [checked, ...transition] : [];
}

function repaired(data: CompleteProvisioning['data'], state: LiveDomain): IdentityRepaired['data'] {
  const records = ({ dkimTokens, dkimZone }: Pick<Provisioned, 'dkimTokens' | 'dkimZone'>) =>
    [...[...dkimTokens].sort(), dkimZone].join(' ');
  return { ...data, recordsChanged: records(data) !== records(state) };
}

/** Only a domain that has been verified before is struck: one that never was stays pending, silently. */
function strikesAfter(state: LiveDomain, broken: boolean): number {
  if (state.status === 'verified') return broken ? 1 : 0;
  if (state.status === 'pending' && state.lapsed) return state.strikes + (broken ? 1 : 0);
  return 0;
}

/**
 * Folds one event into the state.
 *
 * @throws {Error} on an event that it does not know or that cannot follow the state: a stream it cannot read whole must
 * not be decided upon.
 */
export function evolve(state: MailDomain, event: DomainEvent): MailDomain {
  switch (event.type) {
    case 'DomainAdded': {
      const { name, team, deadline } = event.data;
      return { status: 'provisioning', id: event.domainId, name, team, addedAt: event.at, deadline };
    }
    case 'DomainProvisioned':
      return changed(changed(named(expectStatus(state, event, 'provisioning')), event.data), {
        status: 'pending',
        lapsed: false,
        strikes: 0,
        verifiedAt: null,
        lastAssessment: null,
        checkedAt: null,
        lastCycle: null,
        episodes: 0,
        inRepair: false,
        outboundProvider: null,
      });
    case 'ProvisioningFailed': {
      const failed = named(expectStatus(state, event, 'provisioning'));
      return changed(failed, { status: 'rolling_back', failure: event.data });
    }
    case 'ProvisioningRolledBack':
      return changed(named(expectStatus(state, event, 'rolling_back')), { status: 'rolled_back' });
    case 'DnsChecked': {
      const live = expectStatus(state, event, 'pending', 'verified', 'failed');
      const { trigger, cycle, findings, sesDkimStatus } = event.data;
      const seen = changed(live, {
        lastAssessment: { findings, sesDkimStatus },
        checkedAt: event.at,
        sesDkimStatus: sesDkimStatus ?? live.sesDkimStatus,
        lastCycle: cycle ?? live.lastCycle,
      });
      if (seen.status !== 'pending' || trigger !== 'scheduled') return seen;
      return changed(seen, { strikes: strikesAfter(live, failing(findings).length > 0) });
    }
    case 'DomainVerified': {
      const verified = provisioned(expectStatus(state, event, 'pending', 'failed'));
      return changed(verified, { status: 'verified', verifiedAt: event.at });
    }
    case 'VerificationLapsed': {
      const lapsed = provisioned(expectStatus(state, event, 'verified'));
      return changed(lapsed, { status: 'pending', lapsed: true, strikes: event.data.strikes });
    }
    case 'VerificationFailed': {
      const failed = provisioned(expectStatus(state, event, 'pending'));
      return changed(failed, { status: 'failed', episodes: event.data.episode });
    }
    case 'IdentityRepairRequested':
      return changed(expectStatus(state, event, 'pending', 'verified', 'failed'), { inRepair: true });
    case 'IdentityRepaired': {
      const { dkimTokens, dkimZone, sesRegion, sesDkimStatus } = event.data;
      const live = expectStatus(state, event, 'pending', 'verified', 'failed');
      return changed(live, { dkimTokens, dkimZone, sesRegion, sesDkimStatus, inRepair: false });
    }
    case 'DomainOutboundProviderChosen': {
      const live = expectStatus(state, event, 'pending', 'verified', 'failed');
      return changed(live, { outboundProvider: event.data.provider });
    }
    case 'OwnersTold': {
      const live = expectStatus(state, event, 'pending', 'verified', 'failed', 'deleting');
      const { about, notice } = event.data;
      return changed(live, { told: { ...live.told, [about]: notice } });
    }
    case 'DomainDeletionRequested': {
      const live = provisioned(expectStatus(state, event, 'pending', 'verified', 'failed'));
      return changed(live, { status: 'deleting' });
    }
    case 'DomainDeleted':
      return changed(named(expectStatus(state, event, 'deleting')), { status: 'deleted' });
    default:
      throw new Error(`Unknown event ${(event as { type: string }).type}: this build is older than the stream.`);
  }
}

function expectStatus<Status extends MailDomain['status']>(
  state: MailDomain,
  event: DomainEvent,
  ...statuses: Status[]
): Extract<MailDomain, { status: Status }> {
  if ((statuses as string[]).includes(state.status)) return state as Extract<MailDomain, { status: Status }>;
  throw new Error(`${event.type} cannot follow the status ${state.status} in stream ${event.domainId}.`);
}

/**
 * What `{ ...state, ...values }` says. V8 takes up to 20 µs for a literal that has names behind a spread, and a fraction of one for
 * this: it counts where a whole log is folded.
 */
const changed = <State extends object, const Values extends object>(state: State, values: Values) =>
  Object.assign({ ...state }, values) as unknown as Changed<State, Values>;
/** Of each kind of state by itself. */
type Changed<State, Values> = State extends unknown ? Omit<State, keyof Values> & Values : never;

const named = ({ id, name, team, addedAt }: Named): Named => ({ id, name, team, addedAt });

const provisioned = (state: Provisioned): Provisioned => ({
  id: state.id,
  name: state.name,
  team: state.team,
  addedAt: state.addedAt,
  dkimTokens: state.dkimTokens,
  dkimZone: state.dkimZone,
  sesRegion: state.sesRegion,
  sesDkimStatus: state.sesDkimStatus,
  verifiedAt: state.verifiedAt,
  lastAssessment: state.lastAssessment,
  checkedAt: state.checkedAt,
  lastCycle: state.lastCycle,
  episodes: state.episodes,
  inRepair: state.inRepair,
  outboundProvider: state.outboundProvider,
  told: state.told,
});
