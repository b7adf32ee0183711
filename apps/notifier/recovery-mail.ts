import { day, escape, type FailureMail } from './failure-mail';

/** Writes the mail which says that a failure is over, to owners who had the mail about the failure. */
export function recoveryMail({ name, at }: { readonly name: string; readonly at: string }): FailureMail {
  const found = `On ${day(at)} at ${at.slice(11, 16)} UTC we checked the DNS records of ${name} again, and all of them match. The domain’s status is “verified”.`;
  const next = 'You need not do anything. We check this domain on our own again.';
  const why = 'You receive this mail, once, because we told you that the domain had failed.';
  return {
    subject: `${name} is verified again`,
    text: `Hello,\n\n${found}\n\n${next}\n\n${why}\n\nSendmux\n`,
    html: `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(name)} is verified again</title></head>
<body style="margin:0;padding:24px;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<p>Hello,</p>
<p>${escape(found)}</p>
<p>${next}</p>
<p style="color:#57606a;font-size:13px">${why}</p>
<p>Sendmux</p>
</body>
</html>
`,
  };
}
