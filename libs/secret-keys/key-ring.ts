import { Alarm, currentOf, SettingsInvalid, type Current } from '@app/runtime';
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
  private readonly alarm: Alarm;
  /** The keys that are used now. */
  private ring: ReadonlyMap<string, Buffer>;
  /** The ring that was refused last. */
  private refused: ReadonlyMap<string, Buffer> | undefined;

  /**
   * @param given keys of 32 octets by their ids, at least one; the first one encrypts, and all decrypt. Where it is
   * given anew for each use, one that has another key under an id is refused, and the last one stays: secrets of two
   * keys under one id could not be told apart.
   * @throws {RangeError} for an empty ring.
   */
  constructor(
    private readonly given: Current<ReadonlyMap<string, Buffer>>,
    readonly words: RingWords,
  ) {
    this.ring = currentOf(given);
    if (this.ring.size === 0) throw new RangeError(`${words.setting} names no key to encrypt with.`);
    this.alarm = new Alarm(`keys ${words.setting}`);
  }

  /** Gives the id of the key that encrypts. */
  get newest(): string {
    return this.current().keys().next().value!;
  }

  /** Gives the ids of all keys. */
  get ids(): string[] {
    return [...this.current().keys()];
  }

  private current(): ReadonlyMap<string, Buffer> {
    const given = currentOf(this.given);
    if (given === this.ring || given === this.refused) return this.ring;
    const other = [...given].find(([id, key]) => this.ring.get(id)?.equals(key) === false);
    if (!other) return (this.ring = given);
    this.refused = given;
    const { setting, secret } = this.words;
    this.alarm.raise(
      'another_key',
      `${setting} has changed, and has another key "${other[0]}" than before: the last keys are used. Give the new key an id of its own, before the others; a restart would not begin while a ${secret} is encrypted under that id`,
    );
    return this.ring;
  }

  /** Encrypts the secret of a row with the newest key. */
  seal(row: string, secret: Buffer): SealedSecret {
    const [keyId, key] = this.current().entries().next().value!;
    return { sealed: encrypt(key, row, secret), keyId };
  }

  /**
   * Decrypts the secret of a row.
   *
   * @throws {SecretUnreadable} where the ring has no such key, and where the secret was changed, is that of another
   * row, or was encrypted with another key of the same id.
   */
  open(row: string, sealed: Buffer, keyId: string): Buffer {
    const { setting, secret } = this.words;
    const key = this.current().get(keyId);
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
