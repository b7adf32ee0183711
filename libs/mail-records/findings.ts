/** `DkimAttributes.Status` of SES v2 `GetEmailIdentity`, in the lower case that the API shows. */
export const sesDkimStatuses = ['pending', 'success', 'failed', 'temporary_failure', 'not_started'] as const;
export type SesDkimStatus = (typeof sesDkimStatuses)[number];

/** `MailFromDomainStatus` of SES v2 `GetEmailIdentity`, in lower case. */
export const sesMailFromStatuses = ['pending', 'success', 'failed', 'temporary_failure'] as const;
export type SesMailFromStatus = (typeof sesMailFromStatuses)[number];

/**
 * A finding is the result of one check in one look. It has three outcomes: `indeterminate` means that the check could
 * not be decided, and changes nothing.
 */
export interface Finding {
  /**
   * The name of the check. SES decides `dkim`; the others are looked up in the DNS. Later releases have more checks:
   * subscribers must accept names that they do not know.
   *
   * @examples ["mx", "verification_txt", "spf", "dmarc", "dkim"]
   */
  readonly check: string;
  /** `indeterminate` is not a failure: resolvers or SES gave no answer, or different answers. */
  readonly outcome: 'pass' | 'fail' | 'indeterminate';
  /** Stable, snake_case, such as `mx_wrong_target`; `ok` for a plain pass. New ones may come at any time. */
  readonly code: string;
  /** One sentence for the customer, in Australian English, with their own names in it; says what to do on a fail. */
  readonly message: string;
  /** FQDN of the record, without the trailing dot. For `dkim`, the domain itself. */
  readonly name: string;
  /**
   * The type of the record. Later releases may check records of other types: subscribers must accept types that they do
   * not know.
   *
   * @examples ["MX", "TXT", "CNAME"]
   */
  readonly type: string;
  /** The value to publish, as in `dns_records` of the API. */
  readonly expected: string;
  /**
   * The records that were found, each in presentation form, sorted; empty when there were none. A record of more than
   * 4,096 octets is cut, and ends in `… (cut: N octets, SHA-256 H)`: the octets of the whole record, and their hash.
   * Where all of them are longer than 32,768 octets, the last item is `… (left out: N more, SHA-256 H)`. Texts in
   * events from before there were limits are whole.
   */
  readonly observed: readonly string[];
  /**
   * False where the finding does not count towards the status of the domain: neither its pass nor its fail changes it.
   * Absent where it counts.
   */
  readonly decides?: false;
}

/** What SES says of the identity of a domain, besides its DKIM and MAIL FROM records. */
export interface SesStanding {
  /** `VerificationStatus` of SES v2 `GetEmailIdentity`, in lower case. */
  readonly verificationStatus: SesDkimStatus;
  /** `VerifiedForSendingStatus`: whether SES sends mail of the domain. */
  readonly verifiedForSending: boolean;
  /** `DkimAttributes.SigningEnabled`: whether SES signs its mail. */
  readonly dkimSigningEnabled: boolean;
}

/** The result of one look at a domain: one finding for each check, and the DKIM status of SES if it answered. */
export interface Assessment {
  readonly findings: readonly Finding[];
  readonly sesDkimStatus: SesDkimStatus | null;
  /** What SES says of the MAIL FROM domain; absent when it has none, or was not asked about this identity alone. */
  readonly sesMailFromStatus?: SesMailFromStatus;
  /** Absent when SES gave no answer, or was not asked about this identity alone. */
  readonly sesIdentity?: SesStanding;
  /**
   * Absent when a resolver did not say. It changes no outcome, because the customer does not choose which resolver
   * validates.
   */
  readonly dnssec?: Dnssec;
}

/** `secure`: every resolver has validated every answer (RFC 4035 section 4.3). */
export const dnssecStates = ['secure', 'insecure', 'bogus'] as const;
export type Dnssec = (typeof dnssecStates)[number];

export const failing = (findings: readonly Finding[]): Finding[] =>
  findings.filter((finding) => finding.outcome === 'fail');

/** Gives the findings that count towards the status of a domain. */
export const deciding = (findings: readonly Finding[]): Finding[] =>
  findings.filter(({ decides }) => decides !== false);

/** Tells whether a finding that decides fails. */
export const isBroken = (findings: readonly Finding[]): boolean =>
  findings.some(({ outcome, decides }) => outcome === 'fail' && decides !== false);

/** Tells whether every finding that decides passes; false where there are none. */
export const allPass = (findings: readonly Finding[]): boolean => {
  const counted = deciding(findings);
  return counted.length > 0 && counted.every(({ outcome }) => outcome === 'pass');
};

/**
 * Tells whether the look decided nothing: of the checks that decide, none fails, and one got no answer. An
 * inconclusive answer (SES's `temporary_failure`, resolvers that disagree) is an answer: customers see it, and it
 * changes nothing.
 */
export const isUndecided = (assessment: Assessment): boolean =>
  !isBroken(assessment.findings) && deciding(assessment.findings).some(isUnanswered);

/** Tells whether a check got no answer. */
export const isUnanswered = ({ outcome, code }: Finding): boolean =>
  outcome === 'indeterminate' && !inconclusiveAnswers.has(code);

const inconclusiveAnswers = new Set(['dkim_temporary_failure', 'resolver_disagreement']);

/** Compares what a customer can see. A look that equals the last one is not recorded. */
export const sameAssessment = (a: Assessment, b: Assessment): boolean =>
  a.sesDkimStatus === b.sesDkimStatus && JSON.stringify(a.findings) === JSON.stringify(b.findings);
