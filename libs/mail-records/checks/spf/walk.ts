/**
 * Where an SPF record leads: what it authorises through `include` and `redirect`, and how many look-ups a receiver
 * needs, as far as neither depends on the sender (RFC 7208 sections 4.6.4, 5.2 and 6.1).
 */
import { quorum, type Answer, type TxtRr } from '../../answers';
import { isSpf, parseSpf, type SpfTerm } from './record';

/** Terms that ask the DNS; a receiver gives up at the next one (section 4.6.4). */
export const spfLookupLimit = 10;
/** Look-ups that find nothing; a receiver may give up at the next one (section 4.6.4). */
export const spfVoidLimit = 2;

/** The SPF record of a name that another one leads to. */
export type SpfTarget =
  | { readonly kind: 'record'; readonly text: string }
  /** The name has no SPF record, or more than one. `isVoid` means that it has no TXT record at all. */
  | { readonly kind: 'none'; readonly isVoid: boolean; readonly isNxdomain: boolean }
  | { readonly kind: 'servfail'; readonly loop?: readonly string[] }
  | { readonly kind: 'unreachable' | 'disagreement' };

export interface SpfWalk {
  /**
   * Names whose senders are known to pass, each with the names that lead there: none for one that the record itself
   * includes.
   */
  readonly reached: ReadonlyMap<string, readonly string[]>;
  /**
   * The first name that has no SPF record, several, or one that cannot be read: an error of the whole (section 5.2).
   */
  readonly broken: string | undefined;
  /** Names whose SPF record nobody has asked for yet. */
  readonly open: readonly string[];
  /** What was asked for, by name, in the order of a receiver. */
  readonly targets: ReadonlyMap<string, SpfTarget>;
  /** Look-ups that the whole needs; one more than the limit where it goes beyond. */
  readonly lookups: number;
}

const noRecord: SpfTarget = { kind: 'none', isVoid: false, isNxdomain: false };

/** Nobody asks for a longer label or name: it has no SPF record (section 4.3; RFC 1035 section 2.3.4). */
const isDomain = (name: string): boolean => name.length <= 253 && name.split('.').every((label) => label.length <= 63);

const queries = new Set(['include', 'a', 'mx', 'ptr', 'exists']);

/**
 * Follows all terms of a record, as a receiver does for a sender that matches none of them. Macros depend on the
 * sender, so terms with macros are counted and not followed.
 *
 * @param text of an SPF record.
 * @param answersAt TXT at a name, by each resolver; undefined where nobody has asked.
 * @param leaves names that are counted and not followed.
 */
export function walkSpf(
  text: string,
  answersAt: (name: string) => readonly Answer<TxtRr>[] | undefined,
  leaves: readonly string[] = [],
): SpfWalk {
  let broken: string | undefined;
  const open = new Set<string>();
  const targets = new Map<string, SpfTarget>();
  let lookups = 0;

  const targetAt = (name: string): SpfTarget | undefined => {
    if (!isDomain(name)) return noRecord;
    const answers = answersAt(name);
    return answers && spfTarget(answers);
  };
  const follow = (name: string, path: readonly string[]): Senders => {
    const senders: Senders = new Map();
    if (name.includes('%')) return senders;
    // Nobody reads on after a broken one, and nobody knows whether one that has not been asked for is.
    if (broken === undefined && open.size === 0) senders.set(name, path);
    if (leaves.includes(name)) return senders;
    const target = targetAt(name);
    if (!target) open.add(name);
    else targets.set(name, target);
    if (target?.kind === 'none') broken ??= name;
    if (target?.kind === 'record') decideFirst(senders, visit(target.text, [...path, name]));
    return senders;
  };
  const visit = (record: string, path: readonly string[]): Senders => {
    const senders: Senders = new Map();
    const parsed = parseSpf(record);
    if ('syntaxError' in parsed) {
      broken ??= path.at(-1);
      return senders;
    }
    const read = readIn(parsed.terms);
    for (const term of read) {
      if (isEverybody(term) && isPass(term) && term.name === 'ip4') decideFirst(senders, [[everybody, path]]);
      if (term.kind !== 'mechanism' || !queries.has(term.name)) continue;
      // A loop of includes ends here as well.
      if (++lookups > spfLookupLimit) return senders;
      if (term.name !== 'include') continue;
      // An include matches only where the check of its target gives pass (section 5.2).
      for (const [name, via] of follow(term.value, path))
        if (via) decideFirst(senders, [[name, isPass(term) ? via : null]]);
      // No sender gets past a term that matches all of them.
      if (senders.get(everybody) === null) return senders;
    }
    const end = parsed.terms[read.length];
    if (end && isAll(end) && isPass(end)) decideFirst(senders, [[everybody, path]]);
    const redirect = parsed.terms.find((term) => term.kind === 'modifier' && term.name === 'redirect');
    // With an `all`, a redirect is never looked at (section 6.1).
    if (read.length === parsed.terms.length && redirect && ++lookups <= spfLookupLimit)
      decideFirst(senders, follow(redirect.value, path));
    return senders;
  };
  const reached = new Map<string, readonly string[]>();
  for (const [name, path] of visit(text, [])) if (path && name !== everybody) reached.set(name, path);
  return { reached, broken, open: [...open], targets, lookups: Math.min(lookups, spfLookupLimit + 1) };
}

/** What becomes of the senders of each name: the names that lead there when they pass, null when they do not. */
type Senders = Map<string, readonly string[] | null>;

/** Stands for all senders with IPv4 addresses in `Senders`. */
const everybody = '*';

/** The first match decides (section 4.6.2). */
function decideFirst(senders: Senders, later: Iterable<readonly [string, readonly string[] | null]>): void {
  for (const [name, path] of later) if (!senders.has(name)) senders.set(name, path);
}

export const isAll = (term: SpfTerm): boolean => term.kind === 'mechanism' && term.name === 'all';
/** `ip4:…/0` and `ip6:…/0`: as good as `all`, for senders of that family. */
export const isEverybody = (term: SpfTerm): boolean => term.kind === 'mechanism' && term.value === '/0';
/**
 * What is read of a record for our senders, which have IPv4 addresses: nothing after `all` (section 5.1), nor after
 * what turns all of these away.
 */
export function readIn(terms: readonly SpfTerm[]): readonly SpfTerm[] {
  const end = terms.findIndex(
    (term) => isAll(term) || (term.kind === 'mechanism' && term.name === 'ip4' && isEverybody(term) && !isPass(term)),
  );
  return end < 0 ? terms : terms.slice(0, end);
}
export const isPass = (term: SpfTerm): boolean => term.kind === 'mechanism' && /^\+?$/.test(term.qualifier);

/** Gives the answer of the resolvers where they agree about the SPF records of a name; other TXT records may differ. */
export const agreedSpf = (answers: readonly Answer<TxtRr>[]) =>
  quorum(answers, (definite) =>
    definite.kind === 'records' ? JSON.stringify(definite.records.filter(isSpf).sort()) : 'nothing',
  );

function spfTarget(answers: readonly Answer<TxtRr>[]): SpfTarget {
  const answer = agreedSpf(answers);
  switch (answer.kind) {
    case 'records': {
      const records = answer.records.filter(isSpf);
      // Several of the same are several all the same (section 4.5).
      return records.length === 1 ? { kind: 'record', text: records[0]! } : noRecord;
    }
    case 'nodata':
    case 'nxdomain':
      return { kind: 'none', isVoid: true, isNxdomain: answer.kind === 'nxdomain' };
    default:
      return answer;
  }
}
