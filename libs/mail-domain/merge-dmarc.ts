import { dmarcValue } from './records';
import { trimmed, whiteSpace } from './trimmed';
import { isDmarc } from './verdicts/dmarc';

type Policy = 'none' | 'quarantine' | 'reject';
const policies: readonly Policy[] = ['none', 'quarantine', 'reject'];
const stronger = (a: Policy, b: Policy): Policy => (policies.indexOf(a) > policies.indexOf(b) ? a : b);

type Tag = readonly [name: string, value: string];

/** What was meant as a DMARC record, as a receiver would have read it. */
function mended(text: string): string | undefined {
  const bare = trimmed(text.replace(/[\x80-\xff]/g, ''), `${whiteSpace}"'\\`).replace(/^v\s*=\s*dmarc1/i, 'v=DMARC1');
  const separated = /^v=DMARC1\s+[a-z]+\s*=/i.test(bare) ? bare.replace(/(?<!\s)\s+(?=[a-z]+\s*=)/gi, '; ') : bare;
  return isDmarc(separated) ? separated : undefined;
}

export const looksLikeDmarc = (text: string): boolean => mended(text) !== undefined;

function tagsOf(text: string): Tag[] {
  return text.split(';').flatMap((part): Tag[] => {
    const match = /^\s*([a-z][a-z0-9]*)\s*=/i.exec(part);
    return match ? [[match[1]!.toLowerCase(), trimmed(part.slice(match[0].length), whiteSpace)]] : [];
  });
}

/** A value that means the policy; whatever else somebody wrote protects nobody. */
const policyOf = (value: string): Policy =>
  policies.find((policy) =>
    value
      .toLowerCase()
      .replace(/[^a-z]/g, '')
      .startsWith(policy),
  ) ?? 'none';

const policiesOf = (tags: readonly Tag[], name: string): Policy[] =>
  tags.filter(([tag]) => tag === name).map(([, value]) => policyOf(value));

/** The policy that a name inherits from the records of its parents: the strongest that one of them has for subdomains. */
export function inheritedPolicy(records: readonly string[]): Policy | undefined {
  const found = records.filter(isDmarc).map((text) => {
    const tags = tagsOf(text);
    return policiesOf(tags, 'sp')[0] ?? policiesOf(tags, 'p')[0] ?? 'none';
  });
  return found.length > 0 ? found.reduce(stronger) : undefined;
}

/**
 * One DMARC record that is at least as strong as each there, and at least p=quarantine; their other tags stay.
 *
 * @param records those that are or were meant as DMARC records.
 * @param inherited what holds for the name while it has no record of its own.
 */
export function mergeDmarc(records: readonly string[], inherited?: Policy): string {
  if (records.length === 0) return inherited === 'reject' ? 'v=DMARC1; p=reject' : dmarcValue;
  // Sorted: resolvers give records in any order, and equal answers give equal plans.
  const lists = [...records].sort().map((text) => tagsOf(mended(text) ?? ''));
  const written = lists.flat();
  const merged = new Map<string, string>();
  for (const [name, value] of written) {
    const before = merged.get(name);
    if (before === undefined) merged.set(name, value);
    else if (name === 'rua' || name === 'ruf')
      merged.set(name, [...new Set(`${before},${value}`.split(',').map((uri) => uri.trim()))].join(','));
    else if ((name === 'adkim' || name === 'aspf') && /^s$/i.test(value)) merged.set(name, value);
  }
  for (const decided of ['v', 'p', 'sp', 'pct', 't']) merged.delete(decided);

  const policy = policiesOf(written, 'p').reduce(stronger, 'quarantine');
  // These three weaken a record that has them, so that one without them is the stronger.
  const inAll = (name: string) => lists.every((tags) => tags.some(([tag]) => tag === name));
  const widest = policiesOf(written, 'sp').reduce(stronger, inAll('sp') ? 'none' : policy);
  const percentage = Math.max(...lists.flatMap(percentagesOf));
  const isTest = lists.every((tags) => tags.some(([tag, value]) => tag === 't' && /^y$/i.test(value)));
  return [
    'v=DMARC1',
    `p=${policy}`,
    ...(inAll('sp') || widest !== policy ? [`sp=${widest}`] : []),
    ...(percentage < 100 ? [`pct=${percentage}`] : []),
    ...(isTest ? ['t=y'] : []),
    ...[...merged].map(([name, value]) => `${name}=${value}`),
  ].join('; ');
}

function percentagesOf(tags: readonly Tag[]): number[] {
  const written = tags
    .filter(([tag]) => tag === 'pct')
    .map(([, value]) => (/^\d{1,2}$/.test(value) ? Number(value) : 100));
  return written.length > 0 ? written : [100];
}
