import { domainToUnicode } from 'node:url';
import type { CheckTimes } from '@app/cycle';
import {
  dnsRecords,
  recordSets,
  recordsWithStatus,
  type DnsRecords,
  type SesDkimStatus,
  type SesStanding,
} from '@app/mail-records';
import type { DomainView } from '@app/read-model';
import { shown } from './shown-time';

/** One record to place, with what the last look has seen of it. */
export interface PresentedRecord {
  readonly type: string;
  readonly name: string;
  readonly host: string;
  readonly value: string;
  /** The time to live that is advised, in seconds. */
  readonly ttl: number;
  readonly purpose: string;
  readonly status: string;
  readonly code: string | null;
  readonly last_seen: readonly string[];
  /** RFC 3339, in seconds; null before the first look at it. */
  readonly checked_at: string | null;
}

/** What SES says of an identity as a whole. */
export interface PresentedStanding {
  readonly ses_identity_verification_status: string;
  readonly ses_verified_for_sending: boolean;
  /** Null until SES was asked. */
  readonly ses_dkim_signing_enabled: boolean | null;
}

/** A domain as customers are shown it. Times are RFC 3339, in seconds. */
export interface PresentedDomain {
  readonly id: string;
  readonly domain: string;
  /** Present of an internationalised name alone. */
  readonly domain_unicode?: string;
  readonly verification_status: string;
  readonly ses_dkim_status: string;
  readonly verified_at: string | null;
  readonly created_at: string;
  readonly dns_records: DnsRecords;
  readonly mode: string;
  readonly mailbox_count: number;
  readonly ses_mail_from_status: string | null;
  readonly ses_identity_verification_status: string | null;
  readonly ses_verified_for_sending: boolean | null;
  readonly ses_dkim_signing_enabled: boolean | null;
  readonly ses_identity_checked_at: string | null;
  readonly records: PresentedRecord[];
  readonly last_checked_at: string | null;
  readonly next_check_at: string | null;
  readonly outbound_provider: string | null;
  readonly deleting: boolean;
}

export interface RecordToRemove {
  readonly type: string;
  readonly name: string;
  readonly value: string;
}

/** What the deletion of a domain answers. */
export interface PresentedDeletion {
  readonly deleted: boolean;
  readonly id: string;
  readonly records_to_remove: RecordToRemove[];
}

/** Presents a domain with the fields of the product guide, in the order of the guide, and then ours. */
export function presentDomain(view: DomainView, { lastCheckedAt, nextCheckAt }: CheckTimes): PresentedDomain {
  const { id, name, status, mode, sesDkimStatus, verifiedAt, createdAt, lastLook } = view;
  const { mx, spf, dmarc, dkim, verification, ...others } = dnsRecords(view);
  const isDeleting = status === 'deleting';
  const seenAt = view.checkedAt && shown(view.checkedAt);
  return {
    id,
    domain: name,
    ...(/(^|\.)xn--/.test(name) && { domain_unicode: domainToUnicode(name) }),
    verification_status: isDeleting ? 'pending' : status,
    ses_dkim_status: sesDkimStatus,
    verified_at: verifiedAt && shown(verifiedAt),
    created_at: shown(createdAt),
    dns_records: { mx, spf, dmarc, dkim, verification, ...others },
    mode,
    mailbox_count: view.mailboxCount,
    ses_mail_from_status: view.sesMailFromStatus,
    ...presentStanding(view),
    ses_identity_checked_at: lastLook?.sesAnswered ? seenAt : null,
    records: recordsWithStatus(view, lastLook?.findings ?? []).map((record) => ({
      // Named one by one: with a spread, this took as long as all the rest.
      type: record.type,
      name: record.name,
      host: record.host,
      value: record.value,
      ttl: record.ttl,
      purpose: record.purpose,
      status: record.status,
      code: record.code,
      last_seen: record.observed,
      checked_at: record.status === 'not_checked' && record.code === null ? null : seenAt,
    })),
    last_checked_at: lastCheckedAt && shown(lastCheckedAt),
    next_check_at: nextCheckAt && shown(nextCheckAt),
    outbound_provider: view.outboundProvider,
    deleting: isDeleting,
  };
}

/**
 * Presents what SES says of an identity as a whole. Where it was not asked for more, that follows from the DKIM status.
 */
export function presentStanding({
  sesIdentity,
  sesDkimStatus,
}: {
  readonly sesIdentity?: SesStanding | null | undefined;
  readonly sesDkimStatus: SesDkimStatus;
}): PresentedStanding {
  return {
    ses_identity_verification_status: sesIdentity?.verificationStatus ?? sesDkimStatus,
    ses_verified_for_sending: sesIdentity?.verifiedForSending ?? sesDkimStatus === 'success',
    ses_dkim_signing_enabled: sesIdentity?.dkimSigningEnabled ?? null,
  };
}

/** Gives the records of a domain that its customer has to remove once it is deleted, one value each. */
export const recordsToRemove = (view: DomainView): RecordToRemove[] =>
  recordSets(view).flatMap(({ type, name, values }) => values.map((value) => ({ type, name, value })));

export const presentDeletion = (view: DomainView): PresentedDeletion => ({
  deleted: true,
  id: view.id,
  records_to_remove: recordsToRemove(view),
});
