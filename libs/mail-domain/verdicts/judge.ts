/**
 * The verdicts: what a set of answers says about a domain. Pure, and stable: equal answers give equal findings, whatever
 * order their records came in. Rows of the table of cases are named in the tests.
 */
import type { Assessment, Dnssec, Finding } from '../findings';
import type { DkimAnswer, DnsAnswers, Expected } from './expected';
import { judgeDkim } from './judge-dkim';
import { judgeDmarc } from './judge-dmarc';
import { judgeMx } from './judge-mx';
import { judgeOwnership } from './judge-ownership';
import { judgeSpf } from './judge-spf';

/** One finding a check, in the order of `checkNames`. */
export function judge(domain: Expected, answers: DnsAnswers, dkim: DkimAnswer): Assessment {
  const findings = [
    judgeMx(domain, answers.mx),
    judgeOwnership(domain, answers.verification),
    judgeSpf(domain, answers.spf, answers.spfTargets),
    judgeDmarc(domain, answers.dmarc),
    judgeDkim(domain, dkim),
  ];
  const dnssec = dnssecOf(findings, answers);
  return {
    findings,
    sesDkimStatus: dkim === 'unavailable' || dkim === 'identity_missing' ? null : dkim,
    ...(dnssec && { dnssec }),
  };
}

function dnssecOf(findings: readonly Finding[], { mx, spf, dmarc, verification }: DnsAnswers): Dnssec | undefined {
  if (findings.some(({ code }) => code === 'dnssec_bogus')) return 'bogus';
  let dnssec: Dnssec | undefined;
  for (const answers of [mx, spf, dmarc, verification])
    for (const { kind, evidence } of answers) {
      if (kind === 'servfail' || kind === 'unreachable') continue;
      if (evidence?.authenticated === undefined) return undefined;
      dnssec = evidence.authenticated && dnssec !== 'insecure' ? 'secure' : 'insecure';
    }
  return dnssec;
}
