import { escape, type FailureMail } from './failure-mail';

/** A mail of a few paragraphs, in plain text. */
interface Letter {
  readonly subject: string;
  /** The title of the HTML form. */
  readonly title: string;
  readonly paragraphs: readonly string[];
  /** Why its reader gets it. */
  readonly why: string;
}

/** Writes both forms of a mail. */
export const letter = ({ subject, title, paragraphs, why }: Letter): FailureMail => ({
  subject,
  text: `Hello,\n\n${paragraphs.map((paragraph) => `${paragraph}\n\n`).join('')}${why}\n\nSendmux\n`,
  html: `<!doctype html>
<html lang="en-AU">
<head><meta charset="utf-8"><title>${escape(title)}</title></head>
<body style="margin:0;padding:24px;font-family:Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5">
<p>Hello,</p>
${paragraphs.map((paragraph) => `<p>${escape(paragraph)}</p>\n`).join('')}<p style="color:#57606a;font-size:13px">${escape(why)}</p>
<p>Sendmux</p>
</body>
</html>
`,
});
