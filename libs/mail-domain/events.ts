/**
 * The events of a mail domain. They are the storage format and the wire format: names and fields are only ever added
 * to, and a change of meaning is a new schema version with an upcaster. No event holds personal data.
 *
 * What is written here reaches subscribers: `npm run events:schemas` makes docs/events of these types and comments.
 */
import type { Dnssec, Finding, SesDkimStatus, SesMailFromStatus, SesStanding } from '@app/mail-records';

interface Event<Type extends string, Data> {
  readonly type: Type;
  /** `mdom_…`, also the name of the stream. */
  readonly domainId: string;
  /** ISO 8601, UTC, milliseconds: the time the command was decided. */
  readonly at: string;
  readonly data: Data;
}

/** A customer asked for the domain. Its name is reserved; the mail server and SES do not have it yet. */
export type DomainAdded = Event<
  'DomainAdded',
  {
    /**
     * The mail domain, such as `mail.acme.com`. Canonical: A-labels, lower case, no trailing dot. It never changes, and
     * no later event repeats it.
     */
    readonly name: string;
    /** `team_…`: the team whose domain it is. It never changes. */
    readonly team: string;
    /**
     * ISO 8601, UTC, milliseconds. When the domain is not provisioned by then, provisioning fails and is rolled back.
     *
     * @format date-time
     */
    readonly deadline: string;
    /** `send_only`: it sends mail and receives none. Absent where it does both. */
    readonly mode?: 'send_only';
    /** `claim_…`: the claim by which the team has proved that the name is its own. Absent where it was free. */
    readonly claim?: string;
    /**
     * `mdom_…`: the domain, of another team, that had the name until this event. It is `DomainReleased` at the same
     * moment, by the same claim, and this one is provisioned once that one is deleted. Absent where the name was free.
     */
    readonly replaces?: string;
    /**
     * The shard, an account and Region of Amazon SES, that has its identity. Absent in events from before there were
     * shards: then it is the shard `default`. `IdentityMoved` changes it.
     */
    readonly sesShard?: string;
  }
>;

/** The mail server and SES both have the domain. Its customer can place the DNS records now; it is not verified yet. */
export type DomainProvisioned = Event<
  'DomainProvisioned',
  {
    /**
     * Easy DKIM tokens of SES, three of them: for each the customer places a CNAME at `<token>._domainkey.<name>` to
     * `<token>.<dkimZone>`.
     */
    readonly dkimTokens: readonly string[];
    /** Zone of the CNAME targets: `SigningHostedZone` of SES, `dkim.amazonses.com` where it gives none. */
    readonly dkimZone: string;
    /** AWS Region of the SES identity, such as `eu-west-1`. */
    readonly sesRegion: string;
    /** What SES says about the DKIM records (`DkimAttributes.Status` in lower case); usually `pending` at this time. */
    readonly sesDkimStatus: SesDkimStatus;
    /**
     * The MAIL FROM domain that SES has for it, such as `bounce.mail.acme.com`. Absent when it has none, and in events
     * from before it was recorded.
     */
    readonly mailFromDomain?: string;
    /**
     * The tenant of Amazon SES that the identity is associated with, and that its mail names (`X-SES-TENANT`). Absent
     * where its shard has no tenants.
     */
    readonly sesTenant?: string;
  }
>;

export type ProvisioningStep = 'mail_server' | 'ses';
export type ProvisioningFailureKind =
  /** The step refused. */
  | 'refused'
  /** The name exists there already, without our tag. */
  | 'foreign'
  /** The deadline passed without a definite answer. */
  | 'deadline';

