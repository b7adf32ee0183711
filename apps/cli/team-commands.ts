import { Accounts } from '@app/accounts';
import { allow, heldDomainsInAll, quotaKinds, Quotas, type QuotaKind, type QuotaUse } from '@app/read-model';
import type { Command } from 'commander';
import { examples, minute, print, table } from './output';
import { deleteTeam } from './team-deletion';
import { UsedWrongly } from './used-wrongly';
import { withPool } from './with-pool';

const teamArgument = ['<team>', 'id of the team, as `sendmux team list` shows it'] as const;

/** Adds `sendmux team …`. */
export function addTeamCommands(team: Command): void {
  addCreate(team);
  addList(team);
  addOwners(team);
  addQuota(team);
  addDelete(team);
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
    .description('all teams, the oldest first, with what they have and may have')
    .option('--deleted', 'those that are deleted instead, the last one first')
    .addHelpText('after', examples('sendmux team list', 'sendmux team list --json', 'sendmux team list --deleted'))
    .action(async ({ deleted = false }: { deleted?: boolean }, command: Command) => {
      if (deleted) return listDeleted(command);
      const teams = await withPool(async (pool) => {
        const all = await new Accounts(pool).listTeams();
        const uses = await new Quotas(pool).ofAll(all.map(({ id }) => id));
        return all.map((each, i) => ({ ...each, ...uses[i]! }));
      });
      print(command, teams, () =>
        teams.length === 0
          ? ['There is no team yet:  sendmux team create NAME --owner EMAIL']
          : table(
              ['TEAM', 'NAME', 'CREATED', 'DOMAINS', 'MAILBOXES'],
              teams.map(({ id, name, createdAt, domains, mailboxes }) => [
                id,
                name,
                minute(createdAt),
                used(domains),
                used(mailboxes),
              ]),
            ),
      );
    });
}

async function listDeleted(command: Command): Promise<void> {
  const teams = await withPool((pool) => new Accounts(pool).deletedTeams());
  print(command, teams, () =>
    teams.length === 0
      ? ['No team was ever deleted.']
      : table(
          ['TEAM', 'NAME', 'CREATED', 'DELETED'],
          teams.map(({ id, name, createdAt, deletedAt }) => [id, name, minute(createdAt), minute(deletedAt)]),
        ),
  );
}

const used = ({ current, limit }: QuotaUse): string => (limit === null ? `${current}` : `${current} of ${limit}`);

function addQuota(team: Command): void {
  team
    .command('quota')
    .description('how many domains and mailboxes a team has, and may have; changes what it may have')
    .argument(...teamArgument)
    .option('--domains <number>', 'domains that it may have; `default` for MAX_DOMAINS_PER_TEAM')
    .option('--mailboxes <number>', 'mailboxes that it may have; `default` for MAX_MAILBOXES_PER_TEAM')
    .addHelpText(
      'after',
      `${examples(
        'sendmux team quota team_4kz81mq0xw',
        'sendmux team quota team_4kz81mq0xw --domains 5000 --mailboxes 50000',
        'sendmux team quota team_4kz81mq0xw --domains default',
      )}

What a team has beyond its quota stays, and further creations are refused.`,
    )
    .action(async (id: string, options: Partial<Record<QuotaKind, string>>, command: Command) => {
      const most = quotaKinds.flatMap((kind) => {
        const given = options[kind];
        return given === undefined ? [] : [{ kind, number: quotaOf(kind, given) }];
      });
      const uses = await withPool(async (pool) => {
        await new Accounts(pool).inTeam(id, async (client) => {
          for (const { kind, number } of most) await allow(client, id, kind, number);
          const domains = most.find(({ kind }) => kind === 'domains')?.number;
          if (typeof domains !== 'number') return;
          const limit = await heldDomainsInAll(client);
          if (limit !== null && domains >= limit)
            throw new UsedWrongly(
              `--domains ${domains} would let one team take the place of all: MAX_DOMAINS is ${limit}, and a quota is below it.`,
            );
        });
        return new Quotas(pool).of(id);
      });
      print(command, { team: id, ...uses }, () => quotaKinds.map((kind) => `${kind}: ${used(uses[kind])}`));
    });
}

/** @throws {UsedWrongly} for what is neither a number nor `default`, which is null. */
function quotaOf(kind: QuotaKind, text: string): number | null {
  if (text === 'default') return null;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsedWrongly(`--${kind} ${text} is neither a number from 0 to 999999999 nor \`default\`.`);
}

function addDelete(team: Command): void {
  team
    .command('delete')
    .description('a team that has no domains and no mailboxes, with its keys, owners, invitations and webhooks')
    .argument(...teamArgument)
    .option('--yes', 'delete it: its keys open nothing from now on, and nothing brings it back')
    .addHelpText(
      'after',
      `${examples('sendmux team delete team_4kz81mq0xw --yes')}

It is kept with the time, and so are its keys: \`sendmux team list --deleted\`, \`sendmux key list --team …\`.`,
    )
    .action(async (id: string, { yes }: { yes?: boolean }, command: Command) => {
      if (!yes) throw new UsedWrongly(`This deletes ${id} for good, with its keys and owners. Say so with --yes.`);
      const gone = await withPool((pool) => deleteTeam(pool, id));
      print(command, gone, () => [
        `${gone.id}  ${gone.name}  is deleted since ${minute(gone.deletedAt)}.`,
        ...ended('Revoked', gone.keys),
        ...ended('No owners any more', gone.owners),
        ...ended('No longer invited', gone.invited),
        ...ended('Webhooks removed', gone.webhooks),
      ]);
    });
}

const ended = (what: string, names: readonly string[]): string[] =>
  names.length === 0 ? [] : [`${what}: ${names.join(', ')}`];

function addOwners(team: Command): void {
  team
    .command('owners')
    .description('the owners of a team; adds and removes some')
    .argument(...teamArgument)
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
