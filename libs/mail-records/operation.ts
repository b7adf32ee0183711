import { setUpTtl, type RecordSet } from './record-set';

/**
 * An operation is one step of a plan. Values have the form of those of `RecordSet`. Values of the same name and type
 * that no operation names are left alone.
 */
export interface Operation {
  /** `replace` removes `replaces` and writes `values` instead. */
  readonly action: 'delete' | 'replace' | 'create' | 'keep';
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly type: RecordSet['type'];
  /** The values that are published afterwards; for a `delete`, those that are removed. */
  readonly values: readonly string[];
  readonly replaces: readonly string[];
  /** The TTL of the written values, in seconds; null where nothing is written. */
  readonly ttl: number | null;
  /** Says why, for people: a sentence or two. */
  readonly reason: string;
}

export type Place = Pick<Operation, 'name' | 'type'>;

export const operation = (
  action: Operation['action'],
  { name, type }: Place,
  values: readonly string[],
  reason: string,
  replaces: readonly string[] = [],
): Operation => ({
  action,
  name,
  type,
  values,
  replaces,
  ttl: action === 'create' || action === 'replace' ? setUpTtl : null,
  reason,
});

const order: readonly Operation['action'][] = ['delete', 'replace', 'create', 'keep'];

/**
 * Sorts operations into the order to apply: deletions first, since a name with a CNAME takes no other record. An MX
 * that another one takes the place of goes when that is there, so that mail has somewhere to go at any time.
 */
export function inOrder(operations: readonly Operation[]): Operation[] {
  const created = new Set(operations.filter(({ action, type }) => action === 'create' && type === 'MX').map(nameOf));
  const isReplaced = ({ action, name, type, values }: Operation) =>
    action === 'delete' && type === 'MX' && created.has(name) && !values.some((value) => value.endsWith(' .'));
  const rank = (each: Operation) => (isReplaced(each) ? order.indexOf('create') + 0.5 : order.indexOf(each.action));
  return [...operations].sort((a, b) => rank(a) - rank(b));
}

const nameOf = ({ name }: Operation): string => name;
