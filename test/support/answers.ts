import { answersInPlace, type Answer, type Answers, type Expected, type MxRr, type TxtRr } from '@app/mail-records';

/** The DNS answers to the checks, by the purpose of the record. */
export interface Said {
  readonly mx?: readonly Answer<MxRr>[];
  readonly spf?: readonly Answer<TxtRr>[];
  readonly dmarc?: readonly Answer<TxtRr>[];
  readonly verification?: readonly Answer<TxtRr>[];
  /** The TXT answers at the names to which the SPF record refers. */
  readonly spfTargets?: ReadonlyMap<string, readonly Answer<TxtRr>[]>;
}

/** Makes the answers for a domain whose records are in place, except for the given ones. */
export function answersOf(domain: Expected, { mx, spf, dmarc, verification, spfTargets }: Said): Answers {
  const { name } = domain;
  const answers = answersInPlace(domain);
  if (mx) answers.set('MX', name, mx);
  const txt = { [name]: spf, [`_dmarc.${name}`]: dmarc, [`_sendmux.${name}`]: verification };
  for (const [at, said] of Object.entries(txt)) if (said) answers.set('TXT', at, said);
  for (const [at, said] of spfTargets ?? []) answers.set('TXT', at, said);
  return answers;
}
