import { compare, isRebuilding, projectionNames, rebuild, type Difference, type ProjectionName } from '@app/rebuild';
import { parseDuration } from '@app/runtime';
import type { Command } from 'commander';
import { interruption, Interrupted } from './interruption';
import { examples, print, table } from './output';
import { Progress } from './progress';
import { UsedWrongly } from './used-wrongly';
import { databaseUrl, givenKeyRing } from './with-pool';

interface RebuildOptions {
  readonly check?: boolean;
  readonly limit: string;
  readonly restart?: boolean;
  readonly wait: string;
}

/** Adds `sendmux projections …`. */
export function addProjectionCommands(projections: Command): void {
  projections
    .command('list')
    .description('the tables that can be rebuilt, and which rebuild has begun and not ended')
    .addHelpText('after', examples('sendmux projections list'))
    .action(async (_options: object, command: Command) => {
      const url = databaseUrl();
      const list: { name: string; rebuild: { events: number } | null }[] = [];
      for (const name of projectionNames) {
        const left = await isRebuilding(url, name);
        list.push({ name, rebuild: left ? { events: left.events } : null });
      }
      print(command, list, () =>
        table(
          ['NAME', 'REBUILD'],
          list.map(({ name, rebuild: left }) => [name, left ? `begun, ${number(left.events)} events read` : '']),
        ),
      );
    });
  projections
    .command('rebuild')
    .description('fills a new table from the log and swaps it for the live one; reads and writes go on')
    .argument('<name>', projectionNames.join(' or '))
    .option('--check', 'only compare the live table with the log: exit status 1 when they differ; writes nothing')
    .option('--limit <number>', 'with --check: how many differences are shown; all are counted', '20')
    .option('--restart', 'drop what an interrupted rebuild has left, instead of going on with it')
    .option('--wait <duration>', 'how long others may hold the table before the swap is given up', '1m')
    .addHelpText(
      'after',
      `${examples(
        'sendmux projections rebuild domains --check',
        'sendmux projections rebuild domains',
        'sendmux projections rebuild mailboxes --restart --json',
      )}

Ctrl-C is safe, and so is a kill: the live table is as it was, and the next run goes on where this one stopped.`,
    )
    .action(async (name: string, options: RebuildOptions, command: Command) => {
      if (!isProjection(name))
        throw new UsedWrongly(`There is no projection ${name}. The name is one of ${projectionNames.join(', ')}.`);
      const limit = Number(options.limit);
      if (!Number.isInteger(limit) || limit < 0) throw new UsedWrongly(`--limit ${options.limit} is no number.`);
      const patienceMs = parseDuration(options.wait);
      if (patienceMs === undefined) throw new UsedWrongly(`--wait ${options.wait} is no duration, such as 30s or 5m.`);
      if (options.check && options.restart)
        throw new UsedWrongly('--check writes nothing, so there is nothing to restart.');
      const url = databaseUrl();
      if (options.check) await check(url, name, limit, command);
      else await remake(url, name, { restart: options.restart === true, patienceMs }, command);
    });
}

async function remake(
  url: string,
  name: ProjectionName,
  options: { restart: boolean; patienceMs: number },
  command: Command,
): Promise<void> {
  const signal = interruption();
  let progress: Progress | undefined;
  try {
    const rebuilt = await rebuild(url, name, {
      keyRing: givenKeyRing(),
      ...options,
      signal,
      onProgress: (done, total) => {
        progress ??= new Progress({ label: `Rebuilding ${name}`, total, unit: 'events', done });
        progress.reached(done);
      },
    });
    progress?.finish();
    print(command, { name, ...rebuilt }, () => [
      `${name} is rebuilt: ${number(rebuilt.rows)} rows from ${number(rebuilt.events)} events${rebuilt.resumedAt > 0 ? `, after ${number(rebuilt.resumedAt)} of an earlier run` : ''}. Writers waited ${Math.ceil(rebuilt.lockedMs)} ms at most.`,
    ]);
  } catch (error) {
    progress?.abandon();
    if (!signal.aborted) throw error;
    throw new Interrupted(
      `Stopped; ${name} is as it was. \`sendmux projections rebuild ${name}\` goes on from here, with --restart from the beginning.`,
    );
  }
}

async function check(url: string, name: ProjectionName, limit: number, command: Command): Promise<void> {
  const signal = interruption();
  const progress = new Progress({ label: `Comparing ${name}`, unit: 'events' });
  const shown: Difference[] = [];
  try {
    const found = await compare(url, name, (difference) => void (shown.length < limit && shown.push(difference)), {
      signal,
      keyRing: givenKeyRing(),
      onProgress: (events) => progress.reached(events),
    });
    progress.finish();
    const left = found.differences - shown.length;
    print(command, { name, ...found, shown }, () => [
      ...shown.flatMap(described),
      ...(left > 0 ? [`… and ${number(left)} more.`] : []),
      found.differences === 0
        ? `${name} is what the log says: ${number(found.rows)} rows from ${number(found.events)} events.`
        : `${number(found.differences)} differences; the log says ${number(found.rows)} rows.`,
    ]);
    if (found.differences > 0)
      throw new Error(`${name} is not what the log says. \`sendmux projections rebuild ${name}\` makes it so.`);
  } catch (error) {
    progress.abandon();
    if (signal.aborted) throw new Interrupted('Stopped; nothing was written.');
    throw error;
  }
}

function described({ id, kind, columns }: Difference): string[] {
  if (kind === 'missing') return [`${id}  is not in the table`];
  if (kind === 'unknown') return [`${id}  is not in the log`];
  return columns.map(
    ({ column, table: live, log }) => `${id}  ${column} is ${shownAs(live)}, the log says ${shownAs(log)}`,
  );
}

const shownAs = (value: string | null): string => (value === null ? 'NULL' : JSON.stringify(value));

const isProjection = (name: string): name is ProjectionName => (projectionNames as readonly string[]).includes(name);

const number = (value: number): string => value.toLocaleString('en');
