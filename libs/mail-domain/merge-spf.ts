import { spfIncludes } from './records';
import { trimmed, whiteSpace } from './trimmed';
import { isSpf, parseSpf } from './verdicts/spf';

/** What was meant as an SPF record, whatever stands before or around it. */
export const looksLikeSpf = (text: string): boolean => isSpf(withoutWrapping(text));

/** Dashes of typographers, as UTF-8 has them, a character a byte. */
const dashes = /\xe2\x80[\x90-\x95]/g;

/** No byte above ASCII has a place in a record: what there is of them is a dash, or cannot be seen. */
const withoutWrapping = (text: string): string =>
  trimmed(
    text
      .replace(dashes, '-')
      .replace(/[\x80-\xff]/g, '')
      .replace(/^[\s"'\\]+/, ''),
    `${whiteSpace}"'\\`,
  ).replace(/\s/g, ' ');

const isAll = (term: string): boolean => /^[-+~?]?all$/i.test(term);
const isRedirect = (term: string): boolean => /^redirect=/i.test(term);
const isValid = (term: string): boolean => !('syntaxError' in parseSpf(`v=spf1 ${term}`));
const isOurs = (term: string): boolean =>
  spfIncludes.some((host) => new RegExp(`^[-+~?]?include:${host.replace(/\./g, '\\.')}\\.?$`, 'i').test(term));

/** From the strictest to the loosest. */
const strictness = ['-', '~', '?', '+'];
const strictest = (alls: readonly string[]): string =>
  alls
    .map((all) => (all.length === 3 ? '+' : all[0]!))
    .reduce((a, b) => (strictness.indexOf(a) < strictness.indexOf(b) ? a : b));

/**
 * One SPF record that authorises us and whoever the records there authorise: our includes first, every other valid term
 * once, then the strictest `all` among them. Terms that no receiver can read are left out (`leftOutOfSpf`).
 *
 * @param records those that are or were meant as SPF records; none gives ours alone.
 */
export function mergeSpf(records: readonly string[]): string {
  // Sorted: resolvers give records in any order, and equal answers give equal plans.
  const written = [...records].sort().map(termsOf);
  const alls = written.flat().filter(isAll);
  const redirects = written.flatMap((terms) => (terms.some(isAll) ? [] : terms.filter(isRedirect).slice(0, 1)));
  const single = written.length === 1 && redirects.length === 1;
  const kept = written.flatMap((terms) => terms.filter((term) => !isAll(term) && !isRedirect(term) && !isOurs(term)));
  // Beside other records, a redirect would end as theirs do not; as an include it authorises the same senders.
  const included = single ? [] : redirects.map((term) => `include:${term.slice('redirect='.length)}`);
  const end = single ? redirects[0]! : alls.length > 0 ? `${strictest(alls).replace('+', '')}all` : '~all';

  const seen = new Set<string>();
  const once = (term: string) => {
    const key = /^exp=/i.test(term) ? 'exp' : term.toLowerCase();
    return !seen.has(key) && seen.add(key) !== undefined;
  };
  const ours = spfIncludes.map((host) => `include:${host}`);
  return ['v=spf1', ...ours, ...[...kept, ...included].filter(once), end].join(' ');
}

/** The terms that `mergeSpf` leaves out: no receiver can read them, and what was meant, nobody can tell. */
export const leftOutOfSpf = (records: readonly string[]): string[] => [
  ...new Set([...records].sort().flatMap((record) => writtenIn(record).filter((term) => !isValid(term)))),
];

const termsOf = (record: string): string[] => writtenIn(record).filter(isValid);

/**
 * Its terms, with the slips mended that hide a whole term, or turn it into another one: a space after a colon or a qualifier,
 * commas for spaces, a long dash, and what somebody has put behind `all`.
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
