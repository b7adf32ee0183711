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

/** Sorts operations into the order to apply: deletions first, since a name with a CNAME takes no other record. */
export const inOrder = (operations: readonly Operation[]): Operation[] =>
  [...operations].sort((a, b) => order.indexOf(a.action) - order.indexOf(b.action));
