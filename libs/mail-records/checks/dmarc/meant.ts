/** Reads what was meant as a DMARC record, where slips of the pen keep receivers from reading it so. */
import { trimmed, whiteSpace } from '../../trimmed';
import { unescaped } from '../slips';
import { isDmarc, parseDmarc, policies, policyIn, unknownPolicy, type Policy } from './record';

export type Tag = readonly [name: string, value: string];

/** The tags of RFC 7489 section 6.3 and RFC 9989. */
const known = 'adkim|aspf|fo|np|p|pct|psd|rf|ri|rua|ruf|sp|t|v';
const isKnown = new RegExp(`^(?:${known})$`);

/** What people write in the place of a semicolon, and what editors leave around a value. */
const marks = String.raw`[\s,:\\"']`;
const markCharacters = `${whiteSpace},:\\"'`;

/** The version, with whatever separates it from the first tag. */
const version = new RegExp(String.raw`^v\s*=\s*dmarc1(?=${marks}*(?:;|$|[a-z][a-z0-9]*\s*[=:]))`, 'i');

/**
 * The places where a tag begins without a semicolon before it: behind white space with any name; behind another mark
 * only with one that is known, since values have commas, colons and equals signs of their own.
 */
const beginnings = new RegExp(
  String.raw`(?<=\s)(?=[a-z][a-z0-9]*\s*=)|(?<=[,:\\"'])(?<!mailto:)(?=(?:${known})\s*=)`,
  'gi',
);

const tag = new RegExp(String.raw`^${marks}*([a-z][a-z0-9]*)\s*([=:])`, 'i');

/**
 * Gives the tags behind the version, with the slips mended that hide one: another mark for a semicolon, or none;
 * escapes of master files; quotes; characters that cannot be seen.
 *
 * @returns undefined for a text that was not meant as a DMARC record.
 */
export function tagsMeant(text: string): Tag[] | undefined {
  const plain = unescaped(text)
    .replace(/\xc2\xa0/g, ' ')
    .replace(/[^\s\x20-\x7e]/g, '');
  const bare = trimmed(plain, markCharacters);
  const start = version.exec(bare);
  if (!start) return undefined;
  return bare
    .slice(start[0].length)
    .split(';')
    .flatMap((part) => part.split(beginnings))
    .flatMap((part): Tag[] => {
      const match = tag.exec(part);
      if (!match) return [];
      const name = match[1]!.toLowerCase();
      const isTag = match[2] === '=' || isKnown.test(name);
      return isTag ? [[name, trimmed(part.slice(match[0].length), markCharacters)]] : [];
    });
}

export const looksLikeDmarc = (text: string): boolean => tagsMeant(text) !== undefined;

/** Whether a record has its policies as soon as slips between its tags are mended. */
export function isReadableMended(text: string): boolean {
  const mended = ['v=DMARC1', ...(tagsMeant(text) ?? []).map(([name, value]) => `${name}=${value}`)].join('; ');
  const record = parseDmarc(mended);
  return isDmarc(mended) && record.tags.has('p') && unknownPolicy(record) === undefined;
}

/** Gives the policy that a value was meant as: `rejected`, say, or one that was cut off. */
export function policyMeant(value: string): Policy | undefined {
  const letters = value.toLowerCase().replace(/[^a-z]/g, '');
  // What begins as "none" does may be anything, and is not to weaken a record.
  const longer = policies.find((policy) => policy !== 'none' && letters.startsWith(policy));
  return policyIn(letters) ?? longer ?? policies.find((policy) => letters.length > 2 && policy.startsWith(letters));
}
