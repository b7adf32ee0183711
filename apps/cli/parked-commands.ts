import { setTimeout as delay } from 'node:timers/promises';
import { ParkedMessages, type ParkedMessage } from '@app/messaging';
import type { Command } from 'commander';
import { examples, minute, print, table } from './output';
import { UsedWrongly } from './used-wrongly';
import { withPool } from './with-pool';

/** Milliseconds to wait for the outcome of a redrive; consumers look for messages to redrive every second. */
const outcomeWithinMs = 15_000;

export function addParkedCommands(parked: Command): void {
  parked
    .command('list')
    .description('what is parked, the oldest first')
    .option('--group <group>', 'of one group: provisioning, verification-scheduler, notifier, event-relay/TOPIC')
    .addHelpText('after', examples('sendmux parked list', 'sendmux parked list --group notifier --json'))
    .action(async ({ group }: { group?: string }, command: Command) => {
      const messages = await withParked((all) => all.list(group));
      print(command, messages, () =>
        messages.length === 0
          ? ['Nothing is parked.']
          : table(
              ['GROUP', 'MESSAGE', 'TYPE', 'ATTEMPTS', 'PARKED', 'ERROR'],
              messages.map((each) => [
                each.group,
                each.message,
                each.type ?? '',
                String(each.attempts),
                minute(each.parkedAt),
                firstLine(each.error) + (each.redriveAskedAt ? ' (to be redriven)' : ''),
              ]),
            ),
      );
    });
  parked
    .command('show')
    .description('one message with its whole error and content')
    .argument('<group>', 'the consumer group, as `sendmux parked list` shows it')
    .argument('<message>', 'the message, as `sendmux parked list` shows it')
    .addHelpText('after', examples('sendmux parked show provisioning mdom_clmib3zq8a0w9x7f1k2s5d4g6h0j/1'))
    .action(async (group: string, message: string, _options: object, command: Command) => {
      const found = await withParked((all) => all.find(group, message));
      if (!found) throw new Error(notParked(group, [message]));
      print(command, found, () => [
        `${found.message}  ${found.type ?? '(no event)'}`,
        `parked by ${found.group} at ${minute(found.parkedAt)} after ${found.attempts} attempts`,
        '',
        ...found.error.split('\n'),
        '',
        ...(found.event ? JSON.stringify(found.event, null, 2) : rawText(found)).split('\n'),
      ]);
    });
  parked
    .command('redrive')
    .description(
      'hands messages to their consumer once more (or to Kafka, the whole domain in its order), and waits for the outcome',
    )
    .argument('<group>', 'the consumer group')
    .argument('[messages...]', 'which ones')
    .option('--all', 'every message of the group')
    .addHelpText(
      'after',
      examples(
        'sendmux parked redrive provisioning mdom_clmib3zq8a0w9x7f1k2s5d4g6h0j/1',
        'sendmux parked redrive notifier --all',
        'sendmux parked redrive event-relay/sendmux.domain-events --all',
      ),
    )
    .action(async (group: string, messages: string[], { all }: { all?: boolean }, command: Command) => {
      if (messages.length > 0 === Boolean(all))
        throw new UsedWrongly('Name the messages to redrive, or all of them with --all.');
      const outcome = await withParked(async (parkedMessages) => {
        const asked = await parkedMessages.askToRedrive(group, all ? 'all' : messages);
        const unknown = messages.filter((message) => !asked.includes(message));
        if (unknown.length > 0) throw new Error(notParked(group, unknown));
        return outcomeOf(parkedMessages, group, asked);
      });
      print(command, outcome, () => [
        ...outcome.handled.map((message) => `${message} is handled.`),
        ...(outcome.handled.length + outcome.failed.length + outcome.waiting.length === 0
          ? ['Nothing is parked.']
          : []),
      ]);
      const { failed, waiting } = outcome;
      const faults = [
        ...failed.map(({ message, error }) => `${message} failed again, and stays parked: ${firstLine(error)}`),
        ...(waiting.length > 0
          ? [`${waiting.length} not tried yet. Does ${group} run? It tries them as soon as it does.`]
          : []),
      ];
      if (faults.length > 0) throw new Error(faults.join(' '));
    });
}

interface Outcome {
  readonly handled: string[];
  readonly failed: { message: string; error: string }[];
  readonly waiting: string[];
}

async function outcomeOf(parked: ParkedMessages, group: string, asked: readonly string[]): Promise<Outcome> {
  const deadline = Date.now() + outcomeWithinMs;
  for (;;) {
    const left = (await parked.list(group)).filter(({ message }) => asked.includes(message));
    const waiting = left.filter(({ redriveAskedAt }) => redriveAskedAt);
    if (waiting.length === 0 || Date.now() > deadline)
      return {
        handled: asked.filter((message) => !left.some((each) => each.message === message)),
        failed: left.filter((each) => !each.redriveAskedAt).map(({ message, error }) => ({ message, error })),
        waiting: waiting.map(({ message }) => message),
      };
    await delay(200);
  }
}

const withParked = <T>(work: (parked: ParkedMessages) => Promise<T>): Promise<T> =>
  withPool((pool) => work(new ParkedMessages((text, values) => pool.query(text, values))));

const notParked = (group: string, messages: readonly string[]): string =>
  `${group} has parked no message ${messages.join(', ')}. \`sendmux parked list\` shows all.`;

const firstLine = (text: string): string => text.split('\n', 1)[0]!;

/** Gives a message that could not be read as an event, with key and value decoded from base64. */
function rawText({ raw }: ParkedMessage): string {
  const { key, value, ...rest } = raw!;
  const text = (base64: string | null) => (base64 === null ? null : Buffer.from(base64, 'base64').toString('utf8'));
  return JSON.stringify({ ...rest, key: text(key), value: text(value) }, null, 2);
}
