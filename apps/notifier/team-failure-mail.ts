import { deciding } from '@app/mail-records';
import { claimable, day, escape, visible, type Failure, type FailureMail } from './failure-mail';

/** Number of domains that are listed with their records; the others are only named. */
const mostInFull = 50;
/** Number of domains that are named. */
const mostNamed = 200;

/**
 * Writes the mail about several domains of a team that failed in the same cycle. It only names the failing records that
 * decide: the answer to a verification has the details. It contains no observed values.
 *
 * @param failures of one team, at least two.
 */
export function teamFailureMail(failures: readonly Failure[]): FailureMail {
  const sorted = [...failures].sort((a, b) => (a.name < b.name ? -1 : 1));
  const times = sorted.map(({ at }) => at).sort();
  const [first, last] = [times[0]!, times.at(-1)!];
  const when = (at: string) => `${day(at)} at ${at.slice(11, 16)} UTC`;
  const span = when(first) === when(last) ? `On ${when(first)}` : `Between ${when(first)} and ${when(last)}`;
  const found = `${span} we checked the DNS records of your domains and found, for the second time in a row, that those of ${sorted.length} domains do not match. Their status is now “failed”.`;
  const common =
    'When many fail at once, look first at what they share: the DNS provider, or a record that was changed for all of them.';
  const next =
    'We no longer check these domains on our own. Once you have mended the records, please ask us to verify each of them; the answer says what to change:';
  const why =
    'You receive this mail, once for these failures, because you are an owner of the team that added the domains.';
  const full = sorted.slice(0, mostInFull).map(({ name, domainId, failing, claimableFrom }) => ({
    name: visible(name),
    verify: `POST /api/v1/domains/${domainId}/verify`,
    records: [
      ...deciding(failing).map(
        (finding) => `${finding.type} record at ${visible(finding.name)}: ${visible(finding.message)}`,
      ),
      ...(claimableFrom === undefined ? [] : [claimable(visible(name), claimableFrom)]),
    ],
  }));
  const named = sorted.slice(mostInFull, mostNamed).map(({ name }) => visible(name));
  const rest = sorted.length - full.length - named.length;
  const also = named.length > 0 ? `Also failed: ${named.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}.` : '';

  const text = `Hello,

${found}

${common}

${full
  .map(({ name, records, verify }) => [name, ...records.map((record) => `   - ${record}`), `   ${verify}`].join('\n'))
  .join('\n\n')}
${also && `\n${also}\n`}
${next}

   POST /api/v1/domains/{id}/verify

${why}

Sendmux
`;
  const html = `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${sorted.length} domains are no longer verified</title></head>
<body style="margin:0;padding:24px;background:#ffffff;color:#1f2328;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<div style="max-width:640px">
<p>Hello,</p>
<p>${escape(found)}</p>
<p>${escape(common)}</p>
${full
  .map(
    ({ name, records, verify }) =>
      `<h2 style="margin:24px 0 8px;font-size:16px">${escape(name)}</h2>\n<ul>${records.map((record) => `<li>${escape(record)}</li>`).join('')}</ul>\n<p><code>${escape(verify)}</code></p>`,
  )
  .join('\n')}
${also && `<p>${escape(also)}</p>\n`}<p style="margin-top:24px">${escape(next)}</p>
<p><code>POST /api/v1/domains/{id}/verify</code></p>
<p style="color:#57606a;font-size:13px">${escape(why)}</p>
<p>Sendmux</p>
</div>
</body>
</html>
`;
  return {
    subject: `${sorted.length} domains are no longer verified: ${visible(sorted[0]!.name)} and others`,
    text,
    html,
  };
}
