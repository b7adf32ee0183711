/**
 * Tells what stands at a name from what resolvers make up for it: the answers of a wildcard (RFC 4592) and of a DNAME
 * (RFC 6672). Only what is stored can be replaced or deleted.
 */
import { definiteIn, type Answers, type Definite, type Question } from './answers';
import { registrableDomain } from './zone';

/** A label that nobody publishes: only a wildcard answers for it. */
export const wildcardProbe = '_sendmux-wildcard-probe';

/** Why a name has answers although nothing is stored at it. */
export type Source =
  | { readonly kind: 'wildcard'; /** Such as `*.acme.com`. */ readonly owner: string }
  | { readonly kind: 'dname'; readonly owner: string; readonly target: string };

/**
 * Gives a name that has the same answers as this one when both are synthesized from a wildcard, and none otherwise.
 * Where the name exists, its closest encloser is that name, or the wildcard below it; neither has a wildcard for a name
 * below an asterisk (RFC 4592 section 3.3.1).
 */
const probeOf = (name: string): string => `${wildcardProbe}.*.${name}`;
export const isProbe = ({ name }: Question): boolean => name.startsWith(`${wildcardProbe}.`);

export interface Trace {
  /** The question to ask next; undefined when all is known. */
  readonly open?: Question;
  /** Undefined where the records are stored at the name, or there are none. */
  readonly source?: Source;
}

/** Finds out where the answer to a question comes from, as far as the answers tell. */
export function trace({ type, name }: Question, answers: Answers): Trace {
  const own = definiteIn<unknown>(answers.at(type, name));
  if (!own) return {};
  if (own.dname && isBelow(name, own.dname.owner)) return { source: { kind: 'dname', ...own.dname } };
  const content = contentOf(own);
  const top = registrableDomain(name);
  let at = name;
  while (content !== '' && at !== top && probeOf(at).length <= 253) {
    const probe: Question = { type, name: probeOf(at) };
    if (!answers.has(probe)) return { open: probe };
    const synthesized = definiteIn<unknown>(answers.at(type, probe.name));
    if (!synthesized || contentOf(synthesized) !== content) break;
    at = at.slice(at.indexOf('.') + 1);
  }
  return at === name ? {} : { source: { kind: 'wildcard', owner: `*.${at}` } };
}

/**
 * The target of a CNAME, or the records; empty where there are none. Behind a CNAME, the records are somebody else's.
 */
function contentOf(answer: Definite<unknown>): string {
  const [alias] = answer.aliases;
  if (alias !== undefined) return alias;
  if (answer.kind !== 'records') return '';
  let content = contents.get(answer);
  if (content === undefined) {
    content = answer.records
      .map((rr) => JSON.stringify(rr))
      .sort()
      .join('\n');
    contents.set(answer, content);
  }
  return content;
}

/** Every round of further questions compares the answers of all before it, and each may have 64 KiB. */
const contents = new WeakMap<Definite<unknown>, string>();

export const isBelow = (name: string, owner: string): boolean => name.endsWith(`.${owner}`);

/**
 * Tells whether a wildcard answers no more for a name once a record is written: the written name and all names between
 * it and the wildcard exist then, and a wildcard serves only names without an existing one in between (RFC 4592
 * section 3.3.1).
 */
export function ends(wildcard: string, name: string, written: string): boolean {
  const encloser = wildcard.slice(2);
  if (!isBelow(written, encloser)) return false;
  const labels = written.slice(0, -encloser.length - 1).split('.');
  const topmost = `${labels.at(-1)!}.${encloser}`;
  return name === topmost || isBelow(name, topmost);
}
