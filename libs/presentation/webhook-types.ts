/** Says which events customers are told of by webhooks, and as what. Pure. */
import type { DomainEvent } from '@app/mail-domain';
import type { MailboxEvent } from '@app/mailbox';
import type { WebhookType } from '@app/webhooks';

type ModelEvent = DomainEvent | MailboxEvent;
type Telling<E extends ModelEvent> = (data: E['data'], statusBefore: string | undefined) => WebhookType | undefined;

const always = (type: WebhookType) => () => type;

const tellings: { [E in ModelEvent as E['type']]?: Telling<E> } = {
  DomainProvisioned: always('domain.created'),
  DomainVerified: (_, statusBefore) => (statusBefore === 'failed' ? 'domain.recovered' : 'domain.verified'),
  VerificationLapsed: always('domain.lapsed'),
  VerificationFailed: always('domain.failed'),
  IdentityRepaired: ({ recordsChanged }) => (recordsChanged ? 'domain.records_changed' : undefined),
  IdentityMovePrepared: always('domain.records_changed'),
  IdentityMoved: always('domain.records_changed'),
  IdentityMoveFailed: ({ recordsChanged }) => (recordsChanged ? 'domain.records_changed' : undefined),
  ReceivingEnabled: always('domain.records_changed'),
  DomainDeleted: always('domain.deleted'),
  MailboxCreated: always('mailbox.created'),
  // A mailbox whose domain goes to another team may be suspended already.
  MailboxSuspended: (_, statusBefore) => (statusBefore === 'suspended' ? undefined : 'mailbox.suspended'),
  MailboxResumed: always('mailbox.resumed'),
  MailboxDeleted: always('mailbox.deleted'),
};

/** The types of the events of which some, or all, are told to customers. */
export const announcedEvents = Object.keys(tellings) as readonly ModelEvent['type'][];

/** The types of events whose type as a message depends on the status before. */
export const dependsOnStatus: ReadonlySet<string> = new Set<ModelEvent['type']>(['DomainVerified', 'MailboxSuspended']);

/** The status after an event, by the events that may set it while a domain or a mailbox lives. */
export const statusAfter: Readonly<Record<string, string>> = {
  DomainProvisioned: 'pending',
  DomainVerified: 'verified',
  VerificationLapsed: 'pending',
  VerificationFailed: 'failed',
  ReceivingEnabled: 'pending',
  MailboxCreated: 'active',
  MailboxSuspended: 'suspended',
  MailboxResumed: 'active',
} satisfies { [Type in ModelEvent['type']]?: string };

/**
 * Gives the type of the message that tells of an event; undefined where none does, since the event is of no concern to
 * customers or changes nothing that they see.
 *
 * @param statusBefore of the domain or the mailbox; needed for the types of `dependsOnStatus` alone.
 */
export const webhookTypeOf = (
  { type, data }: { readonly type: string; readonly data: unknown },
  statusBefore: string | undefined,
): WebhookType | undefined =>
  Object.hasOwn(tellings, type)
    ? (tellings[type as ModelEvent['type']] as Telling<ModelEvent>)(data as ModelEvent['data'], statusBefore)
    : undefined;
