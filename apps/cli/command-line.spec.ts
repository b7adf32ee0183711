import type { Command } from 'commander';
import { commandLine } from './command-line';

/** The help of a command as it is printed, with what is added after it. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
  return text;
}

function leaves(command: Command, path: readonly string[] = []): [string, Command][] {
  if (command.commands.length === 0) return [[path.join(' '), command]];
  return command.commands.flatMap((below) => leaves(below, [...path, below.name()]));
}

it('has a help with an example for every command', async () => {
  const { commands } = await commandLine([]);
  const all: [string, Command][] = [];
  for (const name of commands.map((each) => each.name())) {
    const named = (await commandLine(['--json', name])).commands.find((each) => each.name() === name)!;
    all.push(...leaves(named, [name]));
  }
  for (const [name, command] of all) expect(helpOf(command)).toMatch(new RegExp(`Examples?:\n  \\$ .*sendmux ${name}`));
  expect(all.map(([name]) => name)).toEqual([
    'team create',
    'team list',
    'team owners',
    'team quota',
    'team delete',
    'owner list',
    'owner invite',
    'owner accept',
    'owner withdraw',
    'owner remove',
    'key create',
    'key list',
    'key rotate',
    'key revoke',
    'webhooks list',
    'webhooks show',
    'webhooks disable',
    'webhooks reseal',
    'parked list',
    'parked show',
    'parked redrive',
    'ses shards',
    'ses drain',
    'ses undrain',
    'ses show',
    'ses adopt',
    'ses release',
    'ses move',
    'ses mail-from',
    'ses tenant',
    'ses remove-tenant',
    'events republish',
    'events export',
    'events import',
    'events partition',
    'events archive',
    'events archives',
    'domain-connect key',
    'domain-connect template',
    'erase mailbox',
    'erase team',
    'erase migrate-log',
    'erase reseal',
    'audit verify',
    'audit history',
    'audit seals',
    'audit prove',
    'audit check',
    'projections list',
    'projections rebuild',
    'doctor',
    'restore',
    'reconcile',
    'migrate',
  ]);
});
