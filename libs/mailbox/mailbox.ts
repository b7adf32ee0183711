/**
 * The life of a mailbox as a decider, like that of a domain: pure, without a clock, I/O, or ids of its own.
 *
 * Two rules span streams, and the store ensures them as well, under its locks: an address belongs to one mailbox, and a
 * mailbox is created on a domain that is verified at that moment and belongs to its team.
 */
import { sharedDomain, suffixOf } from './address';
import type { CreateMailbox, Home, MailboxCommand } from './commands';
import { MailboxRuleBroken } from './errors';
import type { MailboxEvent } from './personal-data';

/** The provider that a mailbox uses when neither it nor its domain has chosen one, and always on the shared domain. */
export const sendmuxSes = 'sendmux-ses';

export interface Created {
  readonly id: string;
  /** Null once it is erased. */
  readonly address: string | null;
  readonly team: string;
  /** Null on the shared domain. */
  readonly domainId: string | null;
  /** The mailbox's own choice; null leaves it to the domain. */
  readonly provider: string | null;
  /** Null for none. */
  readonly displayName: string | null;
  readonly createdAt: string;
  /** Present once its domain has gone to another team: it stays suspended. */
  readonly isReleased?: true | undefined;
  /** Present once an operator has erased what was personal. */
  readonly isErased?: true | undefined;
}

export type Mailbox =
  | { readonly status: 'absent' }
  | (Created & { readonly status: 'active' })
  | (Created & { readonly status: 'suspended' })
  | (Created & {
      readonly status: 'deleted';
      /** ISO 8601, UTC. */
      readonly deletedAt: string;
    });

/** The types of the events after which a mailbox gets no other event. */
export const finalMailboxEvents: readonly MailboxEvent['type'][] = ['MailboxErased'];

export const noMailbox: Mailbox = { status: 'absent' };

/**
 * Decides what a command changes. A command that changes nothing gives no event, so that delivering it again is
 * harmless.
 *
 * @throws {MailboxRuleBroken} when the command breaks a rule; nothing has changed then.
 */
export function decideMailbox(command: MailboxCommand, state: Mailbox): MailboxEvent[] {
  const event = <Type extends MailboxEvent['type']>(type: Type, data: Extract<MailboxEvent, { type: Type }>['data']) =>
    ({ type, mailboxId: command.mailboxId, at: command.context.at, data }) as MailboxEvent;

  if (command.type === 'CreateMailbox') {
    if (state.status !== 'absent') return [];
    const { address, team, provider, displayName = null } = command.data;
    const domainId = homeOf(command)?.domainId ?? null;
    const chosen = provider === null ? [] : [event('OutboundProviderChosen', { provider })];
    const named = displayName === null ? [] : [event('DisplayNameChanged', { displayName })];
    return [event('MailboxCreated', { address, team, domainId }), ...chosen, ...named];
  }

  if (command.type === 'EraseMailbox' && state.status !== 'absent') {
    if (state.status !== 'deleted')
      throw new MailboxRuleBroken(
        'conflict',
        `${command.mailboxId} is ${state.status}: delete it before it is erased.`,
      );
    return state.isErased ? [] : [event('MailboxErased', {})];
  }
  if (state.status === 'absent' || state.status === 'deleted' || command.type === 'EraseMailbox')
    throw new MailboxRuleBroken('not_found', `There is no mailbox ${command.mailboxId}.`);
  switch (command.type) {
    case 'SuspendMailbox':
      if (command.data.reason) return state.isReleased ? [] : [event('MailboxSuspended', command.data)];
      return state.status === 'active' ? [event('MailboxSuspended', {})] : [];
    case 'ResumeMailbox':
      if (state.isReleased)
        throw new MailboxRuleBroken(
          'conflict',
          `The domain of ${state.address} has gone to another team, so it stays suspended. Delete it when you no longer need it.`,
        );
      return state.status === 'suspended' ? [event('MailboxResumed', {})] : [];
    case 'DeleteMailbox':
      return [event('MailboxDeleted', {})];
    case 'UpdateMailbox': {
      const { provider = state.provider, displayName = state.displayName } = command.data;
      if (provider !== state.provider && state.domainId === null) throw locked();
      return [
        ...(provider === state.provider ? [] : [event('OutboundProviderChosen', { provider })]),
        ...(displayName === state.displayName ? [] : [event('DisplayNameChanged', { displayName })]),
      ];
    }
  }
}

