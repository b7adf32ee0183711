/** Explains why a finding is what it is, and what to do about it. Pure: the look-ups were made before. */
import { unique, type Answer, type AnswerEvidence, type Answers, type Question } from './answers';
import type { Check, Evidence, Expected, Refined, Severity, Warning } from './check';
import { checkNamed, checksOf } from './checks';
import { dnameAboveName, unseen, writtenLoop } from './checks/finding';
import { cnameChain } from './cname-chain';
import { loopConclusion, traceLoop } from './cname-loop';
import type { Assessment, Finding } from './findings';
import { cut, cutList, limits } from './limits';
import type { Operation } from './operation';
import { remedy } from './plan';
import { dnameAbove, openTraces, publishedIn, type NameToRead, type Published } from './published';
import { obstacles, planWarnings, rehearsalQuestions } from './rehearsal';
import { trace } from './synthesis';
import { registrableDomain } from './zone';

/** The answer of one resolver, as evidence. */
export interface ResolverEvidence extends AnswerEvidence {
  readonly answer: Answer<unknown>['kind'];
  /** The CNAMEs on the way. */
  readonly aliases: readonly string[];
  /** Why there is no answer; present for `unreachable` only. */
  readonly reason?: string;
}

export interface Explained extends Finding {
  readonly severity: Severity;
  /** What the customer should look at; null where there is nothing to do. */
  readonly hint: string | null;
  readonly warnings: readonly Warning[];
  /** The operations that make the check pass, in the order to apply. */
  readonly fix: readonly Operation[];
  /**
   * Seconds for which the observed records may still be cached, at the resolver that keeps them longest; null when no
   * resolver gave a TTL.
   */
  readonly ttl: number | null;
  /** Seconds after which another look can give a better result; null where it cannot. */
  readonly retryAfter: number | null;
  /** One for each question of the check and each resolver; none for `dkim`. */
  readonly resolvers: readonly ResolverEvidence[];
}

export interface Explaining extends Evidence {
  readonly assessment: Assessment;
}

/** The wait before asking again where the DNS gives no time of its own, in seconds. */
const usualRetry = 60;
/** The wait before asking again where SES looks by itself and does not say when, in seconds. */
const sesRetry = 300;
/** The shortest wait, in seconds: sooner than this the same answer may be given again. */
const soonestRetry = 10;
/** The shortest TTL for which a hint mentions that caches keep the old value, in seconds. */
const longTtl = 3_600;

/** Gives the questions that explain a finding and have no answer yet; none where the finding needs no explanation. */
export function clueQuestions(domain: Expected, finding: Finding, evidence: Evidence): Question[] {
  const check = checkNamed(finding.check);
  if (!check) return [];
  const wanted = check.clues?.(domain, finding, evidence) ?? [];
  const all = evidence.clues.with(evidence.answers);
  const { open, loop } = traceLoop(finding, all);
  const more = isMendable(check, finding, loop && 'cname_loop') ? adviceQuestions(check, domain, wanted, all) : [];
  return unique([...wanted, ...(open ? [open] : []), ...more]).filter((question) => !evidence.clues.has(question));
}

/** Gives the names whose records a fix changes. What Amazon SES decides about is looked up for its own fix alone. */
const namesOf = (domain: Expected, check: Check): NameToRead[] =>
  checksOf(domain).flatMap((each) => (each.authority === 'dns' || each === check ? each.reads(domain) : []));

/** Gives the questions that tell what is stored in the zone, and then what becomes of it by our advice. */
function adviceQuestions(check: Check, domain: Expected, clues: readonly Question[], all: Answers): Question[] {
  const zone = registrableDomain(domain.name);
  const own = clues.filter(({ name }) => name.endsWith(`.${zone}`));
  const names = namesOf(domain, check);
  // Of a domain that only sends, no look asks for the MX.
  const mail: Question = { type: 'MX', name: domain.name };
  const open = [
    ...(all.has(mail) ? [] : [mail]),
    ...openTraces(names, all),
    ...own.flatMap((question) => trace(question, all).open ?? []),
  ];
  if (open.length > 0) return open;
  const published = publishedIn(names, all);
  return rehearsalQuestions(domain, published, remedy(domain, check, published), [check]);
}

/** Gives one explanation for each finding, in their order. */
export const explain = (domain: Expected, explaining: Explaining): Explained[] =>
  explaining.assessment.findings.flatMap((finding) => {
    const check = checkNamed(finding.check);
    return check ? [explainOne(check, domain, finding, explaining)] : [];
  });

