import { SettingsInvalid } from '@app/runtime';
import { decrypt, encrypt } from './cipher';

/** A secret as it is stored: nonce, ciphertext and tag, and the id of the key that opens it. */
export interface SealedSecret {
  readonly sealed: Buffer;
  readonly keyId: string;
}

/** Thrown when a stored secret cannot be decrypted; the message says what an operator has to do. */
export class SecretUnreadable extends Error {
  override readonly name = 'SecretUnreadable';
}

/** How messages to operators name a ring, and what it encrypts. */
export interface RingWords {
  /** The setting that the keys come from. */
  readonly setting: string;
  /** What is encrypted, such as `secret`. */
  readonly secret: string;
}

/**
 * Encrypts secrets for storage with AES-256-GCM. The id of the row is authenticated with each, so that a secret that
 * was copied to another row of the database does not open there.
 */
export class KeyRing {
  /**
   * @param ring keys of 32 octets by their ids, at least one; the first one encrypts, and all decrypt.
   * @throws {RangeError} for an empty ring.
   */
  constructor(
    private readonly ring: ReadonlyMap<string, Buffer>,
    readonly words: RingWords,
  ) {
    if (ring.size === 0) throw new RangeError(`${words.setting} names no key to encrypt with.`);
  }

  /** Gives the id of the key that encrypts. */
  get newest(): string {
    return this.ring.keys().next().value!;
  }

  /** Gives the ids of all keys. */
  get ids(): string[] {
    return [...this.ring.keys()];
  }

  /** Encrypts the secret of a row with the newest key. */
  seal(row: string, secret: Buffer): SealedSecret {
    return { sealed: encrypt(this.ring.get(this.newest)!, row, secret), keyId: this.newest };
  }

  /**
   * Decrypts the secret of a row.
   *
   * @throws {SecretUnreadable} where the ring has no such key, and where the secret was changed, is that of another
   * row, or was encrypted with another key of the same id.
   */
  open(row: string, sealed: Buffer, keyId: string): Buffer {
    const { setting, secret } = this.words;
    const key = this.ring.get(keyId);
    if (!key)
      throw new SecretUnreadable(
        `The ${secret} of ${row} was encrypted with the key "${keyId}", which ${setting} does not name: add it there.`,
      );
    try {
      return decrypt(key, row, sealed);
    } catch {
      throw new SecretUnreadable(
        `The ${secret} of ${row} does not open with the key "${keyId}" of ${setting}: it was changed in the database, or encrypted with another key of that id.`,
      );
    }
  }
}

/** Secrets of each key that are tried; one alone may have been changed in the database. */
const triedOfAKey = 3;

/**
 * Checks that the keys are those with which the newest secrets under their ids were encrypted. Secrets of two keys
 * under one id could not be told apart.
 *
 * @param newestUnder gives at most `limit` secrets that were encrypted under the id of a key, the newest first.
 * @param document the document that explains it.
 * @throws {SettingsInvalid} for a key that opens none of them.
 */
export async function checkKeyRing(
  keys: KeyRing,
  newestUnder: (keyId: string, limit: number) => Promise<readonly { readonly id: string; readonly sealed: Buffer }[]>,
  document: string,
): Promise<void> {
  const { setting, secret } = keys.words;
  for (const keyId of keys.ids) {
    const newest = await newestUnder(keyId, triedOfAKey);
    const opens = ({ id, sealed }: (typeof newest)[number]): boolean => {
      try {
        return keys.open(id, sealed, keyId).length > 0;
      } catch {
        return false;
      }
    };
    if (newest.length > 0 && !newest.some(opens))
      throw new SettingsInvalid(
        `The key "${keyId}" of ${setting} opens none of the ${secret}s that were encrypted under that id: it is\n` +
          `another key. Set the one that was used, or give this one an id of its own. ${document} explains it.`,
      );
  }
}