/** Shortens a local part so that a suffix fits: whole characters, 32 octets at most. */
function beginningOf(localPart: string): string {
  let beginning = '';
  for (const character of localPart) {
    if (Buffer.byteLength(beginning + character) > 32) break;
    beginning += character;
  }
  return beginning.replace(/\.$/, '');
}

/** Gives the domain on which a new mailbox is created; null is the shared domain. */
function homeOf({ data: { address, team, home, provider } }: CreateMailbox): Home | null {
  const at = address.lastIndexOf('@');
  const [localPart, domain] = [address.slice(0, at), address.slice(at + 1)];
  if (domain === sharedDomain) {
    const suffix = suffixOf(team);
    if (!localPart.endsWith(suffix) || localPart === suffix) {
      const wished = localPart === suffix || localPart.startsWith('"') ? 'agent' : beginningOf(localPart);
      throw new MailboxRuleBroken(
        'validation_error',
        `On ${sharedDomain} the part before the @ ends with your team's suffix. Send ${wished}${suffix}@${sharedDomain}.`,
        'address',
      );
    }
    if (provider !== null) throw locked();
    return null;
  }
  if (!home)
    throw new MailboxRuleBroken(
      'conflict',
      `Your team has no domain ${domain}. Add it with POST /domains, place its DNS records and verify it; then create the mailbox.`,
      'address',
    );
  if (home.status === 'send_only')
    throw new MailboxRuleBroken(
      'conflict',
      `${domain} only sends mail. Let it receive with PATCH /domains/${home.domainId} and the mode send_receive, place its MX record and verify it; then create the mailbox.`,
      'address',
    );
  if (home.status !== 'verified')
    throw new MailboxRuleBroken(
      'conflict',
      home.status === 'deleting'
        ? `${domain} is being deleted, so no mailbox can be created on it.`
        : `${domain} is ${home.status}, not verified. Place its DNS records and verify it with POST /domains/${home.domainId}/verify; then create the mailbox.`,
      'address',
    );
  return home;
}

const locked = () =>
  new MailboxRuleBroken(
    'conflict',
    `A mailbox on ${sharedDomain} sends through Sendmux SES and cannot switch. Use a custom domain to choose an outbound provider.`,
    'outbound_provider',
  );

/**
 * Folds one event into the state.
 *
 * @throws {Error} on an unknown event, or one that cannot follow the state.
 */
export function evolveMailbox(state: Mailbox, event: MailboxEvent): Mailbox {
  switch (event.type) {
    case 'MailboxCreated':
      if (state.status !== 'absent') break;
      return {
        ...event.data,
        status: 'active',
        id: event.mailboxId,
        provider: null,
        displayName: null,
        createdAt: event.at,
      };
    case 'MailboxSuspended':
      if (event.data.reason === 'domain_released' && (state.status === 'active' || state.status === 'suspended'))
        return { ...state, status: 'suspended', isReleased: true };
      if (state.status !== 'active') break;
      return { ...state, status: 'suspended' };
    case 'MailboxResumed':
      if (state.status !== 'suspended') break;
      return { ...state, status: 'active' };
    case 'MailboxDeleted':
      if (state.status !== 'active' && state.status !== 'suspended') break;
      return { ...state, status: 'deleted', deletedAt: event.at };
    case 'MailboxErased':
      if (state.status !== 'deleted') break;
      return { ...state, address: null, displayName: null, isErased: true };
    case 'OutboundProviderChosen':
      if (state.status !== 'active' && state.status !== 'suspended') break;
      return { ...state, provider: event.data.provider };
    case 'DisplayNameChanged':
      if (state.status !== 'active' && state.status !== 'suspended') break;
      return { ...state, displayName: event.data.displayName };
    default:
      throw new Error(`Unknown event ${(event as { type: string }).type}: this build is older than the stream.`);
  }
  throw new Error(`${event.type} cannot follow the status ${state.status} in stream ${event.mailboxId}.`);
}
