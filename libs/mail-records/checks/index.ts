import type { Check, Expected } from '../check';
import { dkim } from './dkim';
import { dmarc } from './dmarc';
import { mailFromMx } from './mail-from/mx';
import { mailFromSpf } from './mail-from/spf';
import { mx } from './mx';
import { ownership } from './ownership';
import { spf } from './spf';

/** The checks of a domain, in the order of the findings of a look. A new check is added here. */
export const checks = [mx, ownership, spf, dmarc, dkim, mailFromMx, mailFromSpf] as const satisfies readonly Check[];

export type CheckName = (typeof checks)[number]['name'];
export const checkNames: readonly CheckName[] = checks.map(({ name }) => name);

/** The same list with the type of its elements widened, for loops. */
const all: readonly Check[] = checks;

/** Finds the check of that name; undefined for a check that only another release has. */
export const checkNamed = (name: string): Check | undefined => all.find((check) => check.name === name);

/** Gives the checks that are asked of a domain, in the order of the list. */
export const checksOf = ({ mode = 'send_receive' }: Pick<Expected, 'mode'>): Check[] =>
  all.filter(({ modes }) => modes?.includes(mode) ?? true);

const types = ['MX', 'TXT', 'CNAME'];

/**
 * Gives the checks of a domain in the order in which their records stand in a zone: by type, and from the domain's own
 * name downwards.
 */
export function inZoneOrder(domain: Expected): Check[] {
  const places = checksOf(domain).map((check) => {
    const [first] = check.records(domain);
    return { check, type: types.indexOf(first?.type ?? 'CNAME'), name: first?.name ?? '' };
  });
  const depth = (name: string) => name.split('.').length;
  return places
    .sort(
      (a, b) => a.type - b.type || depth(a.name) - depth(b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
    )
    .map(({ check }) => check);
}
