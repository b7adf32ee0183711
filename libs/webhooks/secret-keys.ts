import { randomBytes } from 'node:crypto';
import type { Current } from '@app/runtime';
import { KeyRing, type SealedSecret } from '@app/secret-keys';

/** Octets of a secret; Standard Webhooks asks for 24 to 64. */
const secretOctets = 32;

/** Makes a secret of a webhook as Standard Webhooks writes it: `whsec_` and 32 random octets in base64. */
export const newSecret = (): string => `whsec_${randomBytes(secretOctets).toString('base64')}`;

/** Encrypts the secrets of webhooks, each under the id of its webhook. */
export class SecretKeys {
  readonly ring: KeyRing;

  /**
   * @param ring as for `KeyRing`.
   * @throws {RangeError} for an empty ring.
   */
  constructor(ring: Current<ReadonlyMap<string, Buffer>>) {
    this.ring = new KeyRing(ring, { setting: 'WEBHOOK_SECRET_KEYS', secret: 'secret' });
  }

  /** Gives the id of the key that encrypts. */
  get newest(): string {
    return this.ring.newest;
  }

  /** Gives the ids of all keys. */
  get ids(): string[] {
    return this.ring.ids;
  }

  /** Encrypts a secret of a webhook with the newest key. */
  seal(webhookId: string, secret: string): SealedSecret {
    return this.ring.seal(webhookId, Buffer.from(secret));
  }

  /**
   * Decrypts a secret of a webhook.
   *
   * @throws {SecretUnreadable} as `KeyRing.open`.
   */
  open(webhookId: string, sealed: Buffer, keyId: string): string {
    return this.ring.open(webhookId, sealed, keyId).toString('utf8');
  }
}
