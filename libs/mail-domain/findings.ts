/** The five things a domain must show. `dkim` is SES's word; the other four are looked up in the DNS. */
export const checkNames = ['mx', 'verification_txt', 'spf', 'dmarc', 'dkim'] as const;
export type CheckName = (typeof checkNames)[number];

/** `DkimAttributes.Status` of SES v2 `GetEmailIdentity`, in the lower case that the API shows. */
export const sesDkimStatuses = ['pending', 'success', 'failed', 'temporary_failure', 'not_started'] as const;
export type SesDkimStatus = (typeof sesDkimStatuses)[number];

/**
 * What one check says. Three outcomes, never two: `indeterminate` means that nobody could tell, and moves nothing.
 */
export interface Finding {
  /** What was looked at: `dkim` is the word of SES; the other four are looked up in the DNS. */
  readonly check: CheckName;
  /** `indeterminate` is no failure: resolvers or SES gave no answer, or not the same one. */
  readonly outcome: 'pass' | 'fail' | 'indeterminate';
  /** Stable, snake_case, such as `mx_wrong_target`; `ok` for a plain pass. New ones may come at any time. */
  readonly code: string;
  /** One sentence for the customer, in Australian English, with their own names in it; says what to do on a fail. */
  readonly message: string;
  /** FQDN of the record, without the trailing dot. For `dkim`, the domain itself. */
  readonly name: string;
  /** Of the record. */
  readonly type: 'MX' | 'TXT' | 'CNAME';
  /** The value to publish, as in `dns_records` of the API. */
  readonly expected: string;
  /** What was seen, each RR in presentation form, sorted; empty when nothing was there. */
  readonly observed: readonly string[];
}

/** One look at a domain: exactly one finding a check, in the order of `checkNames`, and what SES said, if it answered. */
export interface Assessment {
  readonly findings: readonly Finding[];
  readonly sesDkimStatus: SesDkimStatus | null;
  /** Absent when nobody told. It is recorded, and makes no difference: which resolver validates is not the customer's doing. */
  readonly dnssec?: Dnssec;
}

/** `secure`: every resolver has validated every answer (RFC 4035 section 4.3). */
export const dnssecStates = ['secure', 'insecure', 'bogus'] as const;
export type Dnssec = (typeof dnssecStates)[number];

export const failing = (findings: readonly Finding[]): Finding[] =>
  findings.filter((finding) => finding.outcome === 'fail');

export const allPass = (findings: readonly Finding[]): boolean =>
  checkNames.every((check) => findings.some((finding) => finding.check === check && finding.outcome === 'pass'));

/**
 * True when the look decided nothing: no definite fail, and some question got no answer. An answer that is itself
 * inconclusive (SES's `temporary_failure`, resolvers that disagree) is an answer: it is shown, and moves nothing.
 */
export const isUndecided = (assessment: Assessment): boolean =>
  failing(assessment.findings).length === 0 &&
  assessment.findings.some((finding) => finding.outcome === 'indeterminate' && !inconclusiveAnswers.has(finding.code));

const inconclusiveAnswers = new Set(['dkim_temporary_failure', 'resolver_disagreement']);

/** Equality in all that a customer could see; two equal looks in a row are one fact. */
export const sameAssessment = (a: Assessment, b: Assessment): boolean =>
  a.sesDkimStatus === b.sesDkimStatus && JSON.stringify(a.findings) === JSON.stringify(b.findings);