/** The domain could not be provisioned. The steps that were done are rolled back: `ProvisioningRolledBack` follows. */
export type ProvisioningFailed = Event<
  'ProvisioningFailed',
  {
    /** Where it failed; the mail server comes first, then SES. */
    readonly step: ProvisioningStep;
    /**
     * `refused`: the step refused. `foreign`: the name exists there already and is not this domain's. `deadline`: no
     * definite answer came before the deadline.
     */
    readonly kind: ProvisioningFailureKind;
    /**
     * True when the step refused because of a fault of the platform: its account, quota, permissions or configuration.
     * The same domain can be added once an operator has acted. Absent in events from before it was recorded.
     */
    readonly isOurs?: boolean;
    /**
     * A sentence for people, not to be parsed. It has no text of the mail server or of SES where `isOurs` is present.
     */
    readonly reason: string;
  }
>;

/**
 * Provisioning failed and is rolled back: neither the mail server nor SES has the domain, and the name is free. The
 * last event of this domain.
 */
export type ProvisioningRolledBack = Event<'ProvisioningRolledBack', Record<string, never>>;

export type Trigger = 'requested' | 'scheduled';

/**
 * A look at the domain was recorded. When it changed the status, the next event says so. A look that finds nothing
 * new and changes nothing gives no event, requested or not.
 */
export type DnsChecked = Event<
  'DnsChecked',
  {
    /** `requested` by the customer, or `scheduled` by the verification cycle. */
    readonly trigger: Trigger;
    /**
     * The verification cycle, by its start in milliseconds since the Unix epoch: it grows with time, even when the
     * length of a cycle is changed. Null for a requested look.
     *
     * @multipleOf 1
     */
    readonly cycle: number | null;
    /** One for each check of the domain, by the release that looked. */
    readonly findings: readonly Finding[];
    /** What SES says about the DKIM records (`DkimAttributes.Status` in lower case); null when SES gave no answer. */
    readonly sesDkimStatus: SesDkimStatus | null;
    /**
     * What SES says about the records of the MAIL FROM domain (`MailFromDomainStatus` in lower case). Absent when it
     * has none or gave no answer, in scheduled looks, and in events from before it was recorded.
     */
    readonly sesMailFromStatus?: SesMailFromStatus;
    /**
     * What else SES says of the identity. Absent when it gave no answer, in scheduled looks, and in events from before
     * it was recorded.
     */
    readonly sesIdentity?: SesStanding;
    /**
     * `secure`: every resolver has validated every answer. `bogus`: the signatures do not validate. Absent when a
     * resolver did not say, and in events from before it was recorded.
     */
    readonly dnssec?: Dnssec;
    /**
     * Begins the time of grace after which another team may claim the name: the domain was verified before, and its
     * ownership record is gone. Owners are told. Absent in later looks that do not find it either, and in events from
     * before it was recorded.
     */
    readonly beginsGrace?: true;
  }
>;

/**
 * All checks that decide pass, and did not before: for the first time, or again after `VerificationLapsed` or
 * `VerificationFailed`.
 */
export type DomainVerified = Event<'DomainVerified', Record<string, never>>;

/**
 * A check of a verified domain that decides fails, so the domain is pending again. `VerificationFailed` follows if the
 * records are not mended, or `DomainVerified` if they are.
 */
export type VerificationLapsed = Event<
  'VerificationLapsed',
  {
    /** The findings of the preceding `DnsChecked` that fail; at least one of them decides. */
    readonly failing: readonly Finding[];
    /** 1 when a scheduled look found it, 0 when a requested look did: only scheduled looks count as strikes. */
    readonly strikes: 0 | 1;
  }
>;

/**
 * The domain still fails in the next cycle. The owners get one notice per episode. Scheduled looks stop; a look that
 * the customer requests can verify the domain again.
 */
export type VerificationFailed = Event<
  'VerificationFailed',
  {
    /** The findings of the preceding `DnsChecked` that fail; at least one of them decides. */
    readonly failing: readonly Finding[];
    /**
     * Counts the times this domain has failed, from 1.
     *
     * @asType integer
     * @minimum 1
     */
    readonly episode: number;
  }
>;

