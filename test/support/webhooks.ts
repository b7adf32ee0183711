import { newId } from '@app/runtime';
import { SecretKeys, newSecret, type Message } from '@app/webhooks';
import type { Pool } from 'pg';

const key = Buffer.alloc(32, 7);

/** The keys that encrypt the secrets of the webhooks of tests. */
export const webhookKeys = new SecretKeys(new Map([['test', key]]));

/** The same as the setting `WEBHOOK_SECRET_KEYS`. */
export const webhookSecretKeys = `test=${key.toString('base64')}`;

/** Adds an endpoint to the tables. Gives its id and secret. */
export async function addWebhook(
  pool: Pool,
  {
    team = 'team_a',
    url = 'https://example.com/',
    types = null,
    domains = null,
    enabled = true,
    after = 0,
  }: {
    readonly team?: string;
    readonly url?: string;
    readonly types?: readonly string[] | null;
    readonly domains?: readonly string[] | null;
    readonly enabled?: boolean;
    readonly after?: number;
  } = {},
): Promise<{ id: string; secret: string }> {
  const [id, secret] = [newId('whk'), newSecret()];
  const { sealed, keyId } = webhookKeys.seal(id, secret);
  await pool.query(
    `INSERT INTO webhooks (id, team, url, event_types, domains, enabled, from_position, secret, secret_key_id)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [id, team, url, types, domains, enabled, after, sealed, keyId],
  );
  return { id, secret };
}

/** A message about a domain of `team_a`, by the version and position of its event. */
export const messageOf = (domain: string, version: number, changes: Partial<Message> = {}): Message => ({
  team: 'team_a',
  domain,
  message: `${domain}/${version}`,
  type: 'domain.verified',
  subject: domain,
  version,
  position: version,
  occurredAt: new Date().toISOString(),
  ...changes,
});
