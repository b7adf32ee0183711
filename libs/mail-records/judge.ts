/**
 * Judges the answers of a look. Pure and stable: equal answers give equal findings, whatever order their records came
 * in. The tests name the rows of the table of cases.
 */
import { unique, type Answers, type Question } from './answers';
import type { DkimAnswer, Expected, Requirement } from './check';
import { checksOf } from './checks';
import type { Assessment, Dnssec, Finding } from './findings';

/** Gives the questions that a look asks each resolver, each once. */
export const questionsOf = (domain: Expected): Question[] =>
  unique(checksOf(domain).flatMap((check) => check.questions(domain)));

/** Gives the next questions whose answers can change a finding; none when there are no more. */
export function followUps(domain: Expected, answers: Answers): Question[] {
  const next: Question[] = [];
  for (const check of checksOf(domain)) {
    const question = check.followUp?.(domain, answers);
    if (question) next.push(question);
  }
  return next;
}

/**
 * Gives one finding for each check of the domain, in the order of the list.
 *
 * @param required what the operator requires; other checks that depend on it are judged, and decide nothing.
 */
export function judge(
  domain: Expected,
  answers: Answers,
  dkim: DkimAnswer,
  required: readonly Requirement[] = [],
): Assessment {
  const findings = checksOf(domain).map((check): Finding => {
    const found = check.judge(domain, answers, dkim);
    return !check.requirement || required.includes(check.requirement) ? found : { ...found, decides: false };
  });
  const dnssec = dnssecOf(domain, findings, answers);
  return {
    findings,
    sesDkimStatus: dkim === 'unavailable' || dkim === 'identity_missing' ? null : dkim,
    ...(dnssec && { dnssec }),
  };
}

function dnssecOf(domain: Expected, findings: readonly Finding[], answers: Answers): Dnssec | undefined {
  if (findings.some(({ code }) => code === 'dnssec_bogus')) return 'bogus';
  let dnssec: Dnssec | undefined;
  for (const check of checksOf(domain))
    for (const { type, name } of check.questions(domain))
      for (const { kind, evidence } of answers.at(type, name) ?? []) {
        if (kind === 'servfail' || kind === 'unreachable') continue;
        if (evidence?.authenticated === undefined) return undefined;
        dnssec = evidence.authenticated && dnssec !== 'insecure' ? 'secure' : 'insecure';
      }
  return dnssec;
}
