import { Accounts, grantable, roles, type ApiKey } from '@app/accounts';
import { parseDuration } from '@app/runtime';
import { Option, type Command } from 'commander';
import { examples, minute, print, say, table } from './output';
import { withPool } from './with-pool';
import { UsedWrongly } from './used-wrongly';

/** Adds `sendmux key …`. */
export function addKeyCommands(key: Command): void {
  addCreate(key);
  addList(key);
  addRotate(key);
  addRevoke(key);
}

function addCreate(key: Command): void {
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
        const made = await withPool((pool) => new Accounts(pool).createKey(owner, grant, name));
        print(command, made, () => [made.key]);
        if (!command.optsWithGlobals().json) say(`${made.id}, ${may(made)}. Keep the key: it is never shown again.`);
      },
    );
}

function addList(key: Command): void {
  key
    .command('list')
    .description('the keys of a team, the oldest first, revoked ones too; never their secrets')
    .requiredOption('--team <team>', 'id of the team')
    .addHelpText('after', examples('sendmux key list --team team_4kz81mq0xw'))
    .action(async ({ team: owner }: { team: string }, command: Command) => {
      const keys = await withPool((pool) => new Accounts(pool).listKeys(owner));
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
}

function addRotate(key: Command): void {
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
      const made = await withPool((pool) => new Accounts(pool).rotateKey(id, overlapMs));
      print(command, made, () => [made.key]);
      if (!command.optsWithGlobals().json)
        say(
          `${made.id}, ${may(made)}. Keep the key: it is never shown again. ${id} ends on ${minute(made.rotated.expiresAt)}.`,
        );
    });
}

function addRevoke(key: Command): void {
  key
    .command('revoke')
    .description('a key that opens nothing from now on')
    .argument('<key>', 'id of the key, as `sendmux key list` shows it; not the secret')
    .addHelpText('after', examples('sendmux key revoke key_clmib3zq8a0w9x7f1k2s5d4g6h0jp'))
    .action(async (id: string, _options: object, command: Command) => {
      const revoked = await withPool((pool) => new Accounts(pool).revokeKey(id));
      print(command, revoked, () => [`${revoked.id} is revoked since ${minute(revoked.revokedAt!)}.`]);
    });
}

const ended = ({ revokedAt, expiresAt }: ApiKey): string => {
  if (revokedAt) return `revoked ${minute(revokedAt)}`;
  if (!expiresAt) return '';
  return `${expiresAt.getTime() > Date.now() ? 'ends' : 'ended'} ${minute(expiresAt)}`;
};

const may = ({ role, permissions }: ApiKey): string => role ?? permissions.join(' ');
