import { AccountRuleBroken } from '@app/accounts';
import { KeyUnusable } from '@app/audit';
import { SigningKeyUnusable } from '@app/domain-connect';
import { NotInOrder, SettingsInvalid, visibleJson } from '@app/runtime';
import { WebhookRuleBroken } from '@app/webhooks';
import { CommanderError } from 'commander';
import { commandLine } from './command-line';
import { Interrupted } from './interruption';
import { say } from './output';
import { UsedWrongly } from './used-wrongly';

/** The exit statuses of the process, which `docs/settings.md` and the help document. */
const exitCodes = { failed: 1, usage: 2, setup: 3, interrupted: 130 } as const;

interface Failure {
  readonly exit: keyof typeof exitCodes;
  readonly code: string;
  readonly message: string;
}

/** The error codes of PostgreSQL and the network for a database that is not ready, each with the remedy. */
const setupFaults: Record<string, string> = {
  '42P01': 'The database has no tables yet. Run `sendmux migrate` first.',
  '42703': 'The tables of the database are older than this release. Run `sendmux migrate` first.',
  '3D000': 'The database that DATABASE_URL names does not exist.',
  '28P01': 'The database refuses the user or password of DATABASE_URL.',
  ECONNREFUSED: 'No database answers at DATABASE_URL. Does `make start` (or your PostgreSQL) still run?',
  ENOTFOUND: 'The host of DATABASE_URL has no address.',
};

function failure(error: unknown): Failure {
  if (error instanceof AccountRuleBroken || error instanceof WebhookRuleBroken)
    return { exit: 'failed', code: error.code, message: error.message };
  if (error instanceof CommanderError || error instanceof UsedWrongly)
    return { exit: 'usage', code: 'usage', message: error.message.replace(/^error: /, '') };
  if (error instanceof SettingsInvalid || error instanceof KeyUnusable || error instanceof SigningKeyUnusable)
    return { exit: 'setup', code: 'settings', message: error.message };
  if (error instanceof NotInOrder) return { exit: 'setup', code: 'database', message: error.message };
  if (error instanceof Interrupted) return { exit: 'interrupted', code: 'interrupted', message: error.message };
  const { code, message } = error as NodeJS.ErrnoException;
  const setup = setupFaults[code ?? ''] ?? (message.startsWith('No database at ') ? message : undefined);
  if (setup) return { exit: 'setup', code: 'database', message: setup };
  return { exit: 'failed', code: 'failed', message };
}

async function main(args: readonly string[]): Promise<number> {
  try {
    await (await commandLine(args)).parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    // Help that was requested is no failure. Commander has already printed the help for a missing command.
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (error instanceof CommanderError && error.code === 'commander.help') return exitCodes.usage;
    const { exit, code, message } = failure(error);
    const line = message
      .split('\n')
      .map((each) => each.trim())
      .filter((each) => each !== '')
      .join(' ');
    say(args.includes('--json') ? visibleJson(JSON.stringify({ error: { code, message: line } })) : `sendmux: ${line}`);
    return exitCodes[exit];
  }
}

void main(process.argv.slice(2)).then((status) => (process.exitCode = status));
