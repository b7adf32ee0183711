import { randomBytes } from 'node:crypto';
import type { Recorded } from '@app/decider';
import { isEncrypted, type OpenSealed, type Seal } from '@app/mailbox';
import { SettingsInvalid } from '@app/runtime';
import { decrypt, encrypt, keyOctets, KeyRing } from '@app/secret-keys';
import type { Pool } from 'pg';

/** The setting with the keys under which the keys of mailboxes are stored. */
const setting = 'PERSONAL_DATA_KEYS';

/** Octets to whose multiples personal data are padded, so that a ciphertext does not tell how long an address is. */
const paddedTo = 64;

/** Thrown when a mailbox has no key and no erasure says why: what is encrypted under it cannot be read. */
export class MailboxKeyLost extends Error {
  override readonly name = 'MailboxKeyLost';
}

/** Thrown for new personal data of a mailbox whose key is destroyed. */
export class MailboxKeyErased extends Error {
  override readonly name = 'MailboxKeyErased';
}

/**
 * Makes the ring of a setting.
 *
 * @throws {SettingsInvalid} for none, saying how to make one.
 */
export function mailboxKeyRing(keys?: ReadonlyMap<string, Buffer>): KeyRing {
  if (!keys)
    throw new SettingsInvalid(
      `${setting} is not set: without it the addresses of mailboxes can be neither encrypted nor decrypted. Set it\n` +
        'to the same everywhere. Where there is none yet, make one: id=key, such as\n' +
        `  ${setting}="2026-01=$(openssl rand -base64 32)"\n` +
        'docs/settings.md explains it.',
    );
  return new KeyRing(keys, { setting, secret: 'key' });
}

interface StoredKey {
  readonly id: string;
  readonly key: Buffer | null;
  readonly keyId: string | null;
}

/**
 * Gives the keys under which the personal data of mailboxes are encrypted, one for each mailbox. None is remembered: a
 * key that was destroyed opens nothing from then on, in whatever process.
 */
export class MailboxKeys {
  /** @param ring absent: reading what is encrypted, and encrypting, throws {SettingsInvalid}. */
  constructor(
    private readonly pool: Pool,
    private readonly ring?: KeyRing,
  ) {}

  /**
   * Gives what decrypts the personal data of recorded events. Asks the database once for all of them, and not at all
   * where none is encrypted.
   *
   * @throws {SecretUnreadable} where the ring cannot open a key.
   * @throws {MailboxKeyLost}
   */
  async openerOf(recorded: readonly Pick<Recorded, 'stream' | 'type' | 'schemaVersion'>[]): Promise<OpenSealed> {
    const ids = [...new Set(recorded.filter(isEncrypted).map(({ stream }) => stream))];
    const keys = ids.length === 0 ? new Map<string, Buffer | undefined>() : await this.find(ids);
    return (mailboxId, sealed) => {
      const key = keys.get(mailboxId);
      return key && decrypt(key, mailboxId, Buffer.from(sealed, 'base64')).toString('utf8');
    };
  }

  /**
   * Gives what encrypts personal data of a mailbox, whose key is made where it has none yet. A new key is committed
   * before the event that needs it, and not waited for: the log of the database keeps both in their order, so whatever
   * keeps the event keeps the key.
   *
   * @throws {MailboxKeyErased} and what `openerOf` throws.
   */
  async sealerFor(mailboxId: string): Promise<Seal> {
    const made = randomBytes(keyOctets);
    const { sealed, keyId } = (this.ring ?? mailboxKeyRing()).seal(mailboxId, made);
    // One that was made a while ago and never used is about to be removed, and stays when it is wanted again.
    const { rows } = await this.pool.query<{ isNew: boolean }>({
      name: 'mailbox-key-make',
      text: `WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true))
        INSERT INTO mailbox_keys AS held (mailbox_id, key, key_id) SELECT $1, $2, $3 FROM unhurried
        ON CONFLICT (mailbox_id) DO UPDATE SET wanted_at = now()
          WHERE held.key IS NOT NULL AND held.wanted_at < now() - interval '30 minutes'
        RETURNING key = $2 AS "isNew"`,
      values: [mailboxId, sealed, keyId],
    });
    const key = rows[0]?.isNew ? made : (await this.find([mailboxId])).get(mailboxId);
    if (!key) throw new MailboxKeyErased(`The personal data of ${mailboxId} are erased, and it takes no new ones.`);
    return (personal) => encrypt(key, mailboxId, padded(personal)).toString('base64');
  }

  /** Gives the keys of mailboxes by their ids; undefined for a key that is destroyed. */
  private async find(ids: readonly string[]): Promise<Map<string, Buffer | undefined>> {
    const { rows } = await this.pool.query<StoredKey>({
      name: 'mailbox-keys-find',
      text: `SELECT mailbox_id AS id, key, key_id AS "keyId" FROM mailbox_keys WHERE mailbox_id = ANY ($1)`,
      values: [ids],
    });
    const ring = this.ring ?? mailboxKeyRing();
    const found = new Map(
      rows.map(({ id, key, keyId }) => [id, key ? ring.open(id, key, keyId!) : undefined] as const),
    );
    const lost = ids.find((id) => !found.has(id));
    if (lost !== undefined)
      throw new MailboxKeyLost(
        `${lost} has no key in mailbox_keys, and none was destroyed: restore that table from a backup of this log.`,
      );
    return found;
  }
}

/** Pads JSON with spaces, which it may end with. */
function padded(personal: string): Buffer {
  const octets = Buffer.from(personal);
  return Buffer.concat([octets, Buffer.alloc((paddedTo - (octets.length % paddedTo)) % paddedTo, ' ')]);
}
