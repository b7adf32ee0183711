import { createTransport } from 'nodemailer';
import type { Invitation } from '@app/accounts';

/** The mail that asks somebody to be an owner. It alone has the token. */
export function invitationMail({
  teamName,
  email,
  token,
  expiresAt,
}: Invitation & { readonly teamName: string; readonly token: string }): { subject: string; text: string } {
  const until = expiresAt.toLocaleDateString('en-AU', {
    ...{ day: 'numeric', month: 'long', year: 'numeric' },
    timeZone: 'UTC',
  });
  return {
    subject: `You are invited to be an owner of ${teamName}`,
    text: `Hello,

you are invited to be an owner of the team ${teamName} at Sendmux, as ${email}. Owners are told by e-mail when a mail domain of the
team stays broken.

To accept, send this before ${until}:

   curl -X POST https://app.sendmux.ai/api/v1/invitations/accept \\
     -H "Content-Type: application/json" \\
     -d '{ "token": "${token}" }'

If you do not know the team, do nothing: nothing comes of it, and you will hear no more of this.

Sendmux
`,
  };
}

/** @throws {Error} as the SMTP server, or the way to it, said. */
export async function send(
  { SMTP_URL, NOTIFY_FROM }: { readonly SMTP_URL: string; readonly NOTIFY_FROM: string },
  to: string,
  mail: { readonly subject: string; readonly text: string },
): Promise<void> {
  const transport = createTransport({ url: SMTP_URL, connectionTimeout: 10_000, socketTimeout: 30_000 });
  try {
    await transport.sendMail({ from: NOTIFY_FROM, to, ...mail });
  } finally {
    transport.close();
  }
}
