import { dmarcValue } from './records';
import { isDmarc } from './verdicts/dmarc';

type Policy = 'none' | 'quarantine' | 'reject';
const policies: readonly Policy[] = ['none', 'quarantine', 'reject'];
const stronger = (a: Policy, b: Policy): Policy => (policies.indexOf(a) > policies.indexOf(b) ? a : b);

type Tag = readonly [name: string, value: string];

/** What was meant as a DMARC record, as a receiver would have read it. */
function mended(text: string): string | undefined {
  const bare = text.replace(/^[\s"'\\]+|[\s"'\\]+$/g, '').replace(/^v\s*=\s*dmarc1/i, 'v=DMARC1');
  const separated = /^v=DMARC1\s+[a-z]+\s*=/i.test(bare) ? bare.replace(/\s+(?=[a-z]+\s*=)/gi, '; ') : bare;
  return isDmarc(separated) ? separated : undefined;
}

export const looksLikeDmarc = (text: string): boolean => mended(text) !== undefined;

function tagsOf(text: string): Tag[] {
  return text.split(';').flatMap((part): Tag[] => {
    const match = /^\s*([a-z][a-z0-9]*)\s*=\s*(.*?)\s*$/is.exec(part);
    return match ? [[match[1]!.toLowerCase(), match[2]!]] : [];
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
  const written = [...records].sort().flatMap((text) => tagsOf(mended(text) ?? ''));
  const lists = [...records].sort().map((text) => tagsOf(mended(text) ?? ''));
  if (records.length === 0) return inherited === 'reject' ? 'v=DMARC1; p=reject' : dmarcValue;
  const policy = policiesOf(written, 'p').reduce(stronger, 'quarantine');
  const merged = new Map<string, string>();
  for (const [name, value] of written) {
    const before = merged.get(name);
    if (before === undefined) merged.set(name, value);
    else if (name === 'rua' || name === 'ruf')
      merged.set(name, [...new Set(`${before},${value}`.split(',').map((uri) => uri.trim()))].join(','));
  }
  for (const fixed of ['v', 'p', 'sp']) merged.delete(fixed);
  // Without sp=, the policy holds for subdomains too: it stays away unless every record has one.
  const subdomains = lists.every((tags) => policiesOf(tags, 'sp').length > 0) ? policiesOf(written, 'sp') : [];
  return [
    'v=DMARC1',
    `p=${policy}`,
    ...(subdomains.length > 0 ? [`sp=${subdomains.reduce(stronger)}`] : []),
    ...[...merged].map(([name, value]) => `${name}=${value}`),
  ].join('; ');
}
