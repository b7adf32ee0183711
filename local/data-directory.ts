import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandOf } from './embedded-postgres';

/** One launcher a data directory. */
export interface ClaimedDirectory {
  /** A launcher was killed here: what it had started may need a moment to notice. */
  readonly abandoned: boolean;
  readonly release: () => void;
}

/** @throws {Error} when another launcher runs on the directory. */
export function claimDataDirectory(directory: string): ClaimedDirectory {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'launcher.pid');
  let abandoned = false;
  for (;;) {
    try {
      writeFileSync(file, `${process.pid}\n`, { flag: 'wx' });
      return { abandoned, release: () => rmSync(file, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const pid = Number(readFileSync(file, 'utf8'));
    if (pid !== process.pid && /start\.js/.test(commandOf(pid)))
      throw new Error(
        `It runs already on ${directory} (process ${pid}). For a second one beside it: PORT=4000 SENDMUX_DATA_DIR=.sendmux-2 make start`,
      );
    rmSync(file, { force: true });
    abandoned = true;
  }
}

/** Readers see the file whole or not at all, and nobody else reads it. */
export function writePrivateFile(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
