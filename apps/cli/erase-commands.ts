import { mailboxKeyRing, resealMailboxKeys } from '@app/mailbox-keys';
import { loadSettings } from '@app/runtime';
import type { Command } from 'commander';
import { examples, print } from './output';
import { withPool } from './with-pool';

/** Adds `sendmux erase …`. */
export function addEraseCommands(erase: Command): void {
  addReseal(erase);
}

function addReseal(erase: Command): void {
  erase
    .command('reseal')
    .description('encrypts the keys of all mailboxes with the first key of PERSONAL_DATA_KEYS; safe to repeat')
    .addHelpText(
      'after',
      `${examples('PERSONAL_DATA_KEYS=2027=…,2026=… sendmux erase reseal')}

Exit status: 1 when a key cannot be read; the others are resealed.`,
    )
    .action(async (_options: object, command: Command) => {
      const ring = mailboxKeyRing(loadSettings(process.env, ['PERSONAL_DATA_KEYS']).PERSONAL_DATA_KEYS);
      const { resealed, unreadable } = await withPool((pool) => resealMailboxKeys(pool, ring));
      print(command, { key: ring.newest, resealed, unreadable }, () => [
        `${resealed} ${resealed === 1 ? 'key is' : 'keys are'} encrypted anew, with "${ring.newest}".`,
        ...unreadable.map(({ why }) => `BAD  ${why}`),
      ]);
      if (unreadable.length > 0)
        throw new Error(
          `${unreadable.length} of the keys cannot be read: keep all keys of the ring, and look into it.`,
        );
    });
}
