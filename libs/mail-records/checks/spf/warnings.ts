/** What is wrong with an SPF record that passes, as far as the records that it leads to are known. */
import type { Answers } from '../../answers';
import type { Warning } from '../../check';
import { escaped } from '../../record-set';
import { registrableDomain } from '../../zone';
import { isAbsent } from '../misplaced';
import { shortenSpf } from './advice';
import { mergeSpf } from './merge';
import { parseSpf, spfIncludes } from './record';
import { isPass, readIn, spfLookupLimit, spfVoidLimit, walkSpf, type SpfWalk } from './walk';

const ours = spfIncludes.map((host) => `include:${host}`).join(' ');

/**
 * Gives the warnings of a record, those of one severity in the order of their weight.
 *
 * @param text of the record.
 * @param walk where it leads.
 * @param clues what else is known of the names that it leads to.
 */
export function spfWarnings(text: string, walk: SpfWalk, clues: Answers): Warning[] {
  const isTooLong = walk.lookups > spfLookupLimit;
  const tooLong: Warning = {
    code: 'spf_too_many_lookups',
    severity: 'breaking',
    message: `The SPF record needs more than ${spfLookupLimit} look-ups, and receivers then take it for an error (RFC 7208 section 4.6.4). ${shortenSpf}`,
  };
  return [...(isTooLong ? [tooLong] : []), ...voidTargets(walk, clues), ...before(text, walk, isTooLong)];
}

/** Warns of what keeps receivers from coming to our includes, or makes an error of what comes after them. */
function before(text: string, walk: SpfWalk, isTooLong: boolean): Warning[] {
  // Nobody knows whether a receiver comes beyond a record that could not be asked for.
  if (walk.open.length > 0) return [];
  const unreached = spfIncludes.filter((host) => !walk.reached.has(host));
  const named = unreached.map((host) => `include:${host}`).join(' and ');
  const mend = `Put ${ours} right after v=spf1: ${escaped(mergeSpf([text]))}`;
  if (walk.broken !== undefined)
    return [
      unreached.length > 0
        ? {
            code: 'spf_broken_include',
            severity: 'breaking',
            message: `The SPF record leads to ${walk.broken}, which has no SPF record, several, or one that cannot be read, before it comes to ${named}: receivers say permerror for all mail (RFC 7208 section 5.2). Take it out. ${mend}`,
          }
        : {
            code: 'spf_broken_include',
            severity: 'warning',
            message: `The SPF record leads to ${walk.broken}, which has no SPF record, several, or one that cannot be read. Our includes come first, so that our mail passes; of mail from elsewhere receivers say permerror (RFC 7208 section 5.2). Take it out.`,
          },
    ];
  if (unreached.length === 0 || isTooLong) return [];
  const refusing = refusingTerm(text, unreached[0]!, walk);
  return [
    {
      code: 'spf_refused_earlier',
      severity: 'breaking',
      message: `${refusing === undefined ? 'A term' : `“${escaped(refusing)}”`} stands before ${named}, decides about its senders first, and does not authorise them (RFC 7208 section 4.6.2). ${mend}`,
    },
  ];
}

/** Finds the term that decides about the senders of a name without authorising them. */
function refusingTerm(text: string, host: string, { targets }: SpfWalk): string | undefined {
  const parsed = parseSpf(text);
  if ('syntaxError' in parsed) return undefined;
  const answersAt = (name: string) => {
    const target = targets.get(name);
    return target?.kind === 'record'
      ? [{ kind: 'records' as const, records: [target.text], aliases: [] }]
      : [{ kind: 'nodata' as const, aliases: [] }];
  };
  for (const term of readIn(parsed.terms)) {
    if (term.kind !== 'mechanism' || term.name !== 'include' || isPass(term)) continue;
    if (walkSpf(`v=spf1 include:${term.value}`, answersAt, spfIncludes).reached.has(host))
      return `${term.qualifier}include:${term.value}`;
  }
  return undefined;
}

/** Warns of names without a record: who registers one may send as the domain, and receivers bear few of them. */
function voidTargets({ targets }: SpfWalk, clues: Answers): Warning[] {
  const warnings: Warning[] = [];
  const voids = [...targets].filter(([, target]) => target.kind === 'none' && target.isVoid).map(([name]) => name);
  const dangling = voids.filter((name) => isAbsent(clues, registrableDomain(name)));
  if (dangling.length > 0)
    warnings.push({
      code: 'spf_dangling_include',
      severity: 'warning',
      message: `The SPF record leaves the word to ${dangling.join(', ')}, which nobody has registered: whoever does may send mail as you. Remove it.`,
    });
  if (voids.length > spfVoidLimit)
    warnings.push({
      code: 'spf_void_lookups',
      severity: 'warning',
      message: `The SPF record leads to names with no record (${voids.join(', ')}), and receivers may give up after ${spfVoidLimit} of them (RFC 7208 section 4.6.4). Remove them.`,
    });
  return warnings;
}
