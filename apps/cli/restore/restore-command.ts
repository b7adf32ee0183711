import { parseTime, timeForms } from '@app/runtime';
import type { Command } from 'commander';
import { examples, minute, print } from '../output';
import { UsedWrongly } from '../used-wrongly';
import type { Found, Restored } from './restore';

interface Options {
  readonly yes?: boolean;
  readonly reason?: string;
  readonly givenUpTo?: string;
  readonly lostSince?: string;
  readonly fromBeginning?: boolean;
  readonly unsigned?: boolean;
}

/** The longest reason that is kept. */
const longestReason = 200;

/** Adds `sendmux restore`. */
export function addRestore(program: Command): void {
  program
    .command('restore')
    .description('begins a new epoch of a log whose database was taken back to an earlier moment; no app may run')
    .option('--yes', 'does it; without, only says what it would do')
    .option('--reason <text>', 'why the database was restored, to be kept in it')
    .option('--given-up-to <position>', 'newest position that anybody is known to have seen, such as in an answer')
    .option(
      '--lost-since <time>',
      'where apps have gone on since, as after a fail-over: the moment from which events are lost',
    )
    .option('--from-beginning', 'has the consumers on Kafka read the topic from its beginning')
    .option('--unsigned', 'without the key of the sealer: `sendmux audit verify` will name the restore as a fault')
    .addHelpText(
      'after',
      `${examples(
        'sendmux restore',
        'sendmux restore --reason "disk of the primary lost" --yes',
        'sendmux restore --lost-since 2026-03-01T10:00:00Z --reason "fail-over" --yes',
      )}

Restore the database first, and start no app before this is done: docs/operations/restoring.md has every step. It is
one transaction, safe to repeat, and does nothing where nothing was recorded since the last time.`,
    )
    .action(async (options: Options, command: Command) => {
      const lostSince = momentOf(options.lostSince);
      const { reason = '', givenUpTo = '0' } = options;
      if (reason.length > longestReason || !/^[^\p{C}]*$/u.test(reason))
        throw new UsedWrongly(`--reason has more than ${longestReason} characters, or one that cannot be shown.`);
      if (options.yes && reason === '') throw new UsedWrongly('Say why with --reason.');
      const given = Number(givenUpTo);
      if (!Number.isSafeInteger(given) || given < 0 || given > 1e15)
        throw new UsedWrongly(`--given-up-to ${givenUpTo} is no position.`);
      const { restoring } = await import('./restore.js');
      const done = await restoring({
        reason,
        givenUpTo: given,
        lostSince,
        isMeant: options.yes === true,
        fromBeginning: options.fromBeginning === true,
        isUnsigned: options.unsigned === true,
      });
      print(command, done, () => ('epoch' in done ? whatWasDone(done) : whatIsFound(done)));
    });
}

/** @throws {UsedWrongly} when it is no time, or one that is still to come. */
function momentOf(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const now = new Date();
  const moment = parseTime(text, now);
  if (!moment || moment > now)
    throw new UsedWrongly(`--lost-since ${text} is no time that has been. Give ${timeForms}.`);
  return moment;
}

function whatIsFound({ log, newest, keptUpTo, topic, sessions, restoredAt }: Found): string[] {
  if (restoredAt)
    return [
      `Nothing was recorded since \`sendmux restore\` of ${minute(new Date(restoredAt))}: there is nothing to do.`,
    ];
  return [
    `Log ${log}, ${newest ? `whose newest event is ${newest.event} of ${newest.time}, at position ${newest.position}` : 'which has no event'}.`,
    `Whatever was recorded above position ${keptUpTo} before the restore is void; what the log has above it is published again.`,
    ...(topic
      ? [
          `The topic ${topic.name} goes up to position ${topic.upTo}. The consumers read it again from what they had done.`,
          ...(topic.lostFrom === undefined
            ? []
            : [`It has events from position ${topic.lostFrom} on that the log has not.`]),
          ...(topic.lostFrom !== undefined && topic.lostFrom <= keptUpTo
            ? ['That is below what would be void, since apps have run: give --lost-since, too.']
            : []),
        ]
      : ['No topic is looked at.']),
    ...(sessions.length > 0 ? [`Stop what uses the database first: ${sessions.join('; ')}.`] : []),
    'Nothing is changed. To do it: sendmux restore --reason TEXT --yes',
  ];
}

function whatWasDone({ epoch, after, goesOnAfter, groups, parked, deliveries, isSigned }: Restored): string[] {
  return [
    `Epoch ${epoch} has begun after position ${after}; new events come after position ${goesOnAfter}.`,
    ...(groups.length > 0 ? [`These groups on Kafka go on from what they had done: ${groups.join(', ')}.`] : []),
    ...(parked + deliveries > 0
      ? [`${parked} parked events and ${deliveries} deliveries have the names of the new epoch.`]
      : []),
    ...(isSigned ? [] : ['Nothing signed says so: nothing was sealed, or --unsigned was given.']),
    'Start the apps, then: sendmux reconcile',
  ];
}
