/**
 * Plans the changes to a zone that verify a domain, given what is published now. Pure: the look-ups were made before.
 */
import type { Check, Expected, ToRead } from './check';
import { checksOf, inZoneOrder } from './checks';
import { shownMx } from './checks/mx';
import { inOrder, operation, type Operation } from './operation';
import { dnameAbove, publishedAt, wildcardAt, type NameToRead, type Published } from './published';
import { ends } from './synthesis';

/** Gives the names that a plan has to read, each once. */
export function namesToRead(domain: ToRead): NameToRead[] {
  const names = new Map<string, NameToRead>();
  for (const wanted of checksOf(domain).flatMap((check) => check.reads(domain))) {
    const { name, mx, through } = wanted;
    const before = names.get(name);
    names.set(name, { name, mx: mx || before?.mx, through: through || before?.through });
  }
  return [...names.values()];
}

/**
 * Gives the operations in the order to apply. When all are `keep`, there is nothing to do. They touch only what is
 * stored, and none stands where a DNAME leaves no place for it.
 */
export const dnsPlan = (domain: Expected, published: Published): Operation[] =>
  finished(
    domain,
    published,
    inZoneOrder(domain).flatMap((check) => planOf(domain, check, published)),
  );

/** Gives operations each once and in the order to apply, with those that keep the mail of the domain going. */
function finished(domain: Expected, published: Published, operations: readonly Operation[]): Operation[] {
  return inOrder(once([...mailKept(domain, published, operations), ...operations]));
}

/**
 * Writes the MX records that a domain which only sends has from a wildcard or a CNAME, where operations end it: its
 * mail stays with whoever has it.
 */
function mailKept({ name, mode }: Expected, published: Published, operations: readonly Operation[]): Operation[] {
  if (mode !== 'send_only') return [];
  const { cname, mx, ledMx } = publishedAt(published, name);
  const wildcard = wildcardAt(published, name);
  const isEnding = ({ action, name: at, type }: Operation) =>
    wildcard === undefined
      ? action === 'delete' && type === 'CNAME' && at === name
      : (action === 'create' || action === 'replace') && ends(wildcard, name, at);
  const stored = wildcard === undefined ? shownMx(mx) : [];
  const values = shownMx(ledMx ?? mx).filter((value) => !stored.includes(value));
  if (values.length === 0 || !operations.some(isEnding)) return [];
  const source = wildcard === undefined ? `The CNAME to ${cname}` : `The wildcard ${wildcard}`;
  const reason = `${source} gives ${name} its MX now, and ends with the records of Sendmux: written here, mail goes on to the same hosts.`;
  return [operation('create', { name, type: 'MX' }, values, reason)];
}

/** Leaves out what stands there before: checks of one name may each have to remove its CNAME. */
function once(operations: readonly Operation[]): Operation[] {
  const keyOf = ({ action, name, type, values }: Operation) => JSON.stringify([action, name, type, values]);
  const first = new Map<string, Operation>();
  for (const each of operations) if (!first.has(keyOf(each))) first.set(keyOf(each), each);
  return [...first.values()];
}

/**
 * Gives the part of the plan that makes one check pass, in the order to apply. What it writes may end a wildcard that
 * makes other checks pass: then it has their records as well.
 */
export function remedy(domain: Expected, check: Check, published: Published): Operation[] {
  const own = planOf(domain, check, published).filter(({ action }) => action !== 'keep');
  const isWildcardNear = [...published.names.values()].some(({ source }) => source?.kind === 'wildcard');
  if (!isWildcardNear) return finished(domain, published, own);
  const written = own.filter(({ action }) => action !== 'delete');
  const isEnded = (name: string) => {
    const wildcard = wildcardAt(published, name);
    return wildcard !== undefined && written.some((each) => ends(wildcard, name, each.name));
  };
  const others = inZoneOrder(domain).filter(
    (other) => other !== check && other.judge(domain, published.followed, 'success').outcome === 'pass',
  );
  const rescued = others
    .flatMap((other) => planOf(domain, other, published))
    .filter(({ action, name }) => action === 'create' && isEnded(name));
  return finished(domain, published, [...own, ...rescued]);
}

const planOf = (domain: Expected, check: Check, published: Published): Operation[] =>
  check.plan(domain, published).flatMap((each) => onStored(each, published));

/**
 * Rewrites an operation for what is stored: what a wildcard gives can neither be replaced nor kept, and has to be
 * written.
 */
function onStored(each: Operation, published: Published): Operation[] {
  const { action, name, values, reason } = each;
  if (dnameAbove(published, name)) return [];
  const wildcard = wildcardAt(published, name);
  if (wildcard === undefined) return [each];
  if (action === 'delete') return [];
  const note = `The wildcard ${wildcard} answers for ${name} now; all that it serves there stops with the first record (RFC 4592 section 2.2.1).`;
  return [operation('create', each, values, `${reason} ${note}`)];
}
