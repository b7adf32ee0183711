import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandOf } from './embedded-postgres';

/** The claim on a data directory, which one launcher can have at a time. */
export interface ClaimedDirectory {
  /** Whether a launcher was killed on the directory. The processes that it started may need a moment to end. */
  readonly abandoned: boolean;
  readonly release: () => void;
}

/**
 * Claims the directory.
 *
 * @throws {Error} when another launcher runs on it.
 */
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

/** Writes a file that only its owner can read, and that readers never see in part. */
export function writePrivateFile(file: string, text: string): void {
  rmSync(`${file}.new`, { force: true });
  writeFileSync(`${file}.new`, text, { mode: 0o600, flag: 'wx' });
  renameSync(`${file}.new`, file);
}
