import { inTransaction } from '@app/database';
import { checkKeyRing, SecretUnreadable } from '@app/secret-keys';
import type { Pool } from 'pg';
import { takeLanes, webhookColumns, webhookNotFound, type Webhook } from './endpoints';
import type { SecretKeys } from './secret-keys';

/** What `resealWebhooks` has done. */
export interface Resealed {
  /** Endpoints whose secrets it has encrypted with the newest key. */
  readonly resealed: number;
  /** Endpoints whose secrets cannot be read, with the reason of each. */
  readonly unreadable: readonly { readonly id: string; readonly why: string }[];
}

/** Endpoints that are resealed at once. */
const pageSize = 100;

/** Lists the endpoints of a team, or of all teams, by team and age, for operators. */
export async function listWebhooks(pool: Pool, team?: string): Promise<Webhook[]> {
  const { rows } = await pool.query<Webhook>(
    `SELECT ${webhookColumns} FROM webhooks WHERE $1::text IS NULL OR team = $1 ORDER BY team, id`,
    [team ?? null],
  );
  return rows;
}

/**
 * Gives an endpoint of any team, for operators.
 *
 * @throws {WebhookRuleBroken} `webhook_not_found`
 */
export async function showWebhook(pool: Pool, id: string): Promise<Webhook> {
  const { rows } = await pool.query<Webhook>(`SELECT ${webhookColumns} FROM webhooks WHERE id = $1`, [id]);
  if (!rows[0]) throw webhookNotFound(id);
  return rows[0];
}

/**
 * Disables an endpoint of any team, which its team can enable again.
 *
 * @throws {WebhookRuleBroken} `webhook_not_found`
 */
export async function disableWebhook(pool: Pool, id: string): Promise<Webhook> {
  await inTransaction(pool, async (client) => {
    const { rowCount } = await client.query(
      'UPDATE webhooks SET enabled = false, updated_at = now(), version = version + 1 WHERE id = $1 AND enabled',
      [id],
    );
    if (rowCount === 1) await takeLanes(client, id);
  });
  return showWebhook(pool, id);
}

type StoredSecrets = Readonly<{
  id: string;
  secret: Buffer;
  secretKeyId: string;
  oldSecret: Buffer | null;
  oldSecretKeyId: string | null;
}>;

/**
 * Encrypts the secrets of all teams with the newest key, page by page. To do so again changes nothing. Those that are
 * encrypted with it already are read too, since another key may have had the same id.
 */
export async function resealWebhooks(pool: Pool, keys: SecretKeys): Promise<Resealed> {
  const unreadable: { id: string; why: string }[] = [];
  let resealed = 0;
  for (let after = ''; ;) {
    const { rows } = await pool.query<StoredSecrets>(
      `SELECT id, secret, secret_key_id AS "secretKeyId", old_secret AS "oldSecret",
          old_secret_key_id AS "oldSecretKeyId"
        FROM webhooks WHERE id > $1 ORDER BY id LIMIT $2`,
      [after, pageSize],
    );
    for (const row of rows) {
      try {
        if (await resealOne(pool, keys, row)) resealed++;
      } catch (error) {
        if (!(error instanceof SecretUnreadable)) throw error;
        unreadable.push({ id: row.id, why: error.message });
      }
    }
    if (rows.length < pageSize) return { resealed, unreadable };
    after = rows.at(-1)!.id;
  }
}

/**
 * @returns false where nothing is left to do, and where the secrets were rotated meanwhile, in which case the next call
 * does what is left.
 */
async function resealOne(
  pool: Pool,
  keys: SecretKeys,
  { id, secret, secretKeyId, oldSecret, oldSecretKeyId }: StoredSecrets,
): Promise<boolean> {
  const opened = keys.open(id, secret, secretKeyId);
  const oldOpened = oldSecret && keys.open(id, oldSecret, oldSecretKeyId!);
  if (secretKeyId === keys.newest && (!oldSecret || oldSecretKeyId === keys.newest)) return false;
  const current = keys.seal(id, opened);
  const old = oldOpened === null ? null : keys.seal(id, oldOpened);
  const { rowCount } = await pool.query(
    `UPDATE webhooks SET secret = $3, secret_key_id = $4, old_secret = $5, old_secret_key_id = $6
      WHERE id = $1 AND secret = $2 AND old_secret IS NOT DISTINCT FROM $7`,
    [id, secret, current.sealed, current.keyId, old?.sealed ?? null, old?.keyId ?? null, oldSecret],
  );
  return rowCount === 1;
}

/**
 * Checks that the keys are those with which the newest secrets under their ids were encrypted. With another key, an app
 * would add secrets that the others cannot decrypt, and hold lanes for which it cannot sign.
 *
 * @throws {SettingsInvalid} for a key that opens none of them.
 */
export async function checkSecretKeys(pool: Pool, keys: SecretKeys): Promise<void> {
  const newestUnder = async (keyId: string, limit: number) => {
    const { rows } = await pool.query<{ id: string; sealed: Buffer }>(
      'SELECT id, secret AS sealed FROM webhooks WHERE secret_key_id = $1 ORDER BY updated_at DESC LIMIT $2',
      [keyId, limit],
    );
    return rows;
  };
  await checkKeyRing(keys.ring, newestUnder, 'docs/webhooks.md');
}
