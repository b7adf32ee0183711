import { day, escape, type FailureMail } from './failure-mail';
import type { NewRecordsTask } from './notices';

export interface NewRecord {
  readonly name: string;
  readonly type: 'CNAME' | 'MX';
  readonly value: string;
}

export interface NewRecords {
  /** The domain's name. */
  readonly name: string;
  /** The time of the event that the mail is about (ISO 8601). */
  readonly at: string;
  /** The records to place. */
  readonly records: readonly NewRecord[];
  /** Why the records are new; absent where Amazon SES had lost the domain and it was repaired. */
  readonly because?: NewRecordsTask['because'];
}

interface Words {
  readonly subject: string;
  readonly found: string;
  readonly next: string;
}

/** Writes the mail about other records, which a domain gets by a repair and by a move to another shard of SES. */
export function newRecordsMail(change: NewRecords): FailureMail {
  const { subject, found, next } = wordsOf(change);
  const why = 'You receive this mail, once, because you are an owner of the team that added the domain.';
  const lines = change.records.map(({ name, type, value }) => `${name} ${type} ${value}`);
  return {
    subject,
    text: `Hello,\n\n${found}\n\n${next}\n\n${lines.map((line) => `   ${line}\n`).join('')}\n${why}\n\nSendmux\n`,
    html: `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(subject)}</title></head>
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

function wordsOf({ name, at, records, because }: NewRecords): Words {
  const on = `On ${day(at)} at ${at.slice(11, 16)} UTC`;
  switch (because) {
    case 'move':
      return {
        subject: `${name} needs further DKIM records`,
        found: `${on} we began to move ${name} to another part of Amazon SES, which signs with other keys. Nothing changes for its mail until Amazon SES has seen the new DKIM records.`,
        next: `Please place these ${records.length} CNAME records beside those below _domainkey.${name} that are there. Once Amazon SES has seen them, ${name} is moved by itself; the old ones may be removed a few days after that.`,
      };
    case 'moved':
      return {
        subject: `${name} needs another MX record for its bounces`,
        found: `${on} Amazon SES had seen the new DKIM records of ${name}, which sends from another Region since. Its MAIL FROM domain needs the MX record of that Region.`,
        next: 'Please replace the MX record there by this one. Until then mail is signed and sent as before, and SPF does not align for DMARC.',
      };
    case undefined:
      return {
        subject: `${name} needs new DKIM records`,
        found: `${on} Amazon SES had lost ${name}, and we added it there again. It signs with other keys now, so the DKIM records of ${name} have to be others too.`,
        next: `Please place these ${records.length} CNAME records, and remove those below _domainkey.${name} that we gave you before. Until then mail of ${name} is not signed.`,
      };
  }
}
