import { checkNamed, deciding, type Finding } from '@app/mail-records';
import { visible as seen } from '@app/runtime';

export interface FailureMail {
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export interface Failure {
  readonly domainId: string;
  /** The domain's name. */
  readonly name: string;
  /** The time of the look that failed the domain (ISO 8601). */
  readonly at: string;
  readonly failing: readonly Finding[];
  /** Findings of the same look that are indeterminate. */
  readonly unjudged?: readonly Finding[];
  /** The time (ISO 8601) from which another team may claim the name; absent while the ownership record is there. */
  readonly claimableFrom?: string | undefined;
}

/** Longer values are cut: they come from the DNS of others, and could push the rest of the mail out of sight. */
const longestValue = 500;

/** The content of the text and the HTML form, as plain text. */
interface Content {
  readonly name: string;
  readonly found: string;
  readonly count: string;
  readonly records: readonly RecordContent[];
  /** Those without which the domain is verified all the same. */
  readonly beside: readonly RecordContent[];
  /** The titles of the records whose finding is indeterminate. */
  readonly unjudged: readonly string[];
  /** When others may claim the name; empty where they may not. */
  readonly claimable: string;
  readonly verify: string;
}

interface RecordContent {
  readonly title: string;
  readonly expected: string;
  readonly seen: readonly string[];
  readonly advice: string;
}

const couldNotBeChecked =
  'These could not be checked this time. We do not say that they are wrong: verifying the domain checks them again.';
const notRequired =
  'The domain can be verified without these. With them more of its mail passes DMARC, so mend them in the same go:';
const next = 'We no longer check this domain on our own. Once you have mended the records, please ask us to verify it:';
const patience = 'A change in the DNS can take a few minutes to be seen. If it still fails then, the answer says why.';
const why = 'You receive this mail, once for this failure, because you are an owner of the team that added the domain.';

/**
 * Writes the mail that says which records of a domain fail, with the expected value, the observed value and the remedy.
 * The observed text is chosen by whoever holds the zone, and may be hostile: it is shown as one line without control
 * characters, and escaped in HTML.
 */
export function failureMail({ domainId, name, at, failing, unjudged = [], claimableFrom }: Failure): FailureMail {
  const required = deciding(failing);
  const count = required.length === 1 ? '1 record needs' : `${required.length} records need`;
  const content: Content = {
    name,
    found: `On ${day(at)} at ${at.slice(11, 16)} UTC we checked the DNS records of ${name} and found, for the second time in a row, that they do not match. The domain’s status is now “failed”.`,
    count,
    records: required.map(recordContent),
    beside: failing.filter((finding) => !required.includes(finding)).map(recordContent),
    unjudged: unjudged.map(({ check, type, name: at }) =>
      checkNamed(check)?.authority === 'ses'
        ? `${titleOf(check)} records of ${visible(at)}`
        : `${type} record at ${visible(at)} (${titleOf(check)})`,
    ),
    claimable: claimableFrom === undefined ? '' : claimable(name, claimableFrom),
    verify: `POST /api/v1/domains/${domainId}/verify`,
  };
  return {
    subject: `${name} is no longer verified: ${count} your attention`,
    text: asText(content),
    html: asHtml(content),
  };
}

/** Warns of what happens to a name whose ownership record stays away. */
export const claimable = (name: string, from: string): string =>
  `The record that proves that ${name} is your team’s is gone. From ${day(from)} at ${from.slice(11, 16)} UTC on another team may claim ${name}, if it proves that the name is its own.`;

const recordContent = ({ type, name, expected, observed, message }: Finding): RecordContent => ({
  title: `${type} record at ${visible(name)}`,
  expected: visible(expected),
  seen: observed.length > 0 ? observed.map(visible) : ['no such record'],
  advice: visible(message),
});

function asText({ found, count, records, beside, unjudged, claimable, verify }: Content): string {
  const listed = (from: number, some: readonly RecordContent[]) =>
    some
      .map(
        ({ title, expected, seen, advice }, index) => `${from + index}. ${title}
   Expected:   ${expected}
   Seen:       ${seen.join('\n               ')}
   What to do: ${advice}
`,
      )
      .join('\n');
  return `Hello,

${found}

${count} your attention.

${listed(1, records)}${beside.length > 0 ? `\n${notRequired}\n\n${listed(records.length + 1, beside)}` : ''}${unjudged.length > 0 ? `\n${couldNotBeChecked}\n\n${unjudged.map((title) => `   ${title}\n`).join('')}` : ''}${claimable && `\n${claimable}\n`}
${next}

   ${verify}

${patience}

${why}

Sendmux
`;
}

/** Writes a row of a table of labels, whose cell is HTML. */
export const row = (label: string, cell: string) =>
  `<tr><td style="padding:4px 16px 4px 0;color:#57606a;vertical-align:top;white-space:nowrap">${label}</td><td style="padding:4px 0;vertical-align:top">${cell}</td></tr>`;
/** Writes a value of the DNS as HTML. */
export const code = (value: string) =>
  `<code style="font-family:Menlo,Consolas,monospace;font-size:13px;word-break:break-all">${escape(value)}</code>`;

function asHtml({ name, found, count, records, beside, unjudged, claimable, verify }: Content): string {
  const listed = (some: readonly RecordContent[]) =>
    some
      .map(
        ({ title, expected, seen, advice }) => `<h2 style="margin:24px 0 8px;font-size:16px">${escape(title)}</h2>
<table role="presentation" cellspacing="0" cellpadding="0" style="border-collapse:collapse">
${row('Expected', code(expected))}
${row('Seen', seen.map(code).join('<br>'))}
${row('What to do', escape(advice))}
</table>`,
      )
      .join('\n');
  return `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(name)} is no longer verified</title></head>
<body style="margin:0;padding:24px;background:#ffffff;color:#1f2328;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<div style="max-width:640px">
<p>Hello,</p>
<p>${escape(found)}</p>
<p><strong>${count} your attention.</strong></p>
${listed(records)}
${beside.length > 0 ? `<p style="margin-top:24px">${escape(notRequired)}</p>\n${listed(beside)}\n` : ''}${unjudged.length > 0 ? `<p style="margin-top:24px">${escape(couldNotBeChecked)}</p>\n<ul>${unjudged.map((title) => `<li>${escape(title)}</li>`).join('')}</ul>\n` : ''}${claimable && `<p style="margin-top:24px">${escape(claimable)}</p>\n`}<p style="margin-top:24px">${escape(next)}</p>
<p>${code(verify)}</p>
<p>${escape(patience)}</p>
<p style="color:#57606a;font-size:13px">${escape(why)}</p>
<p>Sendmux</p>
</div>
</body>
</html>
`;
}

/** Gives the title of a check. A check of a later release is unknown here, and is shown by its name. */
const titleOf = (check: string): string => checkNamed(check)?.title ?? check;

/** Gives the value on one line, with hidden characters as escapes, and cut where it is long. */
export function visible(value: string): string {
  const spelt = seen(value);
  return spelt.length > longestValue ? `${spelt.slice(0, longestValue)}… (${spelt.length} characters)` : spelt;
}

export const escape = (value: string): string => value.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);

export const day = (at: string): string =>
  new Date(at).toLocaleDateString('en-AU', { day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' });
