/**
 * The events of a mail domain. They are the storage format and the wire format: names and fields are only ever added
 * to, and a change of meaning is a new schema version with an upcaster. No event holds personal data.
 *
 * What is written here reaches subscribers: `npm run events:schemas` makes docs/events of these types and comments.
 */
import type { Dnssec, Finding, SesDkimStatus } from './findings';

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
     * The mail domain, such as `mail.acme.com`. Canonical: A-labels, lower case, no trailing dot. It never changes, and no
     * later event repeats it.
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
    /** What SES says of the DKIM records (`DkimAttributes.Status` in lower case); `pending` as a rule, this early. */
    readonly sesDkimStatus: SesDkimStatus;
  }
>;

export type ProvisioningStep = 'mail_server' | 'ses';
export type ProvisioningFailureKind =
  /** The part said no, for good. */
  | 'refused'
  /** The name is there already and does not carry our tag. */
  | 'foreign'
  /** The deadline passed without an answer that settles it. */
  | 'deadline';

/** The domain could not be provisioned. What was done of it is taken back: `ProvisioningRolledBack` follows. */
export type ProvisioningFailed = Event<
  'ProvisioningFailed',
  {
    /** Where it failed; the mail server comes first, then SES. */
    readonly step: ProvisioningStep;
    /**
     * `refused`: the step said no, for good. `foreign`: the name is there already and is not this domain's. `deadline`:
     * no answer that settles it came before the deadline.
     */
    readonly kind: ProvisioningFailureKind;
    /** A sentence for people, not to be parsed. */
    readonly reason: string;
  }
>;

/** After `ProvisioningFailed`: nothing of it is left anywhere; the name is free. The last event of this domain. */
export type ProvisioningRolledBack = Event<'ProvisioningRolledBack', Record<string, never>>;

export type Trigger = 'requested' | 'scheduled';

/**
 * The domain was looked at. What that changed, if anything, is the event after this one. A scheduled look that says
 * nothing new and changes nothing gives no event.
 */
export type DnsChecked = Event<
  'DnsChecked',
  {
    /** `requested` by the customer, or `scheduled` by the verification cycle. */
    readonly trigger: Trigger;
    /**
     * The verification cycle, by its start in milliseconds since the Unix epoch: it grows with time, even when the length
     * of a cycle is changed. Null on a requested check.
     *
     * @multipleOf 1
     */
    readonly cycle: number | null;
    /** Exactly one a check: `mx`, `verification_txt`, `spf`, `dmarc`, `dkim`, in this order. */
    readonly findings: readonly Finding[];
    /** What SES said of the DKIM records (`DkimAttributes.Status` in lower case); null when it gave no answer. */
    readonly sesDkimStatus: SesDkimStatus | null;
    /**
     * `secure`: every resolver has validated every answer. `bogus`: the signatures do not validate. Absent when nobody told,
     * and from events of before it was recorded.
     */
    readonly dnssec?: Dnssec;
  }
>;

/** All checks pass, and did not before: for the first time, or again after `VerificationLapsed` or `VerificationFailed`. */
export type DomainVerified = Event<'DomainVerified', Record<string, never>>;

/**
 * A verified domain stopped matching: it is pending again. `VerificationFailed` follows if it is not mended, or
 * `DomainVerified` if it is.
 */
export type VerificationLapsed = Event<
  'VerificationLapsed',
  {
    /** The findings of the check before this event that fail, at least one. */
    readonly failing: readonly Finding[];
    /** 1 when a scheduled cycle found it, 0 when the customer's own check did: only cycles strike. */
    readonly strikes: 0 | 1;
  }
>;

/**
 * Still failing in the next cycle: the owners are told, once an episode. Cycles look no more; the customer's own check
 * can verify the domain again.
 */
export type VerificationFailed = Event<
  'VerificationFailed',
  {
    /** The findings of the check before this event that fail, at least one. */
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

export type IdentityFault =
  /** SES has no identity for the domain: somebody has removed it. */
  | 'missing'
  /** SES has it, and has never begun to look for its DKIM records. */
  | 'not_started';

/** SES does not have a live domain as it should. `IdentityRepaired` follows, however long that takes. */
export type IdentityRepairRequested = Event<
  'IdentityRepairRequested',
  {
    /** `missing`: SES has no identity for the domain. `not_started`: it has never begun to look for the DKIM records. */
    readonly fault: IdentityFault;
  }
>;

/**
 * SES has the domain as it should, again. Where the tokens are not those of before, the customer has to place the DKIM records
 * anew.
 */
export type IdentityRepaired = Event<
  'IdentityRepaired',
  {
    /** As of `DomainProvisioned`, in whose place they stand from now on. */
    readonly dkimTokens: readonly string[];
    /** As of `DomainProvisioned`. */
    readonly dkimZone: string;
    /** As of `DomainProvisioned`. */
    readonly sesRegion: string;
    /** As of `DomainProvisioned`. */
    readonly sesDkimStatus: SesDkimStatus;
    /** Whether the DKIM records are others than before: the owners are told then. */
    readonly recordsChanged: boolean;
  }
>;

/** The outgoing mail of its mailboxes leaves through another provider from now on, but of those that have chosen for themselves. */
export type DomainOutboundProviderChosen = Event<
  'DomainOutboundProviderChosen',
  {
    /** A name of the operator's settings, or `sendmux-ses`; null: Sendmux SES, as when nothing was ever chosen. */
    readonly provider: string | null;
  }
>;

/** What the owners of a team are told of. */
export type Notice = 'failure' | 'recovery' | 'new_records';

/**
 * Every owner of the team that can be reached was told by e-mail, each by a mail that the mail server has taken. Not recorded of a
 * domain that is gone by then, nor when nobody could be reached.
 */
export type OwnersTold = Event<
  'OwnersTold',
  {
    /** `failure`: of `VerificationFailed`. `recovery`: of the first success after it. `new_records`: of `IdentityRepaired` with other records. */
    readonly about: Notice;
    /** The episode of the failure, or of the failure that is over; of `new_records`, the version of the `IdentityRepaired`. */
    readonly notice: number;
    /** How many were told, those that were told by earlier tries with them. */
    readonly owners: number;
  }
>;

/** A customer deleted the domain: it goes only forward from here, to `DomainDeleted`. */
export type DomainDeletionRequested = Event<'DomainDeletionRequested', Record<string, never>>;
/** Neither the mail server nor SES has the domain any more; the name is free. The last event of this domain. */
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
  | DomainOutboundProviderChosen
  | OwnersTold
  | DomainDeletionRequested
  | DomainDeleted;

/** Schema version that is written now, by event type. */
export const schemaVersions: Record<DomainEvent['type'], number> = {
  DomainAdded: 1,
  DomainProvisioned: 1,
  ProvisioningFailed: 1,
  ProvisioningRolledBack: 1,
  DnsChecked: 1,
  DomainVerified: 1,
  VerificationLapsed: 1,
  VerificationFailed: 1,
  IdentityRepairRequested: 1,
  IdentityRepaired: 1,
  DomainOutboundProviderChosen: 1,
  OwnersTold: 1,
  DomainDeletionRequested: 1,
  DomainDeleted: 1,
};
