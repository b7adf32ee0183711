import { Accounts, grantable, roles, type ApiKey } from '@app/accounts';
import { loadSettings, parseDuration } from '@app/runtime';
import { Command, Option } from 'commander';
import { addAuditCommands } from './audit-commands';
import { addEventCommands } from './event-commands';
import { migrateEverything } from './migrations';
import { examples, minute, print, table } from './output';
import { addOwnerCommands, withPool } from './owner-commands';
import { addParkedCommands } from './parked-commands';
import { addProjectionCommands } from './projection-commands';
import { UsedWrongly } from './used-wrongly';

/** `sendmux …`. Results go to standard output, explanations and errors to standard error. */
export function commandLine(): Command {
  const program = new Command('sendmux')
    .description(
      'Teams, their owners and their API keys; messages that no consumer could handle; the log: its audit, and read models made anew from it.',
    )
    .option('--json', 'print one JSON document, for scripts; errors too')
    // `main.ts` reports every error in the same way.
    .configureOutput({ outputError: () => undefined })
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .addHelpText(
      'after',
      `
Begin with:
  $ sendmux team create Acme --owner ada@acme.com
  $ sendmux key create --team team_4kz81mq0xw --role root:full

\`sendmux help COMMAND\` and \`sendmux COMMAND help SUBCOMMAND\` show more, with examples.
The database is the one of \`make start\`, or of DATABASE_URL when that is set.
Exit status: 0 done, 1 refused or failed, 2 used wrongly, 3 settings or database are not in order, 130 interrupted.`,
    );

  const team = program.command('team').description('teams and the owners who are told when a domain stays broken');
  team
    .command('create')
    .description('a new team')
    .argument('<name>', 'what people call it')
    .requiredOption('--owner <email...>', 'who is told when a domain stays broken; at least one')
    .addHelpText('after', examples('sendmux team create "Acme Pty Ltd" --owner ada@acme.com ops@acme.com'))
    .action(async (name: string, { owner }: { owner: string[] }, command: Command) => {
      const made = await withAccounts(async (accounts) => {
        const created = await accounts.createTeam(name, owner);
        return { ...created, owners: await accounts.owners(created.id) };
      });
      print(command, made, () => [
        `${made.id}  ${made.name}  (${made.owners.join(', ')})`,
        `Next, a key:  sendmux key create --team ${made.id} --role root:full`,
      ]);
    });
  team
    .command('list')
    .description('all teams, the oldest first')
    .addHelpText('after', examples('sendmux team list', 'sendmux team list --json'))
    .action(async (_options: object, command: Command) => {
      const teams = await withAccounts((accounts) => accounts.listTeams());
      print(command, teams, () =>
        teams.length === 0
          ? ['There is no team yet:  sendmux team create NAME --owner EMAIL']
          : table(
              ['TEAM', 'NAME', 'CREATED'],
              teams.map(({ id, name, createdAt }) => [id, name, minute(createdAt)]),
            ),
      );
    });
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
      const owners = await withAccounts(async (accounts) => {
        if (add) await accounts.addOwners(id, add);
        for (const owner of new Set(remove)) await accounts.removeOwner(id, owner);
        return accounts.owners(id);
      });
      print(command, { team: id, owners }, () => owners);
    });

  addOwnerCommands(program);

  const key = program.command('key').description('API keys of a team');
  key
    .command('create')
    .description('a new key: standard output holds it, this once')
    .requiredOption('--team <team>', 'id of the team that the key belongs to')
    .addOption(new Option('--role <role>', `one of ${Object.keys(roles).join(', ')}`).conflicts('permission'))
    .option('--permission <permission...>', `instead of a role, some of ${grantable.join(', ')}`)
    .option('--name <name>', 'what it is for')
    .addHelpText(
      'after',
      examples(
        'sendmux key create --team team_4kz81mq0xw --role root:full --name "Terraform"',
        'sendmux key create --team team_4kz81mq0xw --permission domain.read domain.verify',
        'KEY=$(sendmux key create --team team_4kz81mq0xw --role root:readonly)',
      ),
    )
    .action(
      async (options: { team: string; role?: string; permission?: string[]; name?: string }, command: Command) => {
        const { team: owner, role, permission: permissions, name } = options;
        const grant = role !== undefined ? { role } : permissions !== undefined ? { permissions } : undefined;
        if (!grant) throw new UsedWrongly('A key needs --role or --permission (`sendmux key help create` lists them).');
        const made = await withAccounts((accounts) => accounts.createKey(owner, grant, name));
        print(command, made, () => [made.key]);
        process.stderr.write(
          command.optsWithGlobals().json ? '' : `${made.id}, ${may(made)}. Keep the key: it is never shown again.\n`,
        );
      },
    );
  key
    .command('list')
    .description('the keys of a team, the oldest first, revoked ones too; never their secrets')
    .requiredOption('--team <team>', 'id of the team')
    .addHelpText('after', examples('sendmux key list --team team_4kz81mq0xw'))
    .action(async ({ team: owner }: { team: string }, command: Command) => {
      const keys = await withAccounts((accounts) => accounts.listKeys(owner));
      print(command, keys, () =>
        keys.length === 0
          ? [`No key yet:  sendmux key create --team ${owner} --role root:full`]
          : table(
              ['KEY', 'ENDS IN', 'NAME', 'MAY', 'CREATED', 'LAST USED', 'ENDED'],
              keys.map((each) => [
                each.id,
                each.hint,
                each.name,
                may(each),
                minute(each.createdAt),
                each.lastUsedAt ? minute(each.lastUsedAt) : '',
                ended(each),
              ]),
            ),
      );
    });
  key
    .command('rotate')
    .description(
      'a new key that may as much; the old one opens for a while longer: standard output holds the new one, this once',
    )
    .argument('<key>', 'id of the key, as `sendmux key list` shows it; not the secret')
    .option('--overlap <duration>', 'how long both open, such as 30m or 24h; 0s ends the old one at once', '24h')
    .addHelpText(
      'after',
      examples(
        'sendmux key rotate key_clmib3zq8a0w9x7f1k2s5d4g6h0jp',
        'KEY=$(sendmux key rotate key_clmib3zq8a0w9x7f1k2s5d4g6h0jp --overlap 1h)',
      ),
    )
    .action(async (id: string, { overlap }: { overlap: string }, command: Command) => {
      const overlapMs = parseDuration(overlap);
      if (overlapMs === undefined) throw new UsedWrongly(`--overlap ${overlap} is no duration, such as 30m or 24h.`);
      const made = await withAccounts((accounts) => accounts.rotateKey(id, overlapMs));
      print(command, made, () => [made.key]);
      process.stderr.write(
        command.optsWithGlobals().json
          ? ''
          : `${made.id}, ${may(made)}. Keep the key: it is never shown again. ${id} ends on ${minute(made.rotated.expiresAt)}.\n`,
      );
    });
  key
    .command('revoke')
    .description('a key that opens nothing from now on')
    .argument('<key>', 'id of the key, as `sendmux key list` shows it; not the secret')
    .addHelpText('after', examples('sendmux key revoke key_clmib3zq8a0w9x7f1k2s5d4g6h0jp'))
    .action(async (id: string, _options: object, command: Command) => {
      const revoked = await withAccounts((accounts) => accounts.revokeKey(id));
      print(command, revoked, () => [`${revoked.id} is revoked since ${minute(revoked.revokedAt!)}.`]);
    });

  addParkedCommands(program);
  addEventCommands(program);
  addAuditCommands(program);
  addProjectionCommands(program);

  program
    .command('migrate')
    .description('creates the tables, or brings them up to date; safe to repeat, and while apps run')
    .addHelpText('after', examples('DATABASE_URL=postgres://… MAIL_SERVER_DATABASE_URL=postgres://… sendmux migrate'))
    .action(async (_options: object, command: Command) => {
      const settings = loadSettings(process.env, ['DATABASE_URL', 'MAIL_SERVER_DATABASE_URL']);
      await migrateEverything(settings.DATABASE_URL, settings.MAIL_SERVER_DATABASE_URL);
      print(command, { migrated: true }, () => ['The tables are up to date.']);
    });
  return program;
}

const withAccounts = <T>(work: (accounts: Accounts) => Promise<T>): Promise<T> =>
  withPool((pool) => work(new Accounts(pool)));

const ended = ({ revokedAt, expiresAt }: ApiKey): string => {
  if (revokedAt) return `revoked ${minute(revokedAt)}`;
  if (!expiresAt) return '';
  return `${expiresAt.getTime() > Date.now() ? 'ends' : 'ended'} ${minute(expiresAt)}`;
};

const may = ({ role, permissions }: ApiKey): string => role ?? permissions.join(' ');
