/**
 * The events of a mail domain. They are the storage format and the wire format: names and fields are only ever added
 * to, and a change of meaning is a new schema version with an upcaster. No event holds personal data.
 */
import type { Finding, SesDkimStatus } from './findings';

interface Event<Type extends string, Data> {
  readonly type: Type;
  /** `mdom_…`, also the name of the stream. */
  readonly domainId: string;
  /** ISO 8601, UTC, milliseconds: the time the command was decided. */
  readonly at: string;
  readonly data: Data;
}

export type DomainAdded = Event<
  'DomainAdded',
  {
    /** Canonical: A-labels, lower case, no trailing dot. */
    readonly name: string;
    /** `team_…` */
    readonly team: string;
    /** ISO 8601. Past it, provisioning has failed. */
    readonly deadline: string;
  }
>;

/** The mail server and SES both have the domain. */
export type DomainProvisioned = Event<
  'DomainProvisioned',
  {
    readonly dkimTokens: readonly string[];
    /** Zone of the CNAME targets: `SigningHostedZone` of SES, `dkim.amazonses.com` where it gives none. */
    readonly dkimZone: string;
    readonly sesRegion: string;
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

export type ProvisioningFailed = Event<
  'ProvisioningFailed',
  { readonly step: ProvisioningStep; readonly kind: ProvisioningFailureKind; readonly reason: string }
>;

/** Nothing of it is left anywhere; the name is free. */
export type ProvisioningRolledBack = Event<'ProvisioningRolledBack', Record<string, never>>;

export type Trigger = 'requested' | 'scheduled';

export type DnsChecked = Event<
  'DnsChecked',
  {
    readonly trigger: Trigger;
    /**
     * The verification cycle, by its start in milliseconds since the Unix epoch: it grows with time, even when the length
     * of a cycle is changed. Null on a requested check.
     */
    readonly cycle: number | null;
    readonly findings: readonly Finding[];
    readonly sesDkimStatus: SesDkimStatus | null;
  }
>;

export type DomainVerified = Event<'DomainVerified', Record<string, never>>;

/** A verified domain stopped matching. */
export type VerificationLapsed = Event<
  'VerificationLapsed',
  {
    readonly failing: readonly Finding[];
    /** 1 when a scheduled cycle found it, 0 when the customer's own check did: only cycles strike. */
    readonly strikes: 0 | 1;
  }
>;

/** Still failing in the next cycle: the owners are told, once an episode. */
export type VerificationFailed = Event<
  'VerificationFailed',
  {
    readonly failing: readonly Finding[];
    /** Counts the times this domain has failed, from 1. */
    readonly episode: number;
  }
>;

export type DomainDeletionRequested = Event<'DomainDeletionRequested', Record<string, never>>;
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
  DomainDeletionRequested: 1,
  DomainDeleted: 1,
};