function explainOne(check: Check, domain: Expected, finding: Finding, explaining: Explaining): Explained {
  const resolvers = evidenceOf(check.questions(domain), explaining.answers);
  const ttls = resolvers.flatMap((each) => each.ttl ?? []);
  const ttl = ttls.length > 0 ? Math.max(...ttls) : null;
  const refined = refinedOf(check, domain, finding, explaining);
  const all = explaining.clues.with(explaining.answers);
  const isKnown = (read: NameToRead) => check.authority === 'dns' || openTraces([read], all).length === 0;
  // Where there was no time to tell a CNAME from a wildcard's, nothing is said to be in place, or in the way.
  const published = publishedIn(namesOf(domain, check).filter(isKnown), all);
  const fix = fixOf(check, domain, finding, refined, published);
  const warnings = warningsOf(check, domain, finding, refined, explaining, published, fix);
  const [first] = warnings;
  const better = refined ?? (finding.code === 'ok' ? first : undefined) ?? finding;
  return {
    ...finding,
    code: better.code,
    message: cut(better.message, limits.text),
    severity: severityOf(finding, warnings),
    hint: hintOf(check, domain, finding, refined, explaining, ttl),
    warnings,
    fix,
    ttl,
    retryAfter: retryAfter(check, finding, ttl),
    resolvers,
  };
}

/**
 * Gives the seconds after which a look can verify the domain, if its records are mended now; null when all checks pass.
 */
export const retryAllAfter = (explained: readonly Explained[]): number | null =>
  explained.reduce<number | null>(
    (most, each) => (each.retryAfter === null ? most : Math.max(most ?? 0, each.retryAfter)),
    null,
  );

const evidenceOf = (questions: readonly Question[], answers: Answers): ResolverEvidence[] =>
  questions
    .flatMap(({ type, name }): readonly Answer<unknown>[] => answers.at(type, name) ?? [])
    .map((answer) => ({
      answer: answer.kind,
      aliases: 'aliases' in answer ? cutList(answer.aliases, limits.evidence) : [],
      ...('reason' in answer && { reason: cut(answer.reason) }),
      ...answer.evidence,
      ...(answer.evidence?.extendedErrors && { extendedErrors: cutErrors(answer.evidence.extendedErrors) }),
    }));

/** Shows as many errors as `limits.evidence` takes; RFC 8914 expects one or two, with a short text. */
function cutErrors(errors: NonNullable<AnswerEvidence['extendedErrors']>): typeof errors {
  const texts = cutList(
    errors.map(({ text }) => text),
    limits.evidence,
  );
  return texts.map((text, i) => ({ code: errors[i]!.code, text }));
}

/** @param warnings the worst first. */
function severityOf({ outcome, decides }: Finding, [worst]: readonly Warning[]): Severity {
  if (outcome === 'fail') return decides === false ? 'warning' : 'blocking';
  return outcome === 'indeterminate' ? 'warning' : (worst?.severity ?? 'info');
}

const rank = ['breaking', 'warning', 'info'];

/** Gives the warnings of a finding, the worst first. A pass with a code other than `ok` is a warning itself. */
function warningsOf(
  check: Check,
  domain: Expected,
  finding: Finding,
  refined: Refined | undefined,
  evidence: Evidence,
  published: Published,
  fix: readonly Operation[],
): Warning[] {
  const { outcome, code, message } = finding;
  const own: Warning[] =
    outcome !== 'pass' || code === 'ok' ? [] : [{ code, severity: check.severities?.[code] ?? 'info', message }];
  const advised = isMendable(check, finding, refined?.code)
    ? adviceWarnings(check, domain, refined ?? finding, published, fix)
    : [];
  const found = [...own, ...(check.warnings?.(domain, finding, evidence) ?? [])];
  const all = [...found, ...advised.filter((each) => !found.some((one) => one.code === each.code))];
  return all
    .map((each) => ({ ...each, message: cut(each.message, limits.text) }))
    .sort((a, b) => rank.indexOf(a.severity) - rank.indexOf(b.severity));
}

/** Says what our own verdicts say of the zone once the fix is carried out. */
function adviceWarnings(
  check: Check,
  domain: Expected,
  { code }: Pick<Finding, 'code'>,
  published: Published,
  fix: readonly Operation[],
): Warning[] {
  if (code === 'dname_above') return [];
  const said = fix.length > 0 ? planWarnings(domain, published, fix, [check]) : obstacles(domain, published, [check]);
  return said.map((each) => ({ ...each, severity: each.severity === 'blocking' ? 'breaking' : each.severity }));
}

