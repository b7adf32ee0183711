import { createPublicKey, generateKeyPairSync, createPrivateKey, sign, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { makeKeyFile } from '@app/runtime';

/** Thrown when a key file cannot be used; the message says what to do. */
export class SigningKeyUnusable extends Error {
  override readonly name = 'SigningKeyUnusable';
}

/**
 * The most characters of the key in one TXT record: with what is before them they fit into one string of 255 octets.
 */
const charactersEach = 200;

/** The key that signs links to providers: RSA with SHA-256 (`RS256` of draft-ietf-dconn-domainconnect). */
export class SigningKey {
  private constructor(private readonly key: KeyObject) {}

  /** @throws {SigningKeyUnusable} where the file has no RSA private key of 2,048 bits or more, in PEM. */
  static read(file: string): SigningKey {
    let key: KeyObject;
    try {
      key = createPrivateKey(readFileSync(file));
    } catch (error) {
      throw new SigningKeyUnusable(`${file} has no private key that can be read: ${(error as Error).message}`);
    }
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    if (key.asymmetricKeyType !== 'rsa' || bits < 2_048)
      throw new SigningKeyUnusable(`${file} has another key than one of RSA with 2,048 bits or more.`);
    return new SigningKey(key);
  }

  /**
   * Reads the key of a file, which is made where there is none: complete or not at all, readable by its owner only.
   *
   * @throws {SigningKeyUnusable}
   */
  static open(file: string): { readonly key: SigningKey; readonly isNew: boolean } {
    const make = () => makeKeyFile(file, generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey);
    const isNew = !existsSync(file) && make();
    return { key: SigningKey.read(file), isNew };
  }

  /** Signs a query string, and gives the signature in Base64. */
  sign(query: string): string {
    return sign('sha256', Buffer.from(query), this.key).toString('base64');
  }

  /**
   * Gives the TXT records by which providers know the public key, each shorter than one string of the DNS. They carry
   * the key in parts, in the order of `p`.
   */
  records(): string[] {
    const der = createPublicKey(this.key).export({ type: 'spki', format: 'der' }).toString('base64');
    const parts = der.match(new RegExp(`.{1,${charactersEach}}`, 'g'))!;
    return parts.map((part, i) => `p=${i + 1},a=RS256,d=${part}`);
  }

  /** Gives the public key in PEM. */
  publicKey(): string {
    return createPublicKey(this.key).export({ type: 'spki', format: 'pem' }).toString();
  }
}
