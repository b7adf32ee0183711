/**
 * A check is one requirement of a domain, whole in one object: the records that it wants, the questions it asks, how it
 * judges the answers, and every text about it. Everything else loops over the list in `checks/index.ts`. Pure.
 */
import type { Answers, Question } from './answers';
import type { Finding, SesDkimStatus } from './findings';
import type { Operation } from './operation';
import type { NameToRead, Published } from './published';
import type { RecordSet } from './record-set';

/** `send_only`: the domain sends mail and receives none, so that it needs no MX record and has no mailboxes. */
export const domainModes = ['send_receive', 'send_only'] as const;
export type DomainMode = (typeof domainModes)[number];

/** The domain whose records are expected. */
export interface Expected {
  readonly name: string;
  /** `send_receive` where absent. */
  readonly mode?: DomainMode | undefined;
  readonly team: string;
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
  /** The DKIM records of another identity, that are to be placed beside the others; absent where there is none. */
  readonly nextDkim?: Pick<Expected, 'dkimTokens' | 'dkimZone'> | null | undefined;
  /** AWS Region of the SES identity; empty where the domain is not added yet. */
  readonly sesRegion: string;
}

/** What has to be known of a domain to read its names; it has no DKIM tokens until it is added. */
export type ToRead = Pick<Expected, 'name' | 'mode' | 'dkimTokens' | 'nextDkim'>;

/** What an operator may require of every domain. Checks of it decide nothing unless he does. */
export type Requirement = 'mail_from';

/** `DkimAttributes.Status` of SES, or why there is none. */
export type DkimAnswer = SesDkimStatus | 'unavailable' | 'identity_missing';

export interface Check {
  /** The name in findings, events and the API: stable, snake_case. */
  readonly name: string;
  /**
   * The field of `dns_records` in the API. Where several checks share an object there, each names its own field in it
   * after a dot: `mail_from.mx`.
   */
  readonly field: string;
  /** The name for people, such as `SPF`. */
  readonly title: string;
  /** Names the record or records in a sentence, such as `the SPF record`. */
  readonly label: string;
  /** `ses`: SES looks the records up by itself, and our look asks SES for the result. */
  readonly authority: 'dns' | 'ses';
  /**
   * The modes of the domains that the check is asked of; all where absent. For any other domain it gives no finding,
   * and `entry` gives what `dns_records` shows instead of its records.
   */
  readonly modes?: readonly DomainMode[];
  /** What has to be required for the check to decide about the status of a domain; absent where it always does. */
  readonly requirement?: Requirement;
  /** The word for a record in the history, by the code of its finding; `wrong (<code>)` where absent. */
  readonly faults: Readonly<Record<string, string>>;
  /** The severity of a pass by its code; `info` where absent. */
  readonly severities?: Readonly<Record<string, Warning['severity']>>;

  /** Gives the records that the customer places. */
  records(domain: Expected): readonly RecordSet[];
  /** Gives the same records as `dns_records` of the API shows them under `field`. */
  entry(domain: Expected): unknown;

  /** Gives the questions that every look asks; only the name differs between domains. */
  questions(domain: Expected): readonly Question[];
  /** Gives the next question whose answer can change the finding; undefined when there is none. */
  followUp?(domain: Expected, answers: Answers): Question | undefined;
  /** Judges a look. Equal answers give equal findings, whatever order their records came in. */
  judge(domain: Expected, answers: Answers, dkim: DkimAnswer): Finding;

  /**
   * Gives the questions whose answers explain the finding without changing its outcome. It is called again with their
   * answers and may then give further questions.
   */
  clues?(domain: Expected, finding: Finding, evidence: Evidence): readonly Question[];
  /** Finds a more precise code and message for the finding; undefined where there is none. */
  refine?(domain: Expected, finding: Finding, evidence: Evidence): Refined | undefined;
  /** Gives warnings that accompany the finding and never change it. */
  warnings?(domain: Expected, finding: Finding, evidence: Evidence): readonly Warning[];
  /** Gives the advice of the product guide ("Troubleshooting"), with the domain's own names in it. */
  hints(domain: Expected, finding?: Finding): readonly string[];
  /** Tells whether we have to mend a fail, so that the customer has no record to place. */
  isOurs?(finding: Pick<Finding, 'code'>): boolean;

  /** Gives the names that `plan` reads. */
  reads(domain: ToRead): readonly NameToRead[];
  /** Gives the questions, besides those of `reads`, whose answers the plan needs for its advice. */
  planClues?(domain: Expected, published: Published): readonly Question[];
  /**
   * Gives the operations that make the check pass, given what is published now. A name that was not read is treated as
   * one without records.
   */
  plan(domain: Expected, published: Published): readonly Operation[];
}

/**
 * `blocking`: the check fails. `breaking`: it passes, but mail is affected now. `warning`: mail may be affected later.
 */
export type Severity = 'blocking' | 'breaking' | 'warning' | 'info';

/** A warning accompanies a finding and never changes it. */
export interface Warning {
  /** Stable, snake_case. */
  readonly code: string;
  readonly severity: Exclude<Severity, 'blocking'>;
  /** Says to people what the problem is and what to do. */
  readonly message: string;
}

/** A more precise code and message for a finding. The outcome stays the same. */
export interface Refined {
  readonly code: string;
  readonly message: string;
  /** The customer's record at a name where it has no effect. */
  readonly misplaced?: { readonly name: string; readonly type: RecordSet['type']; readonly value: string };
}

/** Everything that resolvers and SES answered about a domain, for explanations. */
export interface Evidence {
  readonly answers: Answers;
  /** The answers to the questions of `Check.clues`, each from one resolver. */
  readonly clues: Answers;
  /** Null when SES gave no answer. */
  readonly ses: SesExplanation | null;
}

/** SES's `VerificationInfo`. */
export interface SesExplanation {
  /** The fault that SES names, in lower case, such as `host_not_found`; null when it names none. */
  readonly errorType: string | null;
  readonly lastCheckedAt: Date | null;
  /** The time until which SES goes on looking by itself. */
  readonly deadline: Date;
  /** Whether SES was asked to start looking again. */
  readonly isRestarted: boolean;
}
