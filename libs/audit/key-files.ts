import { generateKeyPairSync } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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
  const isNew = !existsSync(files.signing) && make(files.signing);
  const key = SealingKey.read(files.signing);
  if (isNew || !existsSync(files.trusted))
    writeFileSync(files.trusted, key.publicKey.export({ type: 'spki', format: 'pem' }));
  return { key, ...(isNew && { made: files.signing }) };
}

/** Makes a key file, complete or not at all. Of two processes that make it at the same time the first one succeeds. */
function make(file: string): boolean {
  const draft = `${file}.${process.pid}`;
  const { privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(draft, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flush: true });
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft);
  }
}
