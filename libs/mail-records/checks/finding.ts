/**
 * Turns the answers to one question into a finding. What does not depend on the check (no answer, no agreement) is
 * decided here.
 */
import { quorum, type Answer, type Definite, type Dname } from '../answers';
import type { Finding } from '../findings';
import { cut, cutList, limits } from '../limits';

/**
 * The name that resolvers fail for, which is not always that of the record. A symbol goes with each copy of a finding,
 * and into no JSON: events and answers are without it.
 */
const failed = Symbol('failed');
interface Failed {
  readonly [failed]?: string;
}

/** The part of a finding that a check decides; the rest names the record. */
export type Conclusion = Pick<Finding, 'outcome' | 'code' | 'message'> & Failed;
export const pass = (code = 'ok', message = 'The record is in place.'): Conclusion => ({
  outcome: 'pass',
  code,
  message,
});
export const fail = (code: string, message: string): Conclusion => ({ outcome: 'fail', code, message });
export const undecided = (code: string, message: string): Conclusion => ({ outcome: 'indeterminate', code, message });

export const unanswered = (type: string, name: string): Conclusion =>
  undecided(
    'resolver_unreachable',
    `We could not look up ${type} at ${name} just now; nothing has changed. Try again in a minute.`,
  );

export const propagating = (type: string, name: string): Conclusion =>
  undecided(
    'resolver_disagreement',
    `Resolvers still give different answers for ${type} at ${name}: the change is propagating. Wait 2–5 minutes and retry.`,
  );

/**
 * Concludes where all resolvers say SERVFAIL.
 *
 * @param loop of CNAMEs, where it is known.
 * @param remedy of the loop.
 */
export const servfail = (
  name: string,
  loop?: readonly string[],
  remedy = `Remove the CNAME at ${name}.`,
): Conclusion => ({
  ...(loop
    ? fail(
        'cname_loop',
        `The CNAMEs ${loop.includes(name) ? 'of' : 'behind'} ${name} form a loop, ${writtenLoop(loop)}, so resolvers find no record there (RFC 1034 section 3.6.2). ${remedy}`,
      )
    : fail(
        'dns_servfail',
        `Your DNS provider’s name servers fail for ${name} (SERVFAIL). Check the zone with your provider.`,
      )),
  [failed]: name,
});

/** Gives the name that resolvers fail for; undefined where the finding of this look has another reason. */
export const failedName = (finding: Finding & Failed): string | undefined => finding[failed];

/** Concludes where all resolvers say SERVFAIL at a name that the record leads to. */
export const servfailBehind = (target: string, loop?: readonly string[]): Conclusion =>
  servfail(target, loop, `Take ${target} out of the record, or have it mended by whoever publishes it.`);

/** Writes a loop of CNAMEs, such as `a.acme.com → b.acme.com → a.acme.com`. */
export const writtenLoop = (loop: readonly string[]): string => [...loop, loop[0]].join(' → ');

/** The codes of a zone whose records no resolver can see, so that nothing can be said about a record. */
export const unseen: ReadonlySet<string> = new Set(['dns_servfail', 'dnssec_bogus']);

const bogus = (name: string): Conclusion =>
  fail(
    'dnssec_bogus',
    `The DNSSEC signatures of ${name} do not validate, so resolvers refuse to answer for it (RFC 4035 section 5.5). Sign the zone again, or mend or remove the DS record at your registrar.`,
  );

/**
 * Says that no record can stand at a name below a DNAME, and what to do.
 *
 * @param isLoop whether the name that the domain is by the DNAME leads back to it, so that nobody can add it instead.
 */
export function dnameAboveName(domain: string, name: string, { owner, target }: Dname, isLoop = false): string {
  const instead =
    domain.endsWith(`.${owner}`) && !isLoop
      ? `Add ${domain.slice(0, -owner.length)}${target} to Sendmux instead, or remove the DNAME.`
      : 'Remove the DNAME.';
  return `${name} stands below ${owner}, which has a DNAME to ${target}: all names below it are those below ${target}, and no record can stand there (RFC 6672 section 2.4). ${instead}`;
}

