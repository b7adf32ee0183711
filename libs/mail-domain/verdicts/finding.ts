/** What is the same for every question to the DNS: an answer that is none, one that is not agreed on, none at all. */
import type { CheckName, Finding } from '../findings';
import { quorum, type Answer, type Definite } from './quorum';

/** What a check comes to, without what it was about. */
export type Said = Pick<Finding, 'outcome' | 'code' | 'message'>;
export const pass = (code = 'ok', message = 'The record is in place.'): Said => ({ outcome: 'pass', code, message });
export const fail = (code: string, message: string): Said => ({ outcome: 'fail', code, message });
export const undecided = (code: string, message: string): Said => ({ outcome: 'indeterminate', code, message });

export const unanswered = (type: string, name: string): Said =>
  undecided(
    'resolver_unreachable',
    `We could not look up ${type} at ${name} just now; nothing has changed. Try again in a minute.`,
  );

export const propagating = (type: string, name: string): Said =>
  undecided(
    'resolver_disagreement',
    `Resolvers still give different answers for ${type} at ${name}: the change is propagating. Wait 2–5 minutes and retry.`,
  );

export const servfail = (name: string): Said =>
  fail(
    'dns_servfail',
    `Your DNS provider’s name servers fail for ${name} (SERVFAIL). Check the zone with your provider.`,
  );

const bogus = (name: string): Said =>
  fail(
    'dnssec_bogus',
    `The DNSSEC signatures of ${name} do not validate, so resolvers refuse to answer for it (RFC 4035 section 5.5). Sign the zone again, or mend or remove the DS record at your registrar.`,
  );

export interface Question<Rr> {
  readonly check: CheckName;
  readonly type: Finding['type'];
  readonly name: string;
  readonly expected: string;
  readonly present: (rr: Rr) => string;
  /** Nobody has such a record. */
  readonly missing: (kind: 'nxdomain' | 'nodata') => Said;
  readonly decide: (records: readonly Rr[], aliases: readonly string[]) => Said;
}

export function finding<Rr>(question: Question<Rr>, answers: readonly Answer<Rr>[]): Finding {
  const { check, type, name, expected, present } = question;
  const inOrder = (rrs: readonly Rr[]): [string, Rr][] =>
    rrs.map((rr): [string, Rr] => [present(rr), rr]).sort(([a], [b]) => (a < b ? -1 : 1));
  // Servers rotate the order of records; the words of a finding must not change with it.
  const decided = (answer: Definite<Rr>): Said =>
    answer.kind !== 'records' && answer.aliases.length === 0
      ? question.missing(answer.kind)
      : question.decide(answer.kind === 'records' ? inOrder(answer.records).map(([, rr]) => rr) : [], answer.aliases);
  // Resolvers differ between NXDOMAIN and NODATA while a record propagates; neither has the record.
  const meaning = (answer: Definite<Rr>) => {
    if (answer.kind !== 'records' && answer.aliases.length === 0) return 'nothing';
    const { outcome, code } = decided(answer);
    // A warning that one of them does not give yet is no other answer.
    return outcome === 'pass' ? outcome : code;
  };

  const answer = quorum(answers, meaning);
  const observed = 'records' in answer ? [...new Set(inOrder(answer.records).map(([text]) => text))] : [];
  const say = (): Said => {
    switch (answer.kind) {
      case 'unreachable':
        return unanswered(type, name);
      case 'disagreement':
        return propagating(type, name);
      case 'servfail':
        return answer.bogus ? bogus(name) : servfail(name);
      default:
        return decided(answer);
    }
  };
  // Property by property: five of these are made at each look of the cycle, and to spread two objects takes ten times as long.
  const { outcome, code, message } = say();
  return { check, name, type, expected, observed, outcome, code, message };
}

export const parentOf = (name: string): string => name.slice(name.indexOf('.') + 1);

export const cnameAtName = (name: string, target: string): Said =>
  fail(
    'cname_at_name',
    `${name} is a CNAME to ${target}. A name with a CNAME can have no MX or TXT record (RFC 1034 section 3.6.2): remove the CNAME, or add a subdomain of its own for mail.`,
  );
