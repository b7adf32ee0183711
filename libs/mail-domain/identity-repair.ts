/** Decides whether a look calls for a repair of the SES identity. */
import type { IdentityFault, Trigger } from './events';
import type { DkimAnswer } from '@app/mail-records';

const faults: Readonly<Partial<Record<DkimAnswer, IdentityFault>>> = {
  identity_missing: 'missing',
  not_started: 'not_started',
  failed: 'gave_up',
};

/**
 * Gives the fault of the SES identity; undefined where there is none, or SES did not answer. `gave_up` counts in a
 * requested look only: a customer who requests one has placed the records, while scheduled looks would make SES look
 * for ever for records that nobody places (case F5).
 */
export function identityFault(answer: DkimAnswer, trigger: Trigger): IdentityFault | undefined {
  const fault = faults[answer];
  return fault === 'gave_up' && trigger === 'scheduled' ? undefined : fault;
}

/** Whether a repair of a fault has SES look for no DKIM records, which nobody may have placed. */
export const leavesDkim = (fault: string): boolean => fault === 'no_mail_from' || fault === 'no_tenant';

/**
 * The minimum time between two repairs of a domain, in milliseconds. SES may report the old fault for a while after a
 * repair, and a repair that failed needs an operator first.
 */
const repairAgainAfterMs = 3_600_000;

/** The repairs of a domain, each time as ISO 8601. */
interface Repairs {
  /** The time of the latest IdentityRepairRequested; undefined when there is none. */
  readonly repairRequestedAt?: string | undefined;
  /** The time of the latest IdentityRepairFailed; undefined when there is none. */
  readonly repairFailedAt?: string | undefined;
}

/**
 * Tells whether to request a repair now. After SES has given up on the DKIM records, one request an hour is enough,
 * however often the customer asks and in however many processes. A MAIL FROM domain and a tenant are always due.
 */
export function isRepairDue({ repairRequestedAt, repairFailedAt }: Repairs, fault: IdentityFault, at: string): boolean {
  if (leavesDkim(fault)) return true;
  const last = fault === 'gave_up' ? repairRequestedAt : repairFailedAt;
  return last === undefined || Date.parse(at) - Date.parse(last) >= repairAgainAfterMs;
}

/**
 * Tells since when SES has been looking for the DKIM records, in its newest attempt: a repair that failed has begun
 * none.
 */
export function detectionBegunAt({
  addedAt,
  repairRequestedAt,
  repairFailedAt,
}: Repairs & { readonly addedAt: string }): string {
  const failed = repairFailedAt !== undefined && repairFailedAt >= (repairRequestedAt ?? '');
  return repairRequestedAt === undefined || failed ? addedAt : repairRequestedAt;
}