/** The faults of an SES identity that this release repairs. */
export type IdentityFault =
  /** SES has no identity for the domain, because somebody has removed it. */
  | 'missing'
  /** SES has the identity, but has never begun to look for its DKIM records. */
  | 'not_started'
  /** SES has looked for the DKIM records for 72 hours and has stopped. */
  | 'gave_up'
  /** SES has no MAIL FROM domain for it, or has looked for its records for 72 hours and has stopped. */
  | 'no_mail_from'
  /** It is associated with no tenant of SES, and its shard has tenants now. */
  | 'no_tenant';

/**
 * The SES identity of a provisioned domain has a fault. `IdentityRepaired` or `IdentityRepairFailed` follows, however
 * long that takes.
 */
export type IdentityRepairRequested = Event<
  'IdentityRepairRequested',
  {
    /**
     * `missing`: SES has no identity for the domain. `not_started`: it has never begun to look for the DKIM records.
     * `gave_up`: it has looked for them for 72 hours and has stopped. `no_mail_from`: it has no MAIL FROM
     * domain, or has stopped to look for its records. `no_tenant`: it is associated with no tenant of SES. Later
     * releases repair other faults: subscribers must accept names that they do not know.
     *
     * @examples ["missing", "not_started", "gave_up", "no_mail_from", "no_tenant"]
     */
    readonly fault: string;
  }
>;

/**
 * The SES identity of the domain is repaired. Where the tokens differ from those before, the customer has to place the
 * DKIM records again.
 */
export type IdentityRepaired = Event<
  'IdentityRepaired',
  {
    /** The Easy DKIM tokens of SES, as in `DomainProvisioned`; they replace the earlier tokens. */
    readonly dkimTokens: readonly string[];
    /** The zone of the CNAME targets, as in `DomainProvisioned`. */
    readonly dkimZone: string;
    /** The AWS Region of the SES identity, as in `DomainProvisioned`. */
    readonly sesRegion: string;
    /** What SES says about the DKIM records, as in `DomainProvisioned`. */
    readonly sesDkimStatus: SesDkimStatus;
    /** The MAIL FROM domain that SES has, as in `DomainProvisioned`. */
    readonly mailFromDomain?: string;
    /** The tenant of the identity, as in `DomainProvisioned`. */
    readonly sesTenant?: string;
    /** Whether the DKIM records differ from those before; if so, the owners get a notice. */
    readonly recordsChanged: boolean;
  }
>;

/**
 * The SES identity could not be repaired; an operator has to find out why. A look that still finds the fault requests
 * another repair an hour after this event at the earliest.
 */
export type IdentityRepairFailed = Event<
  'IdentityRepairFailed',
  {
    /** A sentence for people, not to be parsed. */
    readonly reason: string;
  }
>;

/**
 * The identity of the domain is to move to another shard of SES. It stays in its shard, and goes on to send, until
 * `IdentityMoved`.
 */
export type IdentityMoveRequested = Event<
  'IdentityMoveRequested',
  {
    /** The shard that has the identity. */
    readonly from: string;
    /** The shard that is to have it. */
    readonly to: string;
  }
>;

/**
 * The other shard has an identity of the domain too, with DKIM records of its own: its customer has to place them,
 * beside those that are there, and gets a notice.
 */
export type IdentityMovePrepared = Event<
  'IdentityMovePrepared',
  {
    /** The Easy DKIM tokens of the new identity, as in `DomainProvisioned`. */
    readonly dkimTokens: readonly string[];
    /** The zone of the CNAME targets, as in `DomainProvisioned`. */
    readonly dkimZone: string;
    /** The AWS Region of the new identity, as in `DomainProvisioned`. */
    readonly sesRegion: string;
    /** The MAIL FROM domain of the new identity, as in `DomainProvisioned`. */
    readonly mailFromDomain?: string;
    /** The tenant of the new identity, as in `DomainProvisioned`. */
    readonly sesTenant?: string;
  }
