import { setupPageOf, type SecretSetupLink } from '@app/accounts';
import type { RecordWithStatus } from '@app/mail-records';
import { code, day, escape, row, type FailureMail } from './failure-mail';

/** What the mail with setup instructions says. */
export interface SetupMail {
  readonly link: Pick<SecretSetupLink, 'token' | 'expiresAt'>;
  /** The domain's name. */
  readonly domain: string;
  /** The name that every host is relative to. */
  readonly zone: string;
  readonly records: readonly Pick<RecordWithStatus, 'type' | 'name' | 'host' | 'value' | 'ttl'>[];
}

/**
 * Writes the mail with a setup link and the DNS records of a domain, for whoever edits its DNS. It names nothing of the
 * team but the domain. The token is in the mail only.
 *
 * @param publicUrl where customers reach the gateway, without a slash at its end.
 */
export function setupMail({ link, domain, zone, records }: SetupMail, publicUrl: string): FailureMail {
  const until = day(link.expiresAt.toISOString());
  const page = setupPageOf(publicUrl, link.token);
  const asked = `Somebody who is setting up mail for ${domain} with Sendmux asks you to place its DNS records.`;
  const open = `This page shows each record to copy, what your DNS has now, and whether they are in place. It needs no account, and works until ${until}:`;
  const here = `These are the records. Place them in the DNS of ${zone}, wherever that is hosted. Where you are asked for a name relative to ${zone}, enter the host.`;
  const spf = `Where ${domain} has an SPF record (v=spf1) or a DMARC record (v=DMARC1) already, do not place a second one: the page shows the two merged.`;
  const patience = 'A change in the DNS can take a few minutes to be seen. We look by ourselves, too.';
  const why = `If you do not look after the DNS of ${domain}, do nothing. You receive this mail, once, because somebody entered your address. Do not pass the link on to people who should not see these records.`;
  return {
    subject: `DNS records to place for ${domain}`,
    text: `Hello,

${asked}

${open}

   ${page}

${here}

${records
  .map(
    ({ type, name, host, value, ttl }, index) => `${index + 1}. ${type}
   Name:  ${name}
   Host:  ${host}
   Value: ${value}
   TTL:   ${ttl}
`,
  )
  .join('\n')}
${spf}

${patience}

${why}

Sendmux
`,
    html: `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(`DNS records to place for ${domain}`)}</title></head>
<body style="margin:0;padding:24px;background:#ffffff;color:#1f2328;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<div style="max-width:640px">
<p>Hello,</p>
<p>${escape(asked)}</p>
<p>${escape(open)}</p>
<p><a href="${escape(page)}" rel="noreferrer">Set up ${escape(domain)}</a></p>
<p style="word-break:break-all"><code>${escape(page)}</code></p>
<p>${escape(here)}</p>
${records
  .map(
    ({ type, name, host, value, ttl }) => `<h2 style="margin:24px 0 8px;font-size:16px">${escape(type)}</h2>
<table role="presentation" cellspacing="0" cellpadding="0" style="border-collapse:collapse">
${row('Name', code(name))}
${row('Host', code(host))}
${row('Value', code(value))}
${row('TTL', code(String(ttl)))}
</table>`,
  )
  .join('\n')}
<p style="margin-top:24px">${escape(spf)}</p>
<p>${escape(patience)}</p>
<p style="color:#57606a;font-size:13px">${escape(why)}</p>
<p>Sendmux</p>
</div>
</body>
</html>
`,
  };
}
