import { Accounts } from '@app/accounts';
import type { Command } from 'commander';
import { examples, minute, print, table } from './output';
import { withPool } from './with-pool';

/** Adds `sendmux team …`. */
export function addTeamCommands(team: Command): void {
  addCreate(team);
  addList(team);
  addOwners(team);
}

function addCreate(team: Command): void {
  team
    .command('create')
    .description('a new team')
    .argument('<name>', 'what people call it')
    .requiredOption('--owner <email...>', 'who is told when a domain stays broken; at least one')
    .addHelpText('after', examples('sendmux team create "Acme Pty Ltd" --owner ada@acme.com ops@acme.com'))
    .action(async (name: string, { owner }: { owner: string[] }, command: Command) => {
      const made = await withPool(async (pool) => {
        const accounts = new Accounts(pool);
        const created = await accounts.createTeam(name, owner);
        return { ...created, owners: await accounts.owners(created.id) };
      });
      print(command, made, () => [
        `${made.id}  ${made.name}  (${made.owners.join(', ')})`,
        `Next, a key:  sendmux key create --team ${made.id} --role root:full`,
      ]);
    });
}

function addList(team: Command): void {
  team
    .command('list')
    .description('all teams, the oldest first')
    .addHelpText('after', examples('sendmux team list', 'sendmux team list --json'))
    .action(async (_options: object, command: Command) => {
      const teams = await withPool((pool) => new Accounts(pool).listTeams());
      print(command, teams, () =>
        teams.length === 0
          ? ['There is no team yet:  sendmux team create NAME --owner EMAIL']
          : table(
              ['TEAM', 'NAME', 'CREATED'],
              teams.map(({ id, name, createdAt }) => [id, name, minute(createdAt)]),
            ),
      );
    });
}

function addOwners(team: Command): void {
  team
    .command('owners')
    .description('the owners of a team; adds and removes some')
    .argument('<team>', 'id of the team, as `sendmux team list` shows it')
    .option('--add <email...>', 'new owners; who is one already stays one')
    .option('--remove <email...>', 'owners to remove, after the adding; the last one stays')
    .addHelpText(
      'after',
      examples(
        'sendmux team owners team_4kz81mq0xw',
        'sendmux team owners team_4kz81mq0xw --add grace@acme.com --remove ada@acme.com',
      ),
    )
    .action(async (id: string, { add, remove }: { add?: string[]; remove?: string[] }, command: Command) => {
      const owners = await withPool(async (pool) => {
        const accounts = new Accounts(pool);
        if (add) await accounts.addOwners(id, add);
        for (const owner of new Set(remove)) await accounts.removeOwner(id, owner);
        return accounts.owners(id);
      });
      print(command, { team: id, owners }, () => owners);
    });
}
