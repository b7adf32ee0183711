import { randomBytes } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { ofAnyLength } from '@app/database';
import type { Recorded } from '@app/decider';
import { isEncrypted, type OpenSealed, type Seal } from '@app/mailbox';
import { SettingsInvalid } from '@app/runtime';
import { decrypt, encrypt, keyOctets, KeyRing, SecretUnreadable } from '@app/secret-keys';
import type { Pool } from 'pg';

/** The setting with the keys under which the keys of mailboxes are stored. */
const setting = 'PERSONAL_DATA_KEYS';

/** Octets to whose multiples personal data are padded, so that a ciphertext does not tell how long an address is. */
const paddedTo = 64;

/**
 * Thrown when a mailbox has no key and no erasure says why: what is encrypted under it cannot be read. Those who read
 * several mailboxes at once go on with the others.
 */
export class MailboxKeyLost extends Error {
  override readonly name = 'MailboxKeyLost';
}

/** Thrown for new personal data of a mailbox whose key is destroyed. */
export class MailboxKeyErased extends Error {
  override readonly name = 'MailboxKeyErased';
}

/**
 * Makes a ring of keys that stay.
 *
 * @throws {SettingsInvalid} for none, saying how to make one.
 */
export function mailboxKeyRing(keys?: ReadonlyMap<string, Buffer>): KeyRing {
  return mailboxKeyRingOf({ PERSONAL_DATA_KEYS: keys });
}

/**
 * Makes the ring of the settings, which follows them.
 *
 * @throws {SettingsInvalid} as `mailboxKeyRing`.
 */
export function mailboxKeyRingOf(settings: { readonly [setting]?: ReadonlyMap<string, Buffer> | undefined }): KeyRing {
  if (!settings[setting])
    throw new SettingsInvalid(
      `${setting} is not set: without it the addresses of mailboxes can be neither encrypted nor decrypted. Set it\n` +
        'to the same everywhere. Where there is none yet, make one: id=key, such as\n' +
        `  ${setting}="2026-01=$(openssl rand -base64 32)"\n` +
        'docs/settings.md explains it.',
    );
  return new KeyRing(() => settings[setting]!, { setting, secret: 'key' });
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
  private readonly logger = new Logger(MailboxKeys.name);

  /** @param ring absent: reading what is encrypted, and encrypting, throws {SettingsInvalid}. */
  constructor(
    private readonly pool: Pool,
    private readonly ring?: KeyRing,
  ) {}

  /**
   * Gives what decrypts the personal data of recorded events. Asks the database once for all of them, and not at all
   * where none is encrypted. What it gives throws {MailboxKeyLost} for a mailbox without a key, and {SecretUnreadable}
   * for one whose key the ring cannot open, and reads all others: the log has an error about each of these.
   */
  async openerOf(recorded: readonly Pick<Recorded, 'stream' | 'type' | 'schemaVersion'>[]): Promise<OpenSealed> {
    const ids = [...new Set(recorded.filter(isEncrypted).map(({ stream }) => stream))];
    const keys = ids.length === 0 ? new Map<string, FoundKey>() : await this.find(ids);
    return (mailboxId, sealed) => {
      const key = usable(keys.get(mailboxId));
      return key && decrypt(key, mailboxId, Buffer.from(sealed, 'base64')).toString('utf8');
    };
  }

  /**
   * Gives what encrypts personal data of a mailbox, whose key is made where it has none yet. A new key is committed
   * before the event that needs it, and not waited for: the log of the database keeps both in their order, so whatever
   * keeps the event keeps the key.
   *
   * @throws {MailboxKeyErased} and what the result of `openerOf` throws.
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
    const key = rows[0]?.isNew ? made : usable((await this.find([mailboxId])).get(mailboxId));
    if (!key) throw new MailboxKeyErased(`The personal data of ${mailboxId} are erased, and it takes no new ones.`);
    return (personal) => encrypt(key, mailboxId, padded(personal)).toString('base64');
  }

  /** Gives the keys of mailboxes by their ids. */
  private async find(ids: readonly string[]): Promise<Map<string, FoundKey>> {
    const { rows } = await this.pool.query<StoredKey>({
      name: 'mailbox-keys-find',
      text: `SELECT mailbox_id AS id, key, key_id AS "keyId" FROM mailbox_keys
        WHERE mailbox_id = ANY (${ofAnyLength('$1', 'text')})`,
      values: [ids],
    });
    const ring = this.ring ?? mailboxKeyRing();
    const stored = new Map(rows.map((row) => [row.id, row]));
    return new Map(ids.map((id) => [id, this.opened(ring, id, stored.get(id))]));
  }

  private opened(ring: KeyRing, id: string, stored: StoredKey | undefined): FoundKey {
    try {
      if (!stored)
        throw new MailboxKeyLost(
          `${id} has no key in mailbox_keys, and none was destroyed: restore that table from a backup of this log.`,
        );
      return stored.key ? ring.open(id, stored.key, stored.keyId!) : undefined;
    } catch (error) {
      if (!(error instanceof MailboxKeyLost) && !(error instanceof SecretUnreadable)) throw error;
      this.logger.error(error.message);
      return error;
    }
  }
}

/** A key; undefined for one that is destroyed, and the error of one that cannot be read. */
type FoundKey = Buffer | undefined | MailboxKeyLost | SecretUnreadable;

function usable(found: FoundKey): Buffer | undefined {
  if (found instanceof Error) throw found;
  return found;
}

/** Pads JSON with spaces, which it may end with. */
function padded(personal: string): Buffer {
  const octets = Buffer.from(personal);
  return Buffer.concat([octets, Buffer.alloc((paddedTo - (octets.length % paddedTo)) % paddedTo, ' ')]);
}
