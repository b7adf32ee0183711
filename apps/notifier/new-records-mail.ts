import { day, escape, type FailureMail } from './failure-mail';

export interface NewRecords {
  /** The domain's name. */
  readonly name: string;
  /** The time of the repair (ISO 8601). */
  readonly at: string;
  /** The CNAME records to place. */
  readonly records: readonly { readonly name: string; readonly value: string }[];
}

/** Writes the mail about new DKIM records, which a domain gets when Amazon SES has lost it and it was repaired. */
export function newRecordsMail({ name, at, records }: NewRecords): FailureMail {
  const found = `On ${day(at)} at ${at.slice(11, 16)} UTC Amazon SES had lost ${name}, and we added it there again. It signs with other keys now, so the DKIM records of ${name} have to be others too.`;
  const next = `Please place these ${records.length} CNAME records, and remove those below _domainkey.${name} that we gave you before. Until then mail of ${name} is not signed.`;
  const why = 'You receive this mail, once, because you are an owner of the team that added the domain.';
  const lines = records.map((record) => `${record.name} CNAME ${record.value}`);
  return {
    subject: `${name} needs new DKIM records`,
    text: `Hello,\n\n${found}\n\n${next}\n\n${lines.map((line) => `   ${line}\n`).join('')}\n${why}\n\nSendmux\n`,
    html: `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(name)} needs new DKIM records</title></head>
<body style="margin:0;padding:24px;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<p>Hello,</p>
<p>${escape(found)}</p>
<p>${escape(next)}</p>
<p>${lines.map((line) => `<code>${escape(line)}</code>`).join('<br>')}</p>
<p style="color:#57606a;font-size:13px">${why}</p>
<p>Sendmux</p>
</body>
</html>
`,
  };
}
