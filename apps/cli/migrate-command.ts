import type { Command } from 'commander';
import { examples } from './output';

/** Adds `sendmux migrate`, which alone changes tables: apps only look whether they are those of their release. */
export function addMigrate(program: Command): void {
  program
    .command('migrate')
    .description('creates the tables, or brings them up to date; safe to repeat, and while apps run')
    .option('--check', 'changes nothing; exit status 1 when migrations are missing, with their names')
    .addHelpText(
      'after',
      `${examples(
        'DATABASE_URL=postgres://… MAIL_SERVER_DATABASE_URL=postgres://… sendmux migrate',
        'sendmux migrate --check',
      )}

Run it with the new release before its apps start; those of the release before go on meanwhile. A migration waits for a
lock for 0.3 s at most, lets others pass, and tries again for five minutes. One that has not ended is not done at all,
so that the command can be stopped and repeated.`,
    )
    .action(async ({ check }: { readonly check?: boolean }, command: Command) => {
      const { changeTables, checkTables } = await import('./table-commands.js');
      await (check ? checkTables : changeTables)(command);
    });
}
