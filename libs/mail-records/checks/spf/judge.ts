import type { Answers, TxtRr } from '../../answers';
import type { Expected } from '../../check';
import type { Finding } from '../../findings';
import { quoted } from '../../limits';
import { escaped } from '../../record-set';
import { cnameAtName, fail, finding, pass, propagating, servfailBehind, unanswered, type Conclusion } from '../finding';
import { backslashFault, unescaped } from '../slips';
import { adviseSpf } from './advice';
import { mergeSpf } from './merge';
import { isSpf, parseSpf, spfIncludes, spfValue, type SpfTerm } from './record';
import { agreedSpf, isAll, isEverybody, isPass, readIn, spfLookupLimit, walkSpf, type SpfWalk } from './walk';

const ours = spfIncludes.map((host) => `include:${host}`).join(' ');

export function judgeSpf({ name }: Expected, answers: Answers): Finding {
  return finding<TxtRr>(
    {
      check: 'spf',
      domain: name,
      type: 'TXT',
      name,
      expected: spfValue,
      present: escaped,
      missing: () => fail('spf_missing', `There is no SPF record at ${name}. Add the TXT record ${spfValue}.`),
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtName(name, aliases[0]!);
        const spf = records.filter(isSpf);
        if (spf.length > 1)
          return fail(
            'spf_multiple',
            `${name} has ${spf.length} SPF records, and only one per hostname is allowed (RFC 7208 section 4.5). Merge all include: mechanisms into one record, with ${ours} in it, and delete the others: ${advised(name, spf, answers)}`,
          );
        return spf.length === 0 ? withoutSpf(name, records) : judgeRecord(name, spf[0]!, answers);
      },
    },
    answers.at('TXT', name),
  );
}