/** Finds a more precise code and message; where a wildcard answers for the name, the message says so. */
function refinedOf(check: Check, domain: Expected, finding: Finding, evidence: Evidence): Refined | undefined {
  const all = evidence.clues.with(evidence.answers);
  const refined =
    loopOfDnames(domain, finding, all) ??
    loopConclusion(finding, traceLoop(finding, all)) ??
    check.refine?.(domain, finding, evidence);
  const { name, outcome } = finding;
  // A finding of this look has the type of a question of its check.
  const type = refined?.code === 'cname_loop' ? 'CNAME' : (finding.type as Question['type']);
  const { source } = trace({ type, name }, all);
  if (outcome !== 'fail' || source?.kind !== 'wildcard') return refined;
  const { code, message } = refined ?? finding;
  const told =
    code === 'cname_at_name' || code === 'cname_loop'
      ? `There is no record at ${name} itself: the wildcard ${source.owner} answers for it, with a CNAME. Place the records of Sendmux here.`
      : message;
  return {
    ...refined,
    code,
    message: `${told} The wildcard ${source.owner} answers for ${name} now, and all that it serves there stops with the first record that is placed (RFC 4592 section 2.2.1).`,
  };
}

/** Says of a name for which resolvers fail that it stands below a DNAME, so that no CNAME is stored there. */
function loopOfDnames({ name: domain }: Expected, { code, name }: Finding, followed: Answers): Refined | undefined {
  const dname = code === 'dns_servfail' || code === 'cname_loop' ? dnameAbove({ followed }, name) : undefined;
  if (!dname) return undefined;
  const { loop } = cnameChain(domain, followed);
  return { code: 'dname_above', message: dnameAboveName(domain, name, dname, loop !== undefined) };
}

function hintOf(
  check: Check,
  domain: Expected,
  finding: Finding,
  refined: Refined | undefined,
  { clues, answers }: Evidence,
  ttl: number | null,
): string | null {
  const { outcome, observed } = finding;
  const { code } = refined?.code === 'dname_above' ? refined : finding;
  if (outcome === 'pass') return null;
  const { name, loop } = traceLoop(finding, clues.with(answers));
  const hints =
    code === 'dname_above'
      ? ['No record can be placed here: take a name that is not below the DNAME, or remove the DNAME.']
      : loop
        ? [
            `These CNAMEs form the loop: ${cut(writtenLoop(loop))}. Not one of them may lead back to an earlier one.`,
            // What is in the way is a CNAME, as anywhere.
            ...(name === finding.name ? check.hints(domain, { ...finding, code: 'cname_at_name' }) : []),
          ]
        : unseen.has(code)
          ? ['No record can be seen until this is mended, whatever it says.']
          : check.hints(domain, finding);
  const isCached = outcome === 'fail' && observed.length > 0 && ttl !== null && ttl >= longTtl;
  const cached = isCached
    ? [`Resolvers may keep the old value for up to ${Math.ceil(ttl / 3_600)} h after you change it.`]
    : [];
  return [...cached, ...hints].join(' ');
}

/** Gives the operations that make the check pass; none where no record is to blame. */
function fixOf(
  check: Check,
  domain: Expected,
  finding: Finding,
  refined: Refined | undefined,
  published: Published,
): Operation[] {
  if (!isMendable(check, finding, refined?.code)) return [];
  const operations = remedy(domain, check, published);
  if (!refined?.misplaced) return operations;
  const { name, type, value } = refined.misplaced;
  const reason = 'Nobody looks for it here.';
  return [{ action: 'delete', name, type, values: [value], replaces: [], ttl: null, reason }, ...operations];
}

/** Tells whether a record of the customer is to blame, so that there is something to place. */
const isMendable = (check: Check, finding: Finding, code = finding.code): boolean =>
  finding.outcome === 'fail' && !unseen.has(code) && !check.isOurs?.(finding);

function retryAfter(check: Check, { outcome, code }: Finding, ttl: number | null): number | null {
  if (outcome === 'pass') return null;
  if (check.authority === 'ses') return sesRetry;
  return Math.max(soonestRetry, ttl ?? (code === 'resolver_disagreement' ? 2 * usualRetry : usualRetry));
}