>;

/**
 * SES has seen the DKIM records of the new identity, and the domain sends with it from now on. The records of
 * `IdentityMovePrepared` are those of the domain now; those from before may go.
 */
export type IdentityMoved = Event<
  'IdentityMoved',
  {
    /** The shard that has the old identity, which is removed later. */
    readonly from: string;
    /** The shard that the domain is in from now on. */
    readonly to: string;
    /** Whether the MX record of the MAIL FROM domain is another one, of another Region; if so, owners get a notice. */
    readonly mailFromChanged: boolean;
  }
>;

/** The shard that the domain was in before has nothing of it any more, and the move has ended. */
export type IdentityMoveCompleted = Event<'IdentityMoveCompleted', Record<string, never>>;

/** An operator has cancelled the move before SES has seen the new records. `IdentityMoveFailed` follows. */
export type IdentityMoveCancelled = Event<'IdentityMoveCancelled', Record<string, never>>;

/** The move has ended without a change: the other shard has nothing of the domain, and the records are those before. */
export type IdentityMoveFailed = Event<
  'IdentityMoveFailed',
  {
    /** A sentence for people, not to be parsed. */
    readonly reason: string;
    /** Whether `IdentityMovePrepared` had given the domain further records, which it needs no more. */
    readonly recordsChanged: boolean;
  }
>;

/**
 * The outgoing mail of the domain's mailboxes leaves through another provider from now on. Mailboxes with a choice of
 * their own keep it.
 */
export type DomainOutboundProviderChosen = Event<
  'DomainOutboundProviderChosen',
  {
    /** A name from the operator's settings, or `sendmux-ses`; null: Sendmux SES, as when nothing was ever chosen. */
    readonly provider: string | null;
  }
>;

/** The kinds of notices that the owners of a team get, by this release. */
export type Notice = 'failure' | 'recovery' | 'new_records' | 'expiry' | 'ownership_gone' | 'released';

/**
 * Every owner of the team who can be reached got a notice by e-mail, and the mail server has accepted each of these
 * mails. Not recorded for a domain that is deleted by then, nor when no owner could be reached.
 */
export type OwnersTold = Event<
  'OwnersTold',
  {
    /**
     * `failure`: `VerificationFailed`. `recovery`: the first `DomainVerified` after it. `new_records`:
     * `IdentityRepaired` with other records, `IdentityMovePrepared`, or `IdentityMoved` with another MAIL FROM record.
     * `expiry`: `ExpiryAnnounced`. `ownership_gone`: a `DnsChecked` that has
     * found the ownership record of a verified domain gone. `released`: `DomainReleased`. Later releases have other
     * notices: subscribers must accept names that they do not know.
     *
     * @examples ["failure", "recovery", "new_records", "expiry", "ownership_gone", "released"]
     */
    readonly about: string;
    /**
     * Names the notice among those of its kind: the episode of a failure or recovery, or the version of the event that
     * it is about.
     */
    readonly notice: number;
    /** The number of owners who got the notice, including those reached by earlier attempts. */
    readonly owners: number;
  }
>;

/**
 * A domain that only sent mail is to receive it too. It is pending until its MX record is in place, and never goes back
 * to sending only.
 */
export type ReceivingEnabled = Event<'ReceivingEnabled', Record<string, never>>;

/** Names what becomes of mail whose sender no rule names: it is taken (`off`, `denylist`) or refused (`allowlist`). */
export type SenderFilterMode = 'off' | 'allowlist' | 'denylist';

/**
 * The rules by which the mailboxes of the domain take mail from some senders and refuse it from others were replaced as
 * a whole. The event says which rules apply and not what they are, since they name people.
 */
