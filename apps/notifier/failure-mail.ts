import type { Finding } from '@app/mail-domain';

export interface FailureMail {
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export interface Failure {
  readonly domainId: string;
  /** The domain's name. */
  readonly name: string;
  /** ISO 8601: when the cycle found it. */
  readonly at: string;
  readonly failing: readonly Finding[];
  /** What the same look could not judge: it may be right. */
  readonly unjudged?: readonly Finding[];
}

const labels = { mx: 'MX', verification_txt: 'ownership', spf: 'SPF', dmarc: 'DMARC' } as const;

/** Longer values are cut: they are somebody's DNS, and may be made to hide the rest of the mail. */
const longestValue = 500;

/**
 * The mail that tells an owner which records fail, what was expected, what was seen and what to do. Everything observed
 * is the text of whoever holds the zone now: it is shown as one line without control characters, and escaped in HTML.
 */
export function failureMail({ domainId, name, at, failing, unjudged = [] }: Failure): FailureMail {
  const records = failing.map((finding) => ({
    title: `${finding.type} record at ${visible(finding.name)}`,
    expected: visible(finding.expected),
    seen: finding.observed.length > 0 ? finding.observed.map(visible) : ['no such record'],
    advice: visible(finding.message),
  }));
  const count = records.length === 1 ? '1 record needs' : `${records.length} records need`;
  const found = `On ${day(at)} at ${at.slice(11, 16)} UTC we checked the DNS records of ${name} and found, for the second time in a row, that they do not match. The domain’s status is now “failed”.`;
  const open = unjudged.map(({ check, type, name: at }) =>
    check === 'dkim' ? `DKIM records of ${visible(at)}` : `${type} record at ${visible(at)} (${labels[check]})`,
  );
  const opening =
    'These could not be checked this time. We do not say that they are wrong: verifying the domain checks them again.';
  const next = `We no longer check this domain on our own. Once you have mended the records, please ask us to verify it:`;
  const verify = `POST /api/v1/domains/${domainId}/verify`;
  const patience =
    'A change in the DNS can take a few minutes to be seen. If it still fails then, the answer says why.';
  const why =
    'You receive this mail, once for this failure, because you are an owner of the team that added the domain.';

  const text = `Hello,

${found}

${count} your attention.

${records
  .map(
    ({ title, expected, seen, advice }, index) => `${index + 1}. ${title}
   Expected:   ${expected}
   Seen:       ${seen.join('\n               ')}
   What to do: ${advice}
`,
  )
  .join('\n')}${open.length > 0 ? `\n${opening}\n\n${open.map((title) => `   ${title}\n`).join('')}` : ''}
${next}

   ${verify}

${patience}

${why}

Sendmux
`;

  const row = (label: string, cell: string) =>
    `<tr><td style="padding:4px 16px 4px 0;color:#57606a;vertical-align:top;white-space:nowrap">${label}</td><td style="padding:4px 0;vertical-align:top">${cell}</td></tr>`;
  const code = (value: string) =>
    `<code style="font-family:Menlo,Consolas,monospace;font-size:13px;word-break:break-all">${escape(value)}</code>`;
  const html = `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(name)} is no longer verified</title></head>
<body style="margin:0;padding:24px;background:#ffffff;color:#1f2328;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<div style="max-width:640px">
<p>Hello,</p>
<p>${escape(found)}</p>
<p><strong>${count} your attention.</strong></p>
${records
  .map(
    ({ title, expected, seen, advice }) => `<h2 style="margin:24px 0 8px;font-size:16px">${escape(title)}</h2>
<table role="presentation" cellspacing="0" cellpadding="0" style="border-collapse:collapse">
${row('Expected', code(expected))}
${row('Seen', seen.map(code).join('<br>'))}
${row('What to do', escape(advice))}
</table>`,
  )
  .join('\n')}
${open.length > 0 ? `<p style="margin-top:24px">${escape(opening)}</p>\n<ul>${open.map((title) => `<li>${escape(title)}</li>`).join('')}</ul>\n` : ''}<p style="margin-top:24px">${escape(next)}</p>
<p>${code(verify)}</p>
<p>${escape(patience)}</p>
<p style="color:#57606a;font-size:13px">${escape(why)}</p>
<p>Sendmux</p>
</div>
</body>
</html>
`;
  return { subject: `${name} is no longer verified: ${count} your attention`, text, html };
}

/** On one line, with what cannot be seen (controls, and marks that turn the direction of text) spelt out. */
export function visible(value: string): string {
  const spelt = value.replace(/[\p{C}\u2028\u2029]/gu, (mark) => `\\u{${mark.codePointAt(0)!.toString(16)}}`);
  return spelt.length > longestValue ? `${spelt.slice(0, longestValue)}… (${spelt.length} characters)` : spelt;
}

export const escape = (value: string): string => value.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);

export const day = (at: string): string =>
  new Date(at).toLocaleDateString('en-AU', { day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' });
