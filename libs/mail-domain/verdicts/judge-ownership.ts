import type { Finding } from '../findings';
import { escaped } from '../record-sets';
import { verificationPrefix } from '../records';
import type { Expected } from './expected';
import { fail, finding, pass } from './finding';
import type { Answer, TxtRr } from './quorum';

export function judgeOwnership({ name: domain, team }: Expected, answers: readonly Answer<TxtRr>[]): Finding {
  const name = `_sendmux.${domain}`;
  const expected = verificationPrefix + team;
  return finding<TxtRr>(
    {
      check: 'verification_txt',
      type: 'TXT',
      name,
      expected,
      present: escaped,
      missing: (kind) =>
        kind === 'nxdomain'
          ? fail('txt_missing', `There is no ownership record at ${name}. Add the TXT record ${expected}.`)
          : fail(
              'txt_missing_nodata',
              `${name} exists, but has no TXT record. Check that the type is TXT and the value ${expected}.`,
            ),
      decide: (records, aliases) => {
        if (aliases.length > 0)
          return fail(
            'verification_via_cname',
            `${name} is a CNAME to ${aliases[0]}. Place the TXT record at ${name} itself: what somebody else publishes does not prove that ${domain} is yours.`,
          );
        if (records.includes(expected)) return pass();
        const like = (test: (text: string) => boolean) => records.some(test);
        if (like((text) => /["'\\]/.test(text) && text.replace(/["'\\]/g, '').trim() === expected))
          return fail(
            'txt_literal_quotes',
            `The value has quote characters in it. Your DNS provider adds its own: enter ${expected} without quotes.`,
          );
        if (like((text) => text.replace(/\s/g, '') === expected))
          return fail('txt_whitespace', `The value has white space in or around it. It must be exactly ${expected}.`);
        if (like((text) => /[^\x20-\x7e]/.test(text) && text.replace(/[^\x21-\x7e]/g, '') === expected))
          return fail(
            'invisible_characters',
            `The value has characters in it that cannot be seen (shown as \\ and a number). Type ${expected} by hand.`,
          );
        if (like((text) => text.trim().toLowerCase() === expected.toLowerCase()))
          return fail('txt_case', `The value is case-sensitive. It must be exactly ${expected}.`);
        if (like((text) => text === team))
          return fail(
            'txt_prefix_missing',
            `The value lacks its prefix. Confirm that it is ${expected}, including ${verificationPrefix}`,
          );
        if (like((text) => isToken.test(text)))
          return fail(
            'txt_other_team',
            `This token belongs to another Sendmux team. Confirm that the value is ${expected}, with your team’s public ID.`,
          );
        return fail('txt_wrong_value', `There is a TXT record at ${name}, but none with the value ${expected}.`);
      },
    },
    answers,
  );
}

/** What we give to teams: anything else is a slip of the pen, and nobody's. */
const isToken = new RegExp(`^${verificationPrefix}team_[a-z0-9]+$`);
