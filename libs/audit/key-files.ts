import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeKeyFile } from '@app/runtime';
import { SealingKey } from './seal';

/**
 * Gives the paths of the signing key of a data directory, and of the public keys that `sendmux audit` trusts by
 * default.
 */
export const keyFiles = (dataDirectory: string) => ({
  signing: join(dataDirectory, 'audit-key.pem'),
  trusted: join(dataDirectory, 'audit-public.pem'),
});

/**
 * Opens the key that signs seals: from the file `given`, or else from the data directory, where it is made when there
 * is none yet. The public key is written beside the latter.
 *
 * @returns `made`: the file of a key that is new.
 * @throws {KeyUnusable}
 */
export function openSealingKey(dataDirectory: string, given?: string): { key: SealingKey; made?: string } {
  const files = keyFiles(dataDirectory);
  if (given !== undefined) return { key: SealingKey.read(given) };
  mkdirSync(dataDirectory, { recursive: true });
  const make = () => makeKeyFile(files.signing, generateKeyPairSync('ed25519').privateKey);
  const isNew = !existsSync(files.signing) && make();
  const key = SealingKey.read(files.signing);
  if (isNew || !existsSync(files.trusted))
    writeFileSync(files.trusted, key.publicKey.export({ type: 'spki', format: 'pem' }));
  return { key, ...(isNew && { made: files.signing }) };
}
