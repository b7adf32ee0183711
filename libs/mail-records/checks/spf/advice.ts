/** The merged SPF record that we advise, with what its owner has to know before it is published. */
import type { Answer, TxtRr } from '../../answers';
import { escaped } from '../../record-set';
import { behindAll, lacksEnd, leftOutOfSpf, mergeSpf } from './merge';
import { spfIncludes } from './record';
import { spfLookupLimit, walkSpf } from './walk';

export interface SpfAdvice {
  readonly merged: string;
  /** Sentences about what the merged record does besides adding our includes. */
  readonly caveats: readonly string[];
}

/** What somebody who has to shorten an SPF record can do. */
export const shortenSpf = 'Remove what you do not use, or ask your vendors for shorter records.';

/**
 * Merges records as `mergeSpf` does, and puts the result through our own walk.
 *
 * @param records those that are or were meant as SPF records.
 * @param answersAt TXT at a name; where nobody has asked, the walk ends there.
 */
export function adviseSpf(
  records: readonly string[],
  answersAt: (name: string) => readonly Answer<TxtRr>[] | undefined,
): SpfAdvice {
  const merged = mergeSpf(records);
  const quoted = (terms: readonly string[]) => terms.map((term) => `“${escaped(term)}”`).join(', ');
  const [unreadable, unread] = [leftOutOfSpf(records), behindAll(records)];
  const caveats: string[] = [];
  if (unreadable.length > 0) caveats.push(`Left out, because no receiver can read it: ${quoted(unreadable)}.`);
  if (unread.length > 0) caveats.push(`Left out, because nobody reads what stands behind “all”: ${quoted(unread)}.`);
  if (lacksEnd(records)) caveats.push('It ends with ~all now: mail from hosts that it does not name is marked.');
  if (walkSpf(merged, answersAt, spfIncludes).lookups > spfLookupLimit)
    caveats.push(
      `With our includes it needs more than ${spfLookupLimit} look-ups, and receivers then take it for an error (RFC 7208 section 4.6.4): mail that its later terms let pass now does not pass any more. ${shortenSpf} Do so before you publish it.`,
    );
  return { merged, caveats };
}
