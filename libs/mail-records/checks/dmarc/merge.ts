import { policyMeant, tagsMeant, type Tag } from './meant';
import { dmarcValue, isDmarc, parseDmarc, policies, policyIn, unknownPolicy, type Policy } from './record';

const stronger = (a: Policy, b: Policy): Policy => (policies.indexOf(a) > policies.indexOf(b) ? a : b);

/** Gives the policies that tags of a name were meant as; what nobody can read is as good as not there. */
const policiesOf = (tags: readonly Tag[], name: string): Policy[] =>
  tags.flatMap(([tag, value]) => (tag === name ? (policyMeant(value) ?? []) : []));

/**
 * The policy that a name inherits from the records of its parents, as receivers read them: the strongest that one of
 * them has for subdomains, and none of a record that is not valid.
 */
export function inheritedPolicy(records: readonly string[]): Policy | undefined {
  const found = records.filter(isDmarc).map((text): Policy => {
    const record = parseDmarc(text);
    if (record.repeated !== undefined || unknownPolicy(record) !== undefined) return 'none';
    return policyIn(record.tags.get('sp') ?? record.tags.get('p')) ?? 'none';
  });
  return found.length > 0 ? found.reduce(stronger) : undefined;
}

/**
 * One DMARC record that is at least as strong as each there, and at least p=quarantine; their other tags stay. Policies
 * for names below that nobody can read are left out, so that the record's own holds there.
 *
 * @param records those that are or were meant as DMARC records.
 * @param inherited what holds for the name while it has no record of its own.
 */
export function mergeDmarc(records: readonly string[], inherited?: Policy): string {
  if (records.length === 0) return inherited === 'reject' ? 'v=DMARC1; p=reject' : dmarcValue;
  // Sorted: resolvers give records in any order, and equal answers give equal plans.
  const lists = [...records].sort().map((text) => tagsMeant(text) ?? []);
  const written = lists.flat();
  const policy = policiesOf(written, 'p').reduce(stronger, 'quarantine');
  const subdomains = policyBelow('sp', lists, policy);
  const absent = policyBelow('np', lists, subdomains ?? policy);
  const percentage = lists.flatMap(percentagesOf).reduce((most, each) => Math.max(most, each), 0);
  const isTest = lists.every((tags) => tags.some(([tag, value]) => tag === 't' && /^y$/i.test(value)));
  return [
    'v=DMARC1',
    `p=${policy}`,
    ...(subdomains ? [`sp=${subdomains}`] : []),
    ...(absent ? [`np=${absent}`] : []),
    ...(percentage < 100 ? [`pct=${percentage}`] : []),
    ...(isTest ? ['t=y'] : []),
    ...otherTags(written),
  ].join('; ');
}

/**
 * The policy for names below. It weakens a record that has it, so that one without it is the stronger.
 *
 * @param otherwise what holds there without it.
 * @returns undefined where the record needs none.
 */
function policyBelow(name: 'sp' | 'np', lists: readonly (readonly Tag[])[], otherwise: Policy): Policy | undefined {
  const each = lists.map((tags) => policiesOf(tags, name));
  const inAll = each.every((found) => found.length > 0);
  const widest = each.flat().reduce(stronger, inAll ? 'none' : otherwise);
  return inAll || widest !== otherwise ? widest : undefined;
}

const decided: ReadonlySet<string> = new Set(['v', 'p', 'sp', 'np', 'pct', 't']);

/**
 * Gives the tags that say nothing about the policy, each once: all reports go where they went, and the strict alignment
 * counts.
 */
function otherTags(written: readonly Tag[]): string[] {
  const values = new Map<string, Set<string>>();
  for (const [name, value] of written) {
    const before = values.get(name);
    if (decided.has(name) || value === '') continue;
    if (name === 'rua' || name === 'ruf') values.set(name, addresses(value, before));
    else if (!before || ((name === 'adkim' || name === 'aspf') && /^s$/i.test(value)))
      values.set(name, new Set([value]));
  }
  return [...values].map(([name, all]) => `${name}=${[...all].join(',')}`);
}

/** Adds the addresses of a list to those before. */
function addresses(list: string, before = new Set<string>()): Set<string> {
  for (const address of list.split(',')) if (address.trim() !== '') before.add(address.trim());
  return before;
}

function percentagesOf(tags: readonly Tag[]): number[] {
  const written = tags
    .filter(([tag]) => tag === 'pct')
    .map(([, value]) => (/^\d{1,2}$/.test(value) ? Number(value) : 100));
  return written.length > 0 ? written : [100];
}
