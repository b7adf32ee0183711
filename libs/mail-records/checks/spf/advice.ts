/** The merged SPF record that we advise, with what its owner has to know before it is published. */
import type { Answers } from '../../answers';
import { publishedAt, type Published } from '../../published';
import { escaped } from '../../record-set';
import { lostTarget } from './lost';
import { behindAll, lacksEnd, leftOutOfSpf, looksLikeSpf, lostTerms, mergeSpf } from './merge';
import { spfIncludes } from './record';
import { spfLookupLimit, walkSpf } from './walk';

export interface SpfAdvice {
  readonly merged: string;
  /** Sentences about what the merged record does besides adding our includes. */
  readonly caveats: readonly string[];
}

/** What somebody who has to shorten an SPF record can do. */
export const shortenSpf = 'Remove what you do not use, or ask your vendors for shorter records.';

/** Gives the records at a name that are or were meant as SPF records. */
export const presentSpf = (name: string, published: Published): string[] =>
  [...new Set(publishedAt(published, name).txt.filter(looksLikeSpf))].sort();

/**
 * Merges records as `mergeSpf` does, and puts the result through our own walk.
 *
 * @param records those that are or were meant as SPF records.
 * @param name at which they stand.
 * @param answers where nobody has asked, the walk ends.
 * @param includes what the record has to authorise.
 */
export function adviseSpf(
  records: readonly string[],
  name: string,
  answers: Answers,
  includes: readonly string[] = spfIncludes,
): SpfAdvice {
  const lost = (target: string) => lostTarget(name, target, answers);
  const isLost = (target: string) => lost(target) !== undefined;
  const merged = mergeSpf(records, includes, isLost);
  const quoted = (terms: readonly string[]) => terms.map((term) => `“${escaped(term)}”`).join(', ');
  const [unreadable, unread] = [leftOutOfSpf(records), behindAll(records)];
  const caveats: string[] = [];
  if (unreadable.length > 0) caveats.push(`Left out, because no receiver can read it: ${quoted(unreadable)}.`);
  if (unread.length > 0) caveats.push(`Left out, because nobody reads what stands behind “all”: ${quoted(unread)}.`);
  const selves = lostTerms(records, (target) => lost(target) === 'self');
  const loops = lostTerms(records, (target) => lost(target) === 'loop');
  if (selves.length > 0) caveats.push(`Left out, because it leads back to this record: ${quoted(selves)}.`);
  if (loops.length > 0)
    caveats.push(`Left out, because its CNAMEs form a loop, and nobody finds a record there: ${quoted(loops)}.`);
  if (lacksEnd(records, isLost))
    caveats.push('It ends with ~all now: mail from hosts that it does not name is marked.');
  if (walkSpf(merged, (target) => answers.at('TXT', target), includes).lookups > spfLookupLimit)
    caveats.push(
      `With our includes it needs more than ${spfLookupLimit} look-ups, and receivers then take it for an error (RFC 7208 section 4.6.4): mail that its later terms let pass now does not pass any more. ${shortenSpf} Do so before you publish it.`,
    );
  return { merged, caveats };
}
