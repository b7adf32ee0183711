/**
 * The events of a mailbox as they are stored and sent: names and fields are only ever added to, and a change of meaning
 * is a new schema version with an upcaster. The address and the display name are all that they say of a person. Both
 * are encrypted here, under a key of the mailbox that is kept outside the log; models read them decrypted, as
 * `MailboxEvent`.
 *
 * What is written here reaches subscribers: `npm run events:schemas` makes docs/events of these types and comments.
 */
interface Event<Type extends string, Data> {
  readonly type: Type;
  /** `mbx_…`, also the name of the stream. */
  readonly mailboxId: string;
  /** ISO 8601, UTC, milliseconds: the time the command was decided. */
  readonly at: string;
  readonly data: Data;
}

/** A customer made a mailbox. It takes mail as soon as the mail server has read of it. */
export type MailboxCreated = Event<
  'MailboxCreated',
  {
    /**
     * The address, encrypted. It never changes, and no later event repeats it. `GET /mailboxes/{id}` has it in clear,
     * for as long as it is there.
     */
    readonly sealed: string;
    /** `team_…`: the team whose mailbox it is. It never changes. */
    readonly team: string;
    /** `mdom_…`: the custom domain that it lives on; null on the shared domain. It never changes. */
    readonly domainId: string | null;
  }
>;

/** It takes no mail and sends none, until it is resumed. */
export type MailboxSuspended = Event<
  'MailboxSuspended',
  {
    /**
     * `domain_released`: its domain has gone to another team, and it is never resumed. Absent where the customer has
     * suspended it. Later releases may have other reasons.
     *
     * @examples ["domain_released"]
     */
    readonly reason?: string;
  }
>;

/** It takes mail and sends, again. */
export type MailboxResumed = Event<'MailboxResumed', Record<string, never>>;

/** Gone; the address is free. Nothing follows but `MailboxErased`. */
export type MailboxDeleted = Event<'MailboxDeleted', Record<string, never>>;

/**
 * An operator has erased what was personal about it: nobody can read its `sealed` texts any more. Erase what you keep
 * of it, too. The last event of this mailbox.
 */
export type MailboxErased = Event<'MailboxErased', Record<string, never>>;

/** Its outgoing mail leaves through another provider from now on. */
export type OutboundProviderChosen = Event<
  'OutboundProviderChosen',
  {
    /** A name of the operator's settings, or `sendmux-ses`; null: whatever its domain has chosen. */
    readonly provider: string | null;
  }
>;

/** It got another display name, or none. */
export type DisplayNameChanged = Event<
  'DisplayNameChanged',
  {
    /**
     * What stands beside the address in the From field of its mail, or that nothing does: encrypted.
     * `GET /mailboxes/{id}` has it in clear, for as long as it is there.
     */
    readonly sealed: string;
  }
>;

export type StoredMailboxEvent =
  | MailboxCreated
  | MailboxSuspended
  | MailboxResumed
  | MailboxDeleted
  | MailboxErased
  | OutboundProviderChosen
  | DisplayNameChanged;

/** Schema version that is written now, by event type. */
export const mailboxSchemaVersions: Record<StoredMailboxEvent['type'], number> = {
  MailboxCreated: 2,
  MailboxSuspended: 1,
  MailboxResumed: 1,
  MailboxDeleted: 1,
  MailboxErased: 1,
  OutboundProviderChosen: 1,
  DisplayNameChanged: 2,
};

/** The names of all events of a mailbox. */
export const everyMailboxEvent = Object.keys(mailboxSchemaVersions) as StoredMailboxEvent['type'][];
