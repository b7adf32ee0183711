import type { Answers, TxtRr } from '../../answers';
import type { Expected } from '../../check';
import type { Finding } from '../../findings';
import { quoted } from '../../limits';
import { escaped } from '../../record-set';
import { fail, finding, pass, type Conclusion } from '../finding';
import { backslashFault } from '../slips';
import { isReadableMended, looksLikeDmarc } from './meant';
import { dmarcValue, isDmarc, parseDmarc, policyIn, unknownPolicy, type DmarcRecord } from './record';

export const dmarcName = (domain: string): string => `_dmarc.${domain}`;

export function judgeDmarc({ name: domain }: Expected, answers: Answers): Finding {
  const name = dmarcName(domain);
  return finding<TxtRr>(
    {
      check: 'dmarc',
      domain,
      type: 'TXT',
      name,
      expected: dmarcValue,
      present: escaped,
      missing: () => fail('dmarc_missing', `There is no DMARC record at ${name}. Add the TXT record ${dmarcValue}.`),
      decide: (records, aliases) => {
        const dmarc = records.filter(isDmarc);
        if (dmarc.length > 1)
          return fail(
            'dmarc_multiple',
            `${name} has ${dmarc.length} DMARC records, and receivers then ignore them all (RFC 7489 section 6.6.3). Keep one.`,
          );
        if (dmarc.length === 0) {
          if (records.some((text) => isDmarc(text.replace(/^\s*\\?["']/, ''))))
            return fail(
              'txt_literal_quotes',
              `The value has quote characters in it. Your DNS provider adds its own: enter ${dmarcValue} without quotes.`,
            );
          if (records.some((text) => isDmarc(text.trim())))
            return fail(
              'txt_whitespace',
              `The value has white space before v=DMARC1, so it is not a DMARC record. Enter it again without it.`,
            );
          if (records.some((text) => isDmarc(text.replace(/dmarc1/i, 'DMARC1'))))
            return fail(
              'dmarc_version_case',
              `The version of a DMARC record is case-sensitive, so receivers ignore this one. Write it as v=DMARC1.`,
            );
          if (records.some((text) => isDmarc(text.replace(/[^\x20-\x7e]/g, ''))))
            return fail(
              'invisible_characters',
              `The value has characters in it that cannot be seen, or typographic quotes (shown as \\ and a number). Type ${dmarcValue} by hand.`,
            );
          const meant = records.find(looksLikeDmarc);
          if (meant !== undefined) return missingSemicolon(meant);
          return fail('dmarc_missing', `${name} has no DMARC record. Add the TXT record ${dmarcValue}.`);
        }
        return judgeDmarcRecord(dmarc[0]!, aliases);
      },
    },
    answers.at('TXT', name),
  );
}

/** Says what keeps receivers from seeing where a tag begins. */
const missingSemicolon = (text: string): Conclusion =>
  fail(
    'dmarc_missing_semicolon',
    text.includes('\\')
      ? backslashFault(dmarcValue)
      : `The tags of a DMARC record are separated by semicolons, with nothing else beside them: ${dmarcValue}`,
  );

/** Names the slip that hides the policies of a DMARC record; undefined where none does. */
function slipIn(text: string): Conclusion | undefined {
  if (!isReadableMended(text)) return undefined;
  if (/["']/.test(text))
    return fail(
      'txt_literal_quotes',
      `The value has quote characters in it. Your DNS provider adds its own: enter ${dmarcValue} without quotes.`,
    );
  return missingSemicolon(text);
}

/** Concludes where a DMARC record has no policy that receivers act on; undefined where it has one. */
function withoutPolicy(text: string, record: DmarcRecord): Conclusion | undefined {
  const { tags } = record;
  const unknown = unknownPolicy(record);
  if (tags.has('p') && unknown === undefined) return undefined;
  const slip = slipIn(text);
  if (slip) return slip;
  if (unknown === undefined)
    return fail('dmarc_policy_missing', `The DMARC record has no policy. Add p=quarantine: ${dmarcValue}`);
  const value = `${unknown}=${quoted(tags.get(unknown)!)}`;
  return fail(
    'dmarc_policy_unknown',
    unknown === 'p'
      ? `${value} is no DMARC policy. Set p=quarantine or p=reject.`
      : `${value} is no DMARC policy, and receivers then act as if the record had none at all (RFC 7489 section 6.6.3). Set ${unknown}=quarantine or ${unknown}=reject, or take ${unknown}= out.`,
  );
}

function judgeDmarcRecord(text: string, aliases: readonly string[]): Conclusion {
  const record = parseDmarc(text);
  const { tags, repeated } = record;
  if (repeated !== undefined)
    return fail(
      'dmarc_duplicate_tag',
      `The DMARC record has the tag ${repeated}= more than once, so receivers ignore all of it. Keep one, with ${dmarcValue}.`,
    );
  const fault = withoutPolicy(text, record);
  if (fault) return fault;
  if (policyIn(tags.get('p')) === 'none')
    return fail(
      'dmarc_policy_too_weak',
      'The DMARC policy is p=none, which asks receivers to do nothing. p=quarantine is the Sendmux minimum; p=reject is fine too.',
    );
  if (tags.get('t')?.toLowerCase() === 'y')
    return pass(
      'dmarc_testing_mode',
      'The record is in place. With t=y receivers act on the next weaker policy (RFC 9989): remove it when your test is over.',
    );
  const pct = tags.get('pct');
  // What is no percentage counts as 100 (RFC 7489 section 6.3).
  if (pct !== undefined && /^\d{1,3}$/.test(pct) && Number(pct) < 100)
    return pass(
      'dmarc_pct_partial',
      `The record is in place. With pct=${quoted(pct)} the policy holds for a part of the mail only.`,
    );
  if ([...tags.keys()][1] !== 'p')
    return pass(
      'dmarc_policy_not_second',
      'The record is in place. Some older receivers want p= right after the version.',
    );
  if (tags.get('sp')?.toLowerCase() === 'none')
    return pass(
      'dmarc_subdomains_free',
      'The record is in place. sp=none leaves the names below this one without a policy.',
    );
  if (aliases.length > 0) return pass('dmarc_via_cname', `The record is in place, published by ${aliases.at(-1)}.`);
  return pass();
}
