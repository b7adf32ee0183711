import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';

/** Octets of a nonce, which is random for each secret (NIST SP 800-38D section 8.2.2), and of a tag. */
const nonceOctets = 12;
const tagOctets = 16;

/** Octets of a secret; Standard Webhooks asks for 24 to 64. */
const secretOctets = 32;

/** A secret as it is stored: nonce, ciphertext and tag, and the id of the key that opens it. */
export interface SealedSecret {
  readonly sealed: Buffer;
  readonly keyId: string;
}

/** Thrown when a stored secret cannot be decrypted; the message says what an operator has to do. */
export class SecretUnreadable extends Error {
  override readonly name = 'SecretUnreadable';
}

/** Makes a secret of a webhook as Standard Webhooks writes it: `whsec_` and 32 random octets in base64. */
export const newSecret = (): string => `whsec_${randomBytes(secretOctets).toString('base64')}`;

/**
 * Encrypts the secrets of webhooks with AES-256-GCM. The id of the webhook is authenticated with each, so that a secret
 * that was copied to another row of the database does not open there.
 */
export class SecretKeys {
  /**
   * @param ring keys of 32 octets by their ids, at least one; the first one encrypts, and all decrypt.
   * @throws {RangeError} for an empty ring.
   */
  constructor(private readonly ring: ReadonlyMap<string, Buffer>) {
    if (ring.size === 0) throw new RangeError('There is no key to encrypt the secrets of webhooks with.');
  }

  /** Gives the id of the key that encrypts. */
  get newest(): string {
    return this.ring.keys().next().value!;
  }

  /** Gives the ids of all keys. */
  get ids(): string[] {
    return [...this.ring.keys()];
  }

  /** Encrypts a secret of a webhook with the newest key. */
  seal(webhookId: string, secret: string): SealedSecret {
    const nonce = randomBytes(nonceOctets);
    const cipher = createCipheriv(algorithm, this.ring.get(this.newest)!, nonce, { authTagLength: tagOctets });
    cipher.setAAD(Buffer.from(webhookId));
    const text = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()]);
    return { sealed: Buffer.concat([nonce, text, cipher.getAuthTag()]), keyId: this.newest };
  }

  /**
   * Decrypts a secret of a webhook.
   *
   * @throws {SecretUnreadable} where the ring has no such key, and where the secret was changed, is that of another
   * webhook, or was encrypted with another key of the same id.
   */
  open(webhookId: string, sealed: Buffer, keyId: string): string {
    const key = this.ring.get(keyId);
    if (!key)
      throw new SecretUnreadable(
        `The secret of ${webhookId} was encrypted with the key "${keyId}", which WEBHOOK_SECRET_KEYS does not name: add it there.`,
      );
    try {
      const decipher = createDecipheriv(algorithm, key, sealed.subarray(0, nonceOctets), { authTagLength: tagOctets });
      decipher.setAAD(Buffer.from(webhookId));
      decipher.setAuthTag(sealed.subarray(-tagOctets));
      const text = sealed.subarray(nonceOctets, -tagOctets);
      return Buffer.concat([decipher.update(text), decipher.final()]).toString('utf8');
    } catch {
      throw new SecretUnreadable(
        `The secret of ${webhookId} does not open with the key "${keyId}" of WEBHOOK_SECRET_KEYS: it was changed in the database, or encrypted with another key of that id.`,
      );
    }
  }
}
