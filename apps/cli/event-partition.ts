import { partitionEvents } from '@app/event-store';
import { parseDuration } from '@app/runtime';
import type { Command } from 'commander';
import { interruption, Interrupted } from './interruption';
import { examples, print, say } from './output';
import { UsedWrongly } from './used-wrongly';
import { withPool } from './with-pool';

/** The fewest positions in a partition: a partition that fills within minutes is of no use. */
const smallest = 100_000;

/** Adds `sendmux events partition`. */
export function addPartition(events: Command): void {
  events
    .command('partition')
    .description('partitions the table of a log that is from before partitions, while everything runs')
    .option('--size <positions>', 'positions in a partition', '10000000')
    .option('--wait <duration>', 'how long to wait for others that hold the table', '1m')
    .addHelpText(
      'after',
      `${examples('sendmux events partition', 'sendmux events partition --wait 10m')}

No event is copied or changed: the table becomes the first partition. Appends wait some milliseconds. A log that is new
or has at most 100,000 events is partitioned by \`sendmux migrate\`, or by the first start of a release with partitions.`,
    )
    .action(async (options: { size: string; wait: string }, command: Command) => {
      const size = Number(options.size);
      if (!Number.isSafeInteger(size) || size < smallest)
        throw new UsedWrongly(`--size ${options.size} is no number of at least ${smallest}.`);
      const patienceMs = parseDuration(options.wait);
      if (patienceMs === undefined) throw new UsedWrongly(`--wait ${options.wait} is no duration, such as 30s or 5m.`);
      const signal = interruption();
      const onReading = () => say('Reading the table, to prove that it can be the first partition …');
      try {
        const done = await withPool((pool) => partitionEvents(pool, { size, patienceMs, signal, onReading }), 2);
        print(command, done ?? { upTo: null, lockedMs: 0 }, () => [
          done
            ? `The log is partitioned: the first partition goes up to position ${done.upTo}. Appends waited ${Math.ceil(done.lockedMs)} ms at most.`
            : 'The log is partitioned already.',
        ]);
      } catch (error) {
        if (signal.aborted)
          throw new Interrupted('Interrupted. The log is as it was. Begin again with the same command.', {
            cause: error,
          });
        throw error;
      }
    });
}
