import { trimmed, whiteSpace } from '../../trimmed';
import { unescaped } from '../slips';
import { isSpf, parseTerm, spfIncludes } from './record';

/** What was meant as an SPF record, whatever stands before or around it. */
export const looksLikeSpf = (text: string): boolean => isSpf(withoutWrapping(text));

/** Dashes of typographers, as UTF-8 has them, a character a byte. */
const dashes = /\xe2\x80[\x90-\x95]/g;

/**
 * No byte above ASCII has a place in a record: what there is of them is a dash, or cannot be seen. Nor has a backslash,
 * which comes from a zone file.
 */
const withoutWrapping = (text: string): string =>
  trimmed(
    unescaped(text)
      .replace(dashes, '-')
      .replace(/[\x80-\xff]/g, '')
      .replace(/^[\s"'\\]+/, ''),
    `${whiteSpace}"'\\`,
  ).replace(/\s/g, ' ');

const isAll = (term: string): boolean => /^[-+~?]?all$/i.test(term);
const isModifier = (term: string): boolean => /^[a-z][a-z0-9_.-]*=/i.test(term);
const isRedirect = (term: string): boolean => /^redirect=/i.test(term);
/** A word without a space in it is read as one term. */
const isValid = (term: string): boolean => parseTerm(term) !== undefined;
const isIncludeOf = (term: string, hosts: readonly string[]): boolean => {
  const host = /^[-+~?]?include:(.+?)\.?$/i.exec(term)?.[1];
  return host !== undefined && hosts.includes(host.toLowerCase());
};

/** The qualifiers of `all`, from the strictest to the loosest. */
const strictness = ['-', '~', '?', '+'];
const strictest = (alls: readonly string[]): string =>
  alls
    .map((all) => (all.length === 3 ? '+' : all[0]!))
    .reduce((a, b) => (strictness.indexOf(a) < strictness.indexOf(b) ? a : b));

/**
 * One SPF record that authorises us and whoever the records there authorise: our includes first, every other valid term
 * that is read once, then the strictest `all` among them. What stands behind an `all`, where nobody reads it (RFC 7208
 * section 5.1), authorises nobody afterwards either (`behindAll`). Terms that no receiver can read are left out
 * (`leftOutOfSpf`), and those with a target that is lost.
 *
 * @param records those that are or were meant as SPF records; none gives ours alone.
 * @param includes what the record has to authorise.
 * @param isLost whether nobody finds a record at the target of an include or a redirect.
 */
export function mergeSpf(
  records: readonly string[],
  includes: readonly string[] = spfIncludes,
  isLost: (target: string) => boolean = nothingLost,
): string {
  // Sorted: resolvers give records in any order, and equal answers give equal plans.
  const written = [...records].sort().map((record) => termsOf(record).read.filter((term) => !isLostTerm(term, isLost)));
  const alls = written.flat().filter(isAll);
  const redirects = written.flatMap((terms) => (terms.some(isAll) ? [] : terms.filter(isRedirect).slice(0, 1)));
  const single = written.length === 1 && redirects.length === 1;
  const isKept = (term: string) => !isAll(term) && !isRedirect(term) && !isIncludeOf(term, includes);
  const kept = written.flatMap((terms) => terms.filter(isKept));
  // Beside other records, a redirect would end as theirs do not; as an include it authorises the same senders.
  const included = single ? [] : redirects.map((term) => `include:${term.slice('redirect='.length)}`);
  const end = single ? redirects[0]! : alls.length > 0 ? `${strictest(alls).replace('+', '')}all` : '~all';

  const seen = new Set<string>();
  const once = (term: string) => {
    // The case of a macro's letter has a meaning (section 7.3).
    const key = /^exp=/i.test(term) ? 'exp' : term.includes('%') ? term : term.toLowerCase();
    return !seen.has(key) && seen.add(key) !== undefined;
  };
  const ours = includes.map((host) => `include:${host}`);
  return ['v=spf1', ...ours, ...[...kept, ...included].filter(once), end].join(' ');
}

/** The terms that `mergeSpf` leaves out: no receiver can read them, and what was meant, nobody can tell. */
export const leftOutOfSpf = (records: readonly string[]): string[] => [
  ...new Set([...records].sort().flatMap((record) => writtenIn(record).filter((term) => !isValid(term)))),
];

/** The terms that `mergeSpf` leaves out because they stand behind an `all`: whom they name does not pass now either. */
export const behindAll = (records: readonly string[]): string[] => [
  ...new Set([...records].sort().flatMap((record) => termsOf(record).behind)),
];

/** Tells whether a merge gives an end to records that have none, so that mail from elsewhere is no longer neutral. */
export const lacksEnd = (records: readonly string[], isLost: (target: string) => boolean = nothingLost): boolean => {
  const isEnd = (term: string) => isAll(term) || (isRedirect(term) && !isLostTerm(term, isLost));
  return records.length > 0 && !records.some((record) => termsOf(record).read.some(isEnd));
};

/** Gives the targets of the includes and redirects that `mergeSpf` keeps, each once; macros have none. */
export const spfTargets = (records: readonly string[]): string[] => [
  ...new Set(records.flatMap((record) => termsOf(record).read.flatMap((term) => targetOf(term) ?? []))),
];

/** The includes and redirects that `mergeSpf` leaves out because their target is lost. */
export const lostTerms = (records: readonly string[], isLost: (target: string) => boolean): string[] => [
  ...new Set([...records].sort().flatMap((record) => termsOf(record).read.filter((term) => isLostTerm(term, isLost)))),
];

const nothingLost = () => false;

function targetOf(term: string): string | undefined {
  const read = parseTerm(term);
  const leads = read?.name === 'include' || (read?.kind === 'modifier' && read.name === 'redirect');
  return leads && !read.value.includes('%') ? read.value : undefined;
}

function isLostTerm(term: string, isLost: (target: string) => boolean): boolean {
  const target = targetOf(term);
  return target !== undefined && isLost(target);
}

/** Gives the valid terms of a record; modifiers count wherever they stand, mechanisms not behind an `all`. */
function termsOf(record: string): { readonly read: string[]; readonly behind: string[] } {
  const terms = writtenIn(record).filter(isValid);
  const end = terms.findIndex(isAll);
  if (end < 0) return { read: terms, behind: [] };
  const later = terms.slice(end + 1);
  return {
    read: [...terms.slice(0, end + 1), ...later.filter((term) => isModifier(term) && !isRedirect(term))],
    behind: later.filter((term) => !isModifier(term) && !isAll(term) && !isIncludeOf(term, spfIncludes)),
  };
}

/**
 * Gives the terms of a record after mending the typos that hide a term or turn it into another one: a space after a
 * colon or a qualifier, commas for spaces, a long dash, and terms behind `all`.
 */
function writtenIn(record: string): string[] {
  const text = withoutWrapping(record)
    .slice('v=spf1'.length)
    .replace(/: +/g, ':')
    .replace(/(?<= )([-+~?]) +(?=[a-z])/gi, '$1')
    .replace(/(?<= )([-+~?]?all)[;.,]+(?= |$)/gi, '$1');
  return text
    .split(' ')
    .filter((term) => term !== '')
    .flatMap((term) => (isValid(term) ? [term] : term.split(',').filter((part) => part !== '')));
}
