import { createHmac } from 'node:crypto';

const prefix = 'whsec_';

/**
 * Signs a message as Standard Webhooks asks (section "Symmetric signatures"): HMAC-SHA256 of `id.timestamp.body`.
 *
 * @param secrets `whsec_` and base64; each makes one signature, so that both sign while a secret is being replaced.
 * @param timestamp of this try, in seconds since the Unix epoch.
 * @returns the value of the header `webhook-signature`, such as `v1,K5oZ…=`, separated by spaces.
 */
export const signaturesOf = (
  secrets: readonly string[],
  id: string,
  timestamp: number,
  body: string | Buffer,
): string =>
  secrets
    .map((secret) => {
      const hmac = createHmac('sha256', Buffer.from(secret.slice(prefix.length), 'base64'));
      return `v1,${hmac.update(`${id}.${timestamp}.`).update(body).digest('base64')}`;
    })
    .join(' ');
