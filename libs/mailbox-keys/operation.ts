import { checkKeyRing, SecretUnreadable, type KeyRing } from '@app/secret-keys';
import type { Pool } from 'pg';

/** Keys that are encrypted anew at once. */
const pageSize = 500;

/** What `resealMailboxKeys` has done. */
export interface ResealedKeys {
  /** Keys that it has encrypted with the newest key of the ring. */
  readonly resealed: number;
  /** Mailboxes whose keys cannot be read, with the reason of each. */
  readonly unreadable: readonly { readonly id: string; readonly why: string }[];
}

/**
 * Encrypts the keys of all mailboxes with the newest key of the ring, page by page. To do so again changes nothing.
 */
export async function resealMailboxKeys(pool: Pool, ring: KeyRing): Promise<ResealedKeys> {
  const unreadable: { id: string; why: string }[] = [];
  let resealed = 0;
  for (let after = ''; ;) {
    const { rows } = await pool.query<{ id: string; key: Buffer; keyId: string }>(
      `SELECT mailbox_id AS id, key, key_id AS "keyId" FROM mailbox_keys
       WHERE mailbox_id > $1 AND key_id <> $2 ORDER BY mailbox_id LIMIT $3`,
      [after, ring.newest, pageSize],
    );
    const opened = rows.flatMap(({ id, key, keyId }) => {
      try {
        return [{ id, key, sealed: ring.seal(id, ring.open(id, key, keyId)).sealed }];
      } catch (error) {
        if (!(error instanceof SecretUnreadable)) throw error;
        unreadable.push({ id, why: error.message });
        return [];
      }
    });
    // A key that was destroyed meanwhile stays so.
    const { rowCount } = await pool.query(
      `UPDATE mailbox_keys AS held SET key = made.sealed, key_id = $4
       FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS made (id, key, sealed)
       WHERE held.mailbox_id = made.id AND held.key = made.key`,
      [opened.map(({ id }) => id), opened.map(({ key }) => key), opened.map(({ sealed }) => sealed), ring.newest],
    );
    resealed += rowCount ?? 0;
    if (rows.length < pageSize) return { resealed, unreadable };
    after = rows.at(-1)!.id;
  }
}

/**
 * Checks that the keys of the ring are those with which the newest keys of mailboxes were encrypted.
 *
 * @throws {SettingsInvalid} for a key that opens none of them.
 */
export async function checkMailboxKeyRing(pool: Pool, ring: KeyRing): Promise<void> {
  const newestUnder = async (keyId: string, limit: number) => {
    const { rows } = await pool.query<{ id: string; sealed: Buffer }>(
      `SELECT mailbox_id AS id, key AS sealed FROM mailbox_keys WHERE key_id = $1 ORDER BY wanted_at DESC LIMIT $2`,
      [keyId, limit],
    );
    return rows;
  };
  await checkKeyRing(ring, newestUnder, 'docs/mailboxes.md');
}

/**
 * Removes keys that no event needs, since the creation that they were made for was refused. Those of the last hour
 * stay, in which a creation may be under way; those of more than a week ago were looked at often enough.
 *
 * @param isUsed each gives the SQL condition that a mailbox, whose id an expression names, is there.
 * @returns how many it has removed.
 */
export async function removeUnusedMailboxKeys(
  pool: Pool,
  isUsed: readonly ((id: string) => string)[],
): Promise<number> {
  const { rowCount } = await pool.query(
    `DELETE FROM mailbox_keys AS held
     WHERE wanted_at < now() - interval '1 hour' AND wanted_at > now() - interval '7 days' AND key IS NOT NULL
       AND NOT (${isUsed.map((condition) => condition('held.mailbox_id')).join(' OR ')})`,
  );
  return rowCount ?? 0;
}

/** Keeps that the erasure of a mailbox has begun, until its key is destroyed. */
export async function beginErasure(pool: Pool, mailboxId: string): Promise<void> {
  await pool.query(
    'UPDATE mailbox_keys SET erasing_since = now() WHERE mailbox_id = $1 AND erasing_since IS NULL AND key IS NOT NULL',
    [mailboxId],
  );
}

/** Gives the ids of the mailboxes whose erasure has begun and whose key is not destroyed yet. */
export async function unfinishedErasures(pool: Pool): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `SELECT mailbox_id AS id FROM mailbox_keys
     WHERE erasing_since IS NOT NULL AND key IS NOT NULL ORDER BY mailbox_id`,
  );
  return rows.map(({ id }) => id);
}

/** Destroys the key of a mailbox, for good. To do so again changes nothing. */
export async function destroyMailboxKey(pool: Pool, mailboxId: string): Promise<void> {
  await pool.query(
    'UPDATE mailbox_keys SET key = NULL, key_id = NULL, erased_at = now() WHERE mailbox_id = $1 AND key IS NOT NULL',
    [mailboxId],
  );
}
