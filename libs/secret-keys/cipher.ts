import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';

/** Octets of a nonce, which is random each time (NIST SP 800-38D section 8.2.2), and of a tag. */
const nonceOctets = 12;
const tagOctets = 16;

/** Octets of a key. */
export const keyOctets = 32;

/**
 * Encrypts octets with AES-256-GCM.
 *
 * @param key of `keyOctets` octets.
 * @param subject is authenticated with the octets: they decrypt under the same one alone.
 * @returns nonce, ciphertext and tag.
 */
export function encrypt(key: Buffer, subject: string, octets: Buffer): Buffer {
  const nonce = randomBytes(nonceOctets);
  const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: tagOctets });
  cipher.setAAD(Buffer.from(subject));
  return Buffer.concat([nonce, cipher.update(octets), cipher.final(), cipher.getAuthTag()]);
}

/**
 * Decrypts what `encrypt` has given.
 *
 * @throws {Error} where it was changed, or encrypted under another subject or with another key.
 */
export function decrypt(key: Buffer, subject: string, encrypted: Buffer): Buffer {
  const decipher = createDecipheriv(algorithm, key, encrypted.subarray(0, nonceOctets), { authTagLength: tagOctets });
  decipher.setAAD(Buffer.from(subject));
  decipher.setAuthTag(encrypted.subarray(-tagOctets));
  return Buffer.concat([decipher.update(encrypted.subarray(nonceOctets, -tagOctets)), decipher.final()]);
}
