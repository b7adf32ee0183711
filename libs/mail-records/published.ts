/** Describes what is published in the DNS now, as a plan reads it. */
import { definiteIn, type Answers, type Dname, type MxRr, type Question, type TxtRr } from './answers';
import { isBelow, trace, type Source } from './synthesis';

/** The records of a name that bear on mail. */
export interface PublishedName {
  /** False after NXDOMAIN: the name has no record of any type, and none stands below it. */
  readonly exists: boolean;
  /** The target of the CNAME. A name with one has no other record (RFC 1034 section 3.6.2), but on broken servers. */
  readonly cname: string | null;
  /** The TXT and MX records at the name itself. */
  readonly txt: readonly TxtRr[];
  readonly mx: readonly MxRr[];
  /** The TXT records to which the CNAME leads resolvers; null where they stay at the name. */
  readonly ledTxt: readonly TxtRr[] | null;
  /** The MX records to which the CNAME leads resolvers; null where they stay at the name. */
  readonly ledMx: readonly MxRr[] | null;
  /** What synthesizes all of this; undefined where it is stored. */
  readonly source?: Source;
}

export const nothingPublished: PublishedName = {
  exists: false,
  cname: null,
  txt: [],
  mx: [],
  ledTxt: null,
  ledMx: null,
};

/** A name that a plan has to read. */
export interface NameToRead {
  /** FQDN without the trailing dot. */
  readonly name: string;
  /** Whether its MX records are read as well. */
  readonly mx?: boolean;
  /** Whether the records that a CNAME leads to count as well; they must then be readable. */
  readonly through?: boolean;
}

export interface Published {
  /** The names that were read. */
  readonly names: ReadonlyMap<string, PublishedName>;
  /** All answers, also those for the names that these records lead to, such as the targets of an SPF record. */
  readonly followed: Answers;
}

export const publishedAt = ({ names }: Pick<Published, 'names'>, name: string): PublishedName =>
  names.get(name) ?? nothingPublished;

const types = ['CNAME', 'TXT', 'MX'] as const;

/** Gives the questions that tell whether the records of names are stored there; none when it is known. */
export const openTraces = (reads: readonly NameToRead[], answers: Answers): Question[] =>
  reads.flatMap(({ name }) => types.flatMap((type) => trace({ type, name }, answers).open ?? []));

/** Gives what answers say of the names that a plan reads. A name that was not asked for is left out. */
export function publishedIn(reads: readonly NameToRead[], answers: Answers): Published {
  const names = new Map<string, PublishedName>();
  for (const { name } of reads) {
    const cnames = definiteIn(answers.at('CNAME', name));
    const txt = definiteIn(answers.at('TXT', name));
    const mx = definiteIn(answers.at('MX', name));
    if (!cnames && !txt && !mx) continue;
    const target = cnames?.kind === 'records' ? cnames.records[0] : undefined;
    const isLed = (answer: typeof txt | typeof mx) => (answer ? answer.aliases.length > 0 : target !== undefined);
    const source = types.map((type) => trace({ type, name }, answers).source).find((each) => each);
    names.set(name, {
      exists: ![cnames, txt, mx].some((answer) => answer?.kind === 'nxdomain' && answer.aliases.length === 0),
      cname: target ?? txt?.aliases[0] ?? mx?.aliases[0] ?? null,
      txt: (isLed(txt) ? txt?.beside : txt?.kind === 'records' ? txt.records : []) ?? [],
      mx: (isLed(mx) ? mx?.beside : mx?.kind === 'records' ? mx.records : []) ?? [],
      ledTxt: isLed(txt) ? (txt?.kind === 'records' ? txt.records : []) : null,
      ledMx: isLed(mx) ? (mx?.kind === 'records' ? mx.records : []) : null,
      ...(source && { source }),
    });
  }
  return { names, followed: answers };
}

/** Tells whether the CNAMEs of a name go on at the CNAME of another, which a plan removes. */
export const leadsThrough = ({ followed, names }: Published, name: string, other: string): boolean =>
  names.get(other)?.cname !== null &&
  (definiteIn(followed.at('TXT', name))?.aliases ?? []).slice(0, -1).includes(other);

/** Gives the DNAME below which a name stands, where an answer shows it. */
export const dnameAbove = ({ followed }: Pick<Published, 'followed'>, name: string): Dname | undefined =>
  followed.dnames().find(({ owner }) => isBelow(name, owner));

/** Gives the wildcard that answers for a name; undefined where its records are its own, or there are none. */
export function wildcardAt(published: Pick<Published, 'names'>, name: string): string | undefined {
  const { source } = publishedAt(published, name);
  return source?.kind === 'wildcard' ? source.owner : undefined;
}
