/** Finds records at the wrong name: where to look for them, and what to say about one that is found there. */
import { recordsIn, type Answers, type Question, type Rrs, type TxtRr } from '../answers';
import type { Evidence, Expected, Refined } from '../check';
import { trace } from '../synthesis';
import { possibleZones, relativeHost } from '../zone';

/** Gives the parents to ask for: the nearest two, and the registrable domain. */
export function parentsOf(name: string): string[] {
  const parents = possibleZones(name).slice(1);
  return parents.length <= 3 ? parents : [...parents.slice(0, 2), parents.at(-1)!];
}

/** Gives the names that result where a DNS provider appends the zone to a name that is complete already. */
export const appended = (at: string, domain: string): string[] =>
  [domain, ...parentsOf(domain)].map((zone) => `${at}.${zone}`).filter((name) => name.length <= 253);

/**
 * Gives the target that was meant where a DNS provider may have appended the zone to it; undefined where it is no host
 * without the zone.
 *
 * @param name of the record.
 */
export function withoutZone(target: string, name: string): string | undefined {
  const zone = [name, ...parentsOf(name)].find((each) => target.endsWith(`.${each}`));
  const meant = zone && target.slice(0, -zone.length - 1);
  return meant?.includes('.') ? meant : undefined;
}

export const ask = (type: Question['type'], ...names: readonly string[]): Question[] =>
  names.map((name) => ({ type, name }));

/** Tells whether a clue says that the name does not exist. */
export const isAbsent = (clues: Answers, name: string): boolean =>
  (['MX', 'TXT', 'CNAME'] as const).some((type) => clues.at(type, name)?.some(({ kind }) => kind === 'nxdomain'));

/** Explains a correct record at a name to which the DNS provider has appended the zone. */
export function autoAppended<Type extends 'MX' | 'TXT'>(
  { name: domain }: Expected,
  { name, type }: { readonly name: string; readonly type: Type },
  clues: Answers,
  right: (rrs: readonly Rrs[Type][]) => string | undefined,
): Refined | undefined {
  for (const at of appended(name, domain)) {
    const value = right(recordsIn(clues.at(type, at)) ?? []);
    // A wildcard answers for any name: nobody has placed the record here.
    if (value === undefined || trace({ type, name: at }, clues).source) continue;
    const host = relativeHost(name, at.slice(name.length + 1));
    return {
      code: 'name_auto_appended',
      message: `The record is at ${at}: your DNS provider appends the zone by itself. Enter ${host} as its name, so that it becomes ${name}.`,
      misplaced: { name: at, type, value },
    };
  }
  return undefined;
}

/** Explains a correct record at the corresponding name of a parent. */
export function onParent(
  { name: domain }: Expected,
  at: (name: string) => string,
  isRight: (name: string) => boolean,
  expected: string,
): Refined | undefined {
  const parent = parentsOf(domain).find((each) => isRight(at(each)));
  return parent === undefined
    ? undefined
    : {
        code: 'record_on_parent',
        message: `The record is at ${at(parent)}, but you registered ${domain} with Sendmux: add ${expected} at ${at(domain)}.`,
      };
}

/** Explains a correct TXT record at the domain itself instead of the name below it. */
export const wrongName = ({ name: domain }: Expected, name: string, value: string): Refined => ({
  code: 'record_on_wrong_name',
  message: `The record is at ${domain}. Move it to ${name}.`,
  misplaced: { name: domain, type: 'TXT', value },
});

/** Gives the TXT records of the domain itself, without those that a CNAME leads to: they belong to somebody else. */
export const ownTxt = ({ name }: Expected, { answers }: Evidence): readonly TxtRr[] =>
  (answers.at('TXT', name) ?? []).flatMap((answer) =>
    answer.kind === 'records' && answer.aliases.length === 0 ? answer.records : [],
  );
