import { StoredShards, type ShardUse } from '@app/read-model';
import type { Command } from 'commander';
import { examples, minute, print, table } from './output';
import { withPool } from './with-pool';

/** Adds the commands of `sendmux ses` that are about shards: what they hold, and whether they take new domains. */
export function addShardCommands(ses: Command): void {
  ses
    .command('shards')
    .description(
      'what each account and Region of SES holds, what is left, its errors, and whether it takes new domains',
    )
    .addHelpText('after', examples('sendmux ses shards', 'sendmux ses shards --json'))
    .action((_options: object, command: Command) =>
      withPool(async (pool) => {
        const shards = (await new StoredShards(pool).uses()).map((use) => ({ ...use, headroom: headroom(use) }));
        const head = ['SHARD', 'REGION', 'IDENTITIES', 'CAPACITY', 'HEADROOM', 'STATE', 'ERRORS', 'LAST ERROR'];
        print(command, shards, () => table(head, shards.map(row)));
      }),
    );
  for (const [verb, isDraining, description] of [
    ['drain', true, 'closes a shard to new domains; those that are in it stay until they are moved'],
    ['undrain', false, 'opens a shard to new domains again'],
  ] as const)
    ses
      .command(verb)
      .description(description)
      .argument('<shard>', 'name of the shard, as in SES_SHARDS')
      .addHelpText('after', examples(`sendmux ses ${verb} us-1`))
      .action((name: string, _options: object, command: Command) =>
        withPool(async (pool) => {
          const stored = new StoredShards(pool);
          if (!(await stored.drain(name, isDraining))) throw new Error(unknown(name, await stored.uses()));
          print(command, { name, isDraining }, () => [
            isDraining
              ? `${name} takes no new domains. \`sendmux ses move --from ${name}\` moves those that it has.`
              : `${name} takes new domains again.`,
          ]);
        }),
      );
}

export const unknown = (name: string, uses: readonly ShardUse[]): string =>
  `There is no shard ${name}: there is ${uses.map((use) => use.name).join(', ') || 'none before the first start'}.`;

const headroom = ({ capacity, identities }: ShardUse): number | null =>
  capacity === null ? null : Math.max(0, capacity - identities);

/** Names why a shard takes no new domains; `open` where it does. */
function stateOf({ capacity, identities, isDraining, isFailing }: ShardUse): string {
  if (capacity === 0) return 'not in SES_SHARDS';
  const closed = [
    ...(isDraining ? ['draining'] : []),
    ...(isFailing ? ['failing'] : []),
    ...(capacity !== null && identities >= capacity ? ['full'] : []),
  ];
  return closed.join(', ') || 'open';
}

const number = (value: number): string => value.toLocaleString('en');

const row = (use: ShardUse & { readonly headroom: number | null }): string[] => [
  use.name,
  use.region ?? '',
  number(use.identities),
  use.capacity === null ? '' : number(use.capacity),
  use.headroom === null ? '' : number(use.headroom),
  stateOf(use),
  number(use.errors),
  use.lastError && use.lastErrorAt ? `${use.lastError}, ${minute(use.lastErrorAt)}` : '',
];