export type SenderFiltersChanged = Event<
  'SenderFiltersChanged',
  {
    /**
     * `off`: every sender is accepted. `allowlist`: only those that a rule allows. `denylist`: all but those that a
     * rule denies. Later releases may have others: subscribers must accept names that they do not know.
     *
     * @examples ["off", "allowlist", "denylist"]
     */
    readonly mode: string;
    /**
     * The number of rules.
     *
     * @asType integer
     * @minimum 0
     */
    readonly rules: number;
    /** The SHA-256 of the rules, in hexadecimal: equal rules have equal digests. */
    readonly digest: string;
  }
>;

/**
 * The domain was never verified, and expires at a time that its owners are told. `DomainExpired` follows then, unless
 * it is verified or deleted before.
 */
export type ExpiryAnnounced = Event<
  'ExpiryAnnounced',
  {
    /**
     * ISO 8601, UTC, milliseconds.
     *
     * @format date-time
     */
    readonly expiresAt: string;
  }
>;

/**
 * The domain was not verified by the time of `ExpiryAnnounced`. This cannot be undone: `DomainDeleted` follows, and
 * frees the name.
 */
export type DomainExpired = Event<'DomainExpired', Record<string, never>>;

/**
 * Another team has claimed the name and proved that it is its own, while this team had never done so, or no longer did.
 * The name is that team's from now on, and the mailboxes here are suspended. This cannot be undone: `DomainDeleted`
 * follows.
 */
export type DomainReleased = Event<
  'DomainReleased',
  {
    /** `claim_…`: the same as in `DomainAdded` of the domain that has the name now. */
    readonly claim: string;
  }
>;

/** A customer deleted the domain. This cannot be undone: `DomainDeleted` follows. */
export type DomainDeletionRequested = Event<'DomainDeletionRequested', Record<string, never>>;
/**
 * Neither the mail server nor SES has the domain any more; the name is free, or another team's since `DomainReleased`.
 * The last event of this domain.
 */
export type DomainDeleted = Event<'DomainDeleted', Record<string, never>>;

export type DomainEvent =
  | DomainAdded
  | DomainProvisioned
  | ProvisioningFailed
  | ProvisioningRolledBack
  | DnsChecked
  | DomainVerified
  | VerificationLapsed
  | VerificationFailed
  | IdentityRepairRequested
  | IdentityRepaired
  | IdentityRepairFailed
  | IdentityMoveRequested
  | IdentityMovePrepared
  | IdentityMoved
  | IdentityMoveCompleted
  | IdentityMoveCancelled
  | IdentityMoveFailed
  | DomainOutboundProviderChosen
  | ReceivingEnabled
  | SenderFiltersChanged
  | OwnersTold
  | ExpiryAnnounced
  | DomainExpired
  | DomainReleased
  | DomainDeletionRequested
  | DomainDeleted;

/** Schema version that is written now, by event type. */
export const schemaVersions: Record<DomainEvent['type'], number> = {
  DomainAdded: 1,
  DomainProvisioned: 1,
  ProvisioningFailed: 1,
  ProvisioningRolledBack: 1,
  DnsChecked: 2,
  DomainVerified: 1,
  VerificationLapsed: 2,
  VerificationFailed: 2,
  IdentityRepairRequested: 2,
  IdentityRepaired: 1,
  IdentityRepairFailed: 1,
  IdentityMoveRequested: 1,
  IdentityMovePrepared: 1,
  IdentityMoved: 1,
  IdentityMoveCompleted: 1,
  IdentityMoveCancelled: 1,
  IdentityMoveFailed: 1,
  DomainOutboundProviderChosen: 1,
  ReceivingEnabled: 1,
  SenderFiltersChanged: 1,
  OwnersTold: 2,
  ExpiryAnnounced: 1,
  DomainExpired: 1,
  DomainReleased: 1,
  DomainDeletionRequested: 1,
  DomainDeleted: 1,
};

/** The types of all events of a domain, for subscribers that want every one. */
export const everyDomainEvent = Object.keys(schemaVersions) as DomainEvent['type'][];