export interface Expectation<Rr> {
  readonly check: string;
  /** The domain, for advice on another name. */
  readonly domain: string;
  readonly type: Finding['type'];
  readonly name: string;
  readonly expected: string;
  readonly present: (rr: Rr) => string;
  /** Concludes where no resolver has a record of the type. */
  readonly missing: (kind: 'nxdomain' | 'nodata') => Conclusion;
  readonly decide: (records: readonly Rr[], aliases: readonly string[]) => Conclusion;
}

export function finding<Rr>(expectation: Expectation<Rr>, answers: readonly Answer<Rr>[] = []): Finding {
  const { check, domain, type, name, expected, present } = expectation;
  const inOrder = (rrs: readonly Rr[]): readonly Rr[] => {
    if (rrs.length < 2) return rrs;
    const keyed = rrs.map((rr): [string, Rr] => [present(rr), rr]).sort(([a], [b]) => (a < b ? -1 : 1));
    return keyed.map(([, rr]) => rr);
  };
  const shown = (rrs: readonly Rr[]): string[] => {
    const unique = rrs.length < 2 ? rrs : [...new Map(inOrder(rrs).map((rr) => [present(rr), rr])).values()];
    // The note on a TXT record that is cut is about its octets, not about how they are shown.
    const isText = unique.every((rr) => typeof rr === 'string');
    return isText ? cutList(unique, limits.list, present as (text: string) => string) : cutList(unique.map(present));
  };
  // Servers rotate the order of records; the message of a finding must not change with it.
  const decide = (answer: Definite<Rr>): Conclusion =>
    answer.kind !== 'records' && answer.aliases.length === 0
      ? expectation.missing(answer.kind)
      : expectation.decide(answer.kind === 'records' ? inOrder(answer.records) : [], answer.aliases);
  // What the resolvers agree on has been decided when they were compared.
  const conclusions = new Map<Definite<Rr>, Conclusion>();
  const decided = (answer: Definite<Rr>): Conclusion => {
    const conclusion = conclusions.get(answer) ?? decide(answer);
    conclusions.set(answer, conclusion);
    return conclusion;
  };
  // Resolvers differ between NXDOMAIN and NODATA while a record propagates; neither has the record.
  const meaning = (answer: Definite<Rr>) => {
    if (answer.kind !== 'records' && answer.aliases.length === 0) return 'nothing';
    const { outcome, code } = decided(answer);
    // Passes agree even where one resolver does not see yet what another warns about.
    return outcome === 'pass' ? outcome : code;
  };

  const answer = quorum(answers, meaning);
  const observed = 'records' in answer ? shown(answer.records) : [];
  const say = (): Conclusion => {
    switch (answer.kind) {
      case 'unreachable':
        return unanswered(type, name);
      case 'disagreement':
        return propagating(type, name);
      case 'servfail':
        return answer.bogus ? bogus(name) : servfail(name, answer.loop);
      default: {
        const conclusion = decided(answer);
        return answer.dname && conclusion.outcome === 'fail'
          ? fail('dname_above', dnameAboveName(domain, name, answer.dname))
          : conclusion;
      }
    }
  };
  // Property by property: each look makes seven findings, and spreading two objects takes ten times as long.
  const { outcome, code, message, [failed]: failedAt } = say();
  const found: Finding = { check, name, type, expected, observed, outcome, code, message: cut(message, limits.text) };
  if (failedAt === undefined) return found;
  const withName: Finding & Failed = { ...found, [failed]: failedAt };
  return withName;
}

export const cnameAtName = (name: string, target: string): Conclusion =>
  fail(
    'cname_at_name',
    `${name} is a CNAME to ${target}. A name with a CNAME can have no MX or TXT record (RFC 1034 section 3.6.2): remove the CNAME (one that a wildcard gives stops with the first record that is placed here), or add a subdomain of its own for mail.`,
  );
