import { visible } from '@app/runtime';
import type { MailedInvitation } from './invitations.service';

/**
 * Writes the mail that invites a person to be an owner. The token is in the mail only.
 *
 * @param publicUrl where customers reach the gateway, without a slash at its end.
 */
export function invitationMail(
  { teamName, email, token, expiresAt }: MailedInvitation,
  publicUrl: string,
): { subject: string; text: string } {
  // A name may be in any script, and have characters that a reader does not see.
  const [team, address] = [visible(teamName), visible(email)];
  const until = expiresAt.toLocaleDateString('en-AU', {
    day: 'numeric',
    month: 'long',
    year: 'numeric',
    timeZone: 'UTC',
  });
  return {
    subject: `You are invited to be an owner of ${team}`,
    text: `Hello,

you are invited to be an owner of the team ${team} at Sendmux, as ${address}. Owners are told by e-mail when a mail domain of the
team stays broken.

To accept, send this before ${until}:

   curl -X POST ${publicUrl}/api/v1/invitations/accept \\
     -H "Content-Type: application/json" \\
     -d '{ "token": "${token}" }'

If you do not know the team, do nothing: nothing comes of it, and you will hear no more of this.

Sendmux
`,
  };
}
