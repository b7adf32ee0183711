import { join, basename, resolve } from 'node:path';
import { archivesOf, moveArchives, sha256Of } from '@app/event-store';
import { parseDuration, parseTime, timeForms } from '@app/runtime';
import type { Command } from 'commander';
import { trustedKeys } from './audit-commands';
import { Archiving, type Step } from './event-archiving';
import { interruption, Interrupted } from './interruption';
import { examples, minute, print, say, table } from './output';
import { UsedWrongly } from './used-wrongly';
import { withPool } from './with-pool';

/** Days that events stay in any case: deliveries of webhooks, which are made of them, can be asked for again for 30. */
const youngestDays = 40;

interface ArchiveOptions {
  readonly before: string;
  readonly directory?: string;
  readonly keys?: string;
  readonly dryRun?: boolean;
  readonly wait: string;
}

const steps: Readonly<Record<Step, (partition: number) => string>> = {
  write: (partition) => `Writing partition ${partition} …`,
  check: (partition) => `Reading it back, and comparing it with its seals and with partition ${partition} …`,
  record: () => 'It is whole.',
  move: () => 'Looking for domains and mailboxes that have ended …',
  thin: (partition) => `Taking them out of partition ${partition} …`,
};

/** Adds `sendmux events archive`. */
export function addArchive(events: Command): void {
  events
    .command('archive')
    .description('moves old partitions of the log to compressed files, and what has ended out of the database')
    .requiredOption('--before <time>', `partitions whose newest event is older: ${timeForms}`)
    .option('--directory <folder>', 'where the files go; every process finds them there')
    .option('--keys <file>', 'public keys whose signatures count, as for `sendmux audit verify`')
    .option('--dry-run', 'only says which partitions')
    .option('--wait <duration>', 'how long to wait for others that hold the log', '1m')
    .addHelpText(
      'after',
      `${examples(
        'sendmux events archive --before -365d --dry-run',
        'sendmux events archive --before 2026-01-01 --directory /var/lib/sendmux/archives',
      )}

A file has all events of a partition, with the seals over them, as an export has them. It is written, read back, and
compared with the seals and the partition before anything leaves the database. Then the events of domains and mailboxes
that have ended leave it, once all of them are in files; those of others stay in both places. A kill at any point is
safe: the same command goes on.`,
    )
    .action(async (options: ArchiveOptions, command: Command) => {
      const now = new Date();
      const before = parseTime(options.before, now);
      if (!before) throw new UsedWrongly(`--before ${options.before} is no time. Give ${timeForms}.`);
      if (now.getTime() - before.getTime() < youngestDays * 86_400_000)
        throw new UsedWrongly(`--before ${options.before} is too young: events of ${youngestDays} days always stay.`);
      const patienceMs = parseDuration(options.wait);
      if (patienceMs === undefined) throw new UsedWrongly(`--wait ${options.wait} is no duration, such as 30s or 5m.`);
      const signal = interruption();
      if (options.dryRun) {
        const planned = await withPool((pool) => new Archiving(pool).plan(before), 2, 0);
        return print(command, planned, () =>
          planned.length === 0
            ? ['No partition is closed, sealed and old enough, and not archived yet.']
            : planned.map(
                ({ number, after, upTo, events: count, newest }) =>
                  `Partition ${number}: positions ${after + 1} to ${upTo}, ${count} events, the newest of ${newest ? minute(newest.time) : 'no time'}.`,
              ),
        );
      }
      const { directory } = options;
      if (directory === undefined) throw new UsedWrongly('--directory names the folder of the files.');
      const trusted = trustedKeys(options.keys);
      const begins = (step: Step, partition: number) => say(steps[step](partition));
      try {
        const done = await withPool(
          (pool) => new Archiving(pool).run({ before, directory, trusted, patienceMs, signal, begins }),
          3,
          0,
        );
        print(command, done, () => [
          ...(done.written.length === 0 ? ['No further partition is closed, sealed and old enough.'] : []),
          ...done.written.map(
            ({ number, file, events: count }) => `Partition ${number}: ${count} events are in ${file}.`,
          ),
          `${done.moved} domains and mailboxes have left the database, and ${done.removed} events with them. Readers waited ${Math.ceil(done.lockedMs)} ms at most.`,
        ]);
      } catch (error) {
        if (!signal.aborted) throw error;
        throw new Interrupted('Interrupted. What is archived stays so; the same command goes on.', { cause: error });
      }
    });
}

/** Adds `sendmux events archives`. */
export function addArchives(events: Command): void {
  events
    .command('archives')
    .description('the archives of the log; or tells where their files are now')
    .option('--moved-to <folder>', 'the folder that has the files now, each of which is compared first')
    .addHelpText('after', examples('sendmux events archives', 'sendmux events archives --moved-to /mnt/archives'))
    .action(async ({ movedTo }: { movedTo?: string }, command: Command) => {
      const archives = await withPool(
        async (pool) => {
          const known = await archivesOf(pool);
          if (movedTo === undefined) return known;
          const moved = known.map(({ number, file, sha256 }) => ({
            number,
            sha256,
            file: join(resolve(movedTo), basename(file)),
          }));
          for (const { file, sha256 } of moved)
            if (!(await sha256Of(file)).equals(sha256)) throw new Error(`${file} is not the file that was written.`);
          await moveArchives(pool, moved);
          return archivesOf(pool);
        },
        1,
        0,
      );
      const told = archives.map(({ sha256, ...archive }) => ({ ...archive, sha256: sha256.toString('hex') }));
      print(command, told, () =>
        told.length === 0
          ? ['Nothing of the log is in archives.']
          : table(
              ['PARTITION', 'POSITIONS', 'EVENTS', 'FROM', 'TO', 'FILE'],
              told.map(({ number, after, upTo, events: count, from, to, file }) => [
                String(number),
                `${after + 1} to ${upTo}`,
                String(count),
                minute(from),
                minute(to),
                file,
              ]),
            ),
      );
    });
}