/** Concludes where TXT records are there, but none is an SPF record: one may be meant as such. */
function withoutSpf(name: string, records: readonly TxtRr[]): Conclusion {
  const like = (test: (text: string) => boolean) => records.some(test);
  if (like((text) => isSpf(text.replace(/^[\s\xa0\xef\xbb\xbf]+/, ''))))
    return fail(
      'spf_leading_whitespace',
      `The record at ${name} has characters before v=spf1, so it is not an SPF record. Enter it again without them.`,
    );
  if (like((text) => isSpf(text.replace(/^[\s"'\\]+/, ''))))
    return fail(
      'txt_literal_quotes',
      `The value at ${name} has quote characters in it, so it is not an SPF record. Your DNS provider adds its own: enter it without quotes.`,
    );
  if (like((text) => isSpf(text.replace(/[^\x20-\x7e]/g, ''))))
    return fail(
      'invisible_characters',
      `The value at ${name} has characters in it that cannot be seen, or typographic quotes (shown as \\ and a number), so it is not an SPF record. Type it by hand.`,
    );
  if (like((text) => text.includes('\\') && isSpf(unescaped(text))))
    return fail('spf_syntax', backslashFault(spfValue));
  if (like((text) => /^v=spf1([^a-z0-9.]|include:)/i.test(text)))
    return fail(
      'spf_syntax',
      `The SPF record at ${name} has something other than a space after v=spf1. Terms are separated by spaces, with none inside them.`,
    );
  return fail('spf_missing', `${name} has TXT records, but no SPF record among them. Add ${spfValue}.`);
}

/**
 * Gives the next name whose TXT records decide about the SPF record of a domain and have not been asked for. Undefined
 * when the record names our includes itself, when it cannot pass, and when all is known. Names come one at a time, in
 * the order of a receiver, so that no name beyond the ten look-ups is asked for.
 */
export function spfQuestion({ name }: Pick<Expected, 'name'>, answers: Answers): string | undefined {
  const answer = agreedSpf(answers.at('TXT', name) ?? []);
  if (answer.kind !== 'records' || answer.aliases.length > 0) return undefined;
  const records = answer.records.filter(isSpf);
  const terms = records.length === 1 ? termsOf(records[0]!) : undefined;
  if (!terms || missingIn(terms).length === 0) return undefined;
  const { open, reached, broken } = walk(records[0]!, answers);
  return broken !== undefined || spfIncludes.every((host) => reached.has(host)) ? undefined : open[0];
}

function termsOf(text: string): readonly SpfTerm[] | undefined {
  const record = parseSpf(text);
  return 'terms' in record ? record.terms : undefined;
}

const walk = (text: string, answers: Answers): SpfWalk => walkSpf(text, (name) => answers.at('TXT', name), spfIncludes);

/** The merged record as the messages show it, with what its owner has to know. */
function advised(name: string, records: readonly string[], answers: Answers): string {
  const { merged, caveats } = adviseSpf(records, name, answers);
  return [escaped(merged), ...caveats].join(' ');
}

const includesIn = (terms: readonly SpfTerm[]): SpfTerm[] =>
  terms.filter((term) => term.kind === 'mechanism' && term.name === 'include');

/**
 * Gives our includes that the record lacks. The first match decides (RFC 7208 section 4.6.2), so an include after a
 * `-include` of the same name does not count.
 */
function missingIn(terms: readonly SpfTerm[]): string[] {
  const includes = includesIn(readIn(terms));
  return spfIncludes.filter((host) => {
    const first = includes.find((term) => term.value === host);
    return !first || !isPass(first);
  });
}

function judgeRecord(name: string, text: string, answers: Answers): Conclusion {
  const record = parseSpf(text);
  if ('syntaxError' in record)
    return fail(
      'spf_syntax',
      record.syntaxError.includes('\\')
        ? backslashFault(quoted(mergeSpf([text])))
        : `The SPF record cannot be read at “${quoted(record.syntaxError)}”. Check for typos: terms are separated by spaces, with none inside them.`,
    );
  const { terms } = record;
  const missing = missingIn(terms);
  return missing.length > 0 ? judgeTargets(name, text, terms, missing, answers) : judgeTerms(terms);
}

/** Judges a record that does not name all of our includes, by the records that it leads to. */
function judgeTargets(
  domain: string,
  text: string,
  terms: readonly SpfTerm[],
  missing: readonly string[],
  answers: Answers,
): Conclusion {
  const walked = walk(text, answers);
  const { reached, targets } = walked;
  const unreached = spfIncludes.filter((host) => !reached.has(host));
  if (unreached.length === 0) {
    const via = [...new Set(missing.map((host) => reached.get(host)!.at(-1) ?? host))].join(' and ');
    return pass(
      'spf_via_redirect',
      `The record is in place: it authorises us through ${via}. If that is changed, so is this: the includes in the record itself would be safer.`,
    );
  }
  const lacking = missing.filter((host) => !reached.has(host));
  // A record may name all of ours and still refuse their senders by an earlier term.
  const named = (lacking.length > 0 ? lacking : unreached).map((host) => `include:${host}`).join(' and ');
  const qualified = includesIn(readIn(terms)).find((term) => lacking.includes(term.value));
  if (qualified)
    return fail(
      'spf_include_qualifier',
      `include:${qualified.value} has a qualifier that does not authorise it. Write it as include:${qualified.value}.`,
    );
  if (includesIn(terms).some((term) => lacking.includes(term.value)))
    return fail(
      'spf_include_after_all',
      `What stands after ${isAll(terms[readIn(terms).length]!) ? '“all”' : 'an ip4: of all addresses'} is never read. Put ${ours} before it.`,
    );
  for (const [name, found] of targets) {
    if (found.kind === 'unreachable') return unanswered('TXT', name);
    if (found.kind === 'disagreement') return propagating('TXT', name);
    if (found.kind === 'servfail') return servfailBehind(name, found.loop);
  }
  return unreachedIncludes(terms, named, lacking.length > 0, walked, () => advised(domain, [text], answers));
}

/** Says why a receiver does not find our includes in the records that the record leads to. */
function unreachedIncludes(
  terms: readonly SpfTerm[],
  named: string,
  isLacking: boolean,
  { broken, targets, lookups }: SpfWalk,
  advise: () => string,
): Conclusion {
  const leading = terms.filter(
    ({ name, kind }) => name === 'include' || (kind === 'modifier' && name === 'redirect' && !terms.some(isAll)),
  );
  if (leading.some(({ value }) => value.includes('%')))
    return fail(
      'spf_macro',
      `The record leaves its includes to a macro, so ${named} cannot be seen in it. Ask the vendor of your hosted SPF to add both includes.`,
    );
  if (broken !== undefined)
    return fail(
      'spf_include_missing',
      `The SPF record leads to ${broken}, which has no SPF record, several, or one that cannot be read, and receivers stop there (RFC 7208 section 5.2) before they find ${named}. Put ${ours} right after v=spf1: ${advise()}`,
    );
  if (lookups > spfLookupLimit)
    return fail(
      'spf_too_many_lookups',
      `The SPF record needs more than ${spfLookupLimit} look-ups, and receivers stop there (RFC 7208 section 4.6.4) before they find ${named}. Put ${ours} right after v=spf1: ${advise()}`,
    );
  if (!isLacking)
    return fail(
      'spf_include_qualifier',
      `A term before ${named} decides about its senders first, and does not authorise them (RFC 7208 section 4.6.2). Put ${ours} right after v=spf1: ${advise()}`,
    );
  const redirect = terms.find((term) => term.kind === 'modifier' && term.name === 'redirect');
  if (redirect && targets.has(redirect.value))
    return fail(
      'spf_include_missing',
      `The SPF record leads to ${redirect.value}, which lacks ${named}. Add it there, or here: ${advise()}`,
    );
  return fail('spf_include_missing', `The SPF record lacks ${named}. Merge it into the record you have: ${advise()}`);
}

/** Judges a record that names our includes, by its other terms. */
function judgeTerms(terms: readonly SpfTerm[]): Conclusion {
  // Prefix lengths and addresses are not kept: a/24 and a/16 would look alike.
  const comparable = terms.filter((term) => term.kind === 'mechanism' && /^(all|include|exists)$/.test(term.name));
  const seen = new Set<string>();
  const repeated = comparable.find(({ name, value }) => {
    const term = `${name}:${value}`;
    const isRepeated = seen.has(term);
    seen.add(term);
    return isRepeated;
  });
  const last = terms.find(isAll);
  if (terms.some((term) => isEverybody(term) && isPass(term)))
    return pass(
      'spf_permissive_all',
      'The record is in place. It authorises every address there is: take out what ends in /0.',
    );
  const redirect = terms.some((term) => term.kind === 'modifier' && term.name === 'redirect');
  if (last ? 'qualifier' in last && /^[+?]?$/.test(last.qualifier) : !redirect)
    return pass(
      'spf_permissive_all',
      'The record is in place. It does not say what to do with mail from elsewhere: end it with ~all or -all.',
    );
  if (repeated)
    return pass(
      'spf_duplicate_term',
      `The record is in place. It has ${repeated.name}${repeated.value && `:${repeated.value}`} twice, which costs receivers look-ups: remove one.`,
    );
  return pass();
}
