import { generateKeyPairSync } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SealingKey } from './seal';

/** Where the sealer of a data directory keeps its key, and what `sendmux audit` trusts when nothing else is said. */
export const keyFiles = (dataDirectory: string) => ({
  signing: join(dataDirectory, 'audit-key.pem'),
  trusted: join(dataDirectory, 'audit-public.pem'),
});

/**
 * The key that seals are signed with: of the file that the settings name, else that of the data directory, which is made when
 * there is none yet. The public half is written beside it.
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

/** Whole or not at all, and the first of two that begin at the same time wins. */
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
