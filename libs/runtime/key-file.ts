import type { KeyObject } from 'node:crypto';
import { linkSync, rmSync, writeFileSync } from 'node:fs';

/**
 * Writes a private key into a file, in PEM, complete or not at all, readable by its owner only. Of two processes that
 * make the file at the same time the first one succeeds.
 *
 * @returns whether this call has made it.
 */
export function makeKeyFile(file: string, privateKey: KeyObject): boolean {
  const draft = `${file}.${process.pid}`;
  // A file that is there already would keep its mode, and whoever has made it could read the key.
  rmSync(draft, { force: true });
  writeFileSync(draft, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx', flush: true });
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
