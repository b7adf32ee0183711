import { LogEpochs } from '@app/event-store';
import { KafkaClient, kafkaSettingNames, kafkaSettings, Replays, topicSettings } from '@app/messaging';
import { loadSettings, newId } from '@app/runtime';
import { Logger } from '@nestjs/common';
import type { Command } from 'commander';
import { linesOf } from './event-export';
import { writeLines } from './event-file';
import { selecting, selectionOf, type Selected } from './event-selection';
import { interruption } from './interruption';
import { examples, print } from './output';
import { Progress, stoppable } from './progress';
import { republish } from './republish';
import { UsedWrongly } from './used-wrongly';
import { withArchive } from './with-pool';

interface Republished extends Selected {
  readonly topic?: string;
  readonly file?: string;
  readonly rate?: string;
  readonly dryRun?: boolean;
  readonly resume?: string;
}

/** Adds `sendmux events republish`. */
export function addRepublish(events: Command): void {
  selecting(
    events
      .command('republish')
      .description('publishes events of the past once more, to Kafka or to a file, marked as a replay; their ids stay')
      .option('--topic <topic>', 'another topic than that of KAFKA_TOPIC; it is created when absent')
      .option('--file <file>', 'to a file instead, one event a line; compressed when it ends with .gz')
      .option('--rate <number>', 'events a second at most')
      .option('--dry-run', 'only says how many there are')
      .option('--resume <replay>', 'goes on with a replay that was stopped, with its own events and topic'),
  )
    .addHelpText(
      'after',
      examples(
        'sendmux events republish --from 2026-03-01 --to 2026-04-01 --dry-run',
        'sendmux events republish --from -6h --to now --rate 500',
        'sendmux events republish --from 2026-03-01 --to now --domain mail.acme.com --topic audit.replay',
        'sendmux events republish --from yesterday --to today --type DomainAdded DomainDeleted --file replay.ndjson.gz',
        'sendmux events republish --resume rpl_cl0mvua1x1sh1wf83emou5i9ti4',
      ),
    )
    .action(async (options: Republished, command: Command) => {
      if (options.resume === undefined && (options.from === undefined || options.to === undefined))
        throw new UsedWrongly('A replay needs --from and --to; or --resume and the id of one that was stopped.');
      const rate = options.rate === undefined ? undefined : Number(options.rate);
      if (rate !== undefined && !(rate > 0)) throw new UsedWrongly(`--rate ${options.rate} is no number above 0.`);
      if (options.file !== undefined || options.dryRun) return toFile(options, command);
      const settings = loadSettings(process.env, kafkaSettingNames);
      const kafka = kafkaSettings(settings);
      if (!kafka)
        throw new UsedWrongly('There is no Kafka to publish to: set KAFKA_BROKERS, or name a file with --file FILE.');
      // Log lines of the Kafka client about its retries would be mixed with the results.
      Logger.overrideLogger(false);
      const signal = interruption();
      await withArchive(async (pool, archive, head) => {
        const replays = new Replays(pool);
        const replay = options.resume
          ? await replays.find(options.resume)
          : await replays.begin(
              newId('rpl'),
              options.topic ?? settings.KAFKA_TOPIC,
              await selectionOf(pool, archive, options),
              {
                after: 0,
                upTo: head,
              },
            );
        if (!replay)
          throw new Error(
            `There is no replay ${options.resume} to go on with: it has ended, or never was. \`sendmux events republish --from TIME --to TIME\` begins one.`,
          );
        const client = new KafkaClient(kafka, 'sendmux-replay');
        const done = await republish({
          archive,
          epochs: await LogEpochs.of(pool).epochs(),
          replays,
          replay,
          client,
          signal,
          topic: { ...topicSettings(settings), topic: replay.topic },
          mayAlter: replay.topic === settings.KAFKA_TOPIC,
          ...(rate && { perSecond: rate }),
        });
        print(command, done, () => [
          `${done.events} events are published to ${done.topic} once more, as ${done.replay}.`,
        ]);
      });
    });
}

/** Writes a replay to a file, or with `--dry-run` only counts it. */
async function toFile(options: Republished, command: Command): Promise<void> {
  const { file, dryRun } = options;
  if (options.resume !== undefined)
    throw new UsedWrongly('--resume goes on with a replay to Kafka: leave --file and --dry-run out.');
  if (options.topic !== undefined && file !== undefined) throw new UsedWrongly('--topic or --file, not both.');
  const signal = interruption();
  await withArchive(async (pool, archive, head) => {
    const selection = await selectionOf(pool, archive, options);
    const span = { after: 0, upTo: head };
    const { events, streams } = await archive.count(selection, span);
    if (dryRun)
      return print(command, { events, streams: streams ?? null }, () => [
        `${events} events${streams === undefined ? '' : ` of ${streams} domains and mailboxes`} would be published once more.`,
      ]);
    const replay = newId('rpl');
    const epochs = await LogEpochs.of(pool).epochs();
    const progress = new Progress({ label: 'Writing', total: events, unit: 'events' });
    await stoppable(progress, 'Nothing is written. Begin again with the same command.', () =>
      writeLines(file, linesOf(archive, selection, span, { epochs, replayId: replay, signal, progress })),
    );
    print(command, { replay, file, events }, () => [`${events} events are in ${file}, marked as ${replay}.`]);
  });
}
