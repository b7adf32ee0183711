import { archivesOf, Epochs, EventLog, readEpochs } from '@app/event-store';
import { fromCloudEvent, readCheckpoint, readTopic, relayCheckpoint, type KafkaClient } from '@app/messaging';
import { hasAddress } from '@app/read-model';
import type { Pool } from 'pg';
import type { Findings } from './findings';
import { Positions } from './positions';

export interface KafkaComparison {
  readonly pool: Pool;
  readonly client: KafkaClient;
  readonly topic: string;
  /** The group of this comparison. */
  readonly group: string;
  readonly findings: Findings;
  readonly signal: AbortSignal;
  readonly reached: (records: number) => void;
}

/** Erased mailboxes that are named at most. */
const mostNamed = 100;

/**
 * Compares the topic with the log, from its beginning to its end: which of its messages are void, whether it has any
 * that the log has not, and whether any is missing that was published. Memory is a bit for each position.
 */
export async function compareKafka(comparison: KafkaComparison): Promise<void> {
  const { pool, client, topic, group, findings, signal, reached } = comparison;
  const log = new EventLog(pool);
  try {
    const published = (await readCheckpoint(pool, relayCheckpoint(topic))) ?? 0;
    const epochs = new Epochs(await readEpochs(pool));
    const head = await log.head();
    const standing = new Positions();
    const erased = new Set<string>();
    let [records, voids, strange, ahead] = [0, 0, 0, 0];
    const isThere = await readTopic(client, {
      topic,
      group,
      signal,
      take: (messages) => {
        for (const message of messages) {
          reached(++records);
          let event;
          try {
            event = fromCloudEvent(message);
          } catch {
            strange++;
            continue;
          }
          if (epochs.isVoid(event)) {
            voids++;
            if (event.type === 'MailboxErased' && erased.size < mostNamed) erased.add(event.stream);
          } else if (event.position > head || epochs.isAhead(event)) ahead++;
          else standing.add(event.position);
        }
      },
    });
    if (!isThere) return findings.note(`Kafka has no topic ${topic} yet.`);
    findings.note(`${topic}: ${records} records, ${voids} of them void, ${strange} that are no events.`);
    if (ahead > 0)
      await findings.take({
        area: 'kafka',
        kind: 'different',
        what: topic,
        log: `up to position ${head}`,
        there: `${ahead} later events: the log was taken back, and \`sendmux restore\` not run`,
      });
    for await (const [first, count] of missingOf(log, { published, head }, standing, signal))
      await findings.take({
        area: 'kafka',
        kind: 'missing',
        what: topic,
        log: `${count} events from position ${first} on are published`,
        there: 'not there: `sendmux events republish`',
      });
    // The walk has left those that the log does not have, but for what is in archives.
    const unknown = standing.above((await archivesOf(pool)).at(-1)?.upTo ?? 0);
    if (unknown)
      await findings.take({
        area: 'kafka',
        kind: 'different',
        what: topic,
        log: `goes up to position ${head}`,
        there: `${unknown.count} events from position ${unknown.first} on that it has not: it was taken back, and has gone on. \`sendmux restore --lost-since\``,
      });
    for (const mailbox of erased)
      if (await hasAddress(pool, mailbox))
        await findings.take({
          area: 'kafka',
          kind: 'different',
          what: mailbox,
          log: 'not erased',
          there: `erased in the history that was lost: \`sendmux erase mailbox\` again`,
        });
  } finally {
    await log.close();
  }
}

/**
 * Yields runs of events that were published and are not on the topic: the first position, and how many. What is on both
 * is taken out of what is there.
 */
async function* missingOf(
  log: EventLog,
  { published, head }: { readonly published: number; readonly head: number },
  there: Positions,
  signal: AbortSignal,
): AsyncGenerator<[first: number, count: number], void> {
  let run: [number, number] | undefined;
  for (let after = 0; after < head;) {
    signal.throwIfAborted();
    const { events, settledUpTo } = await log.read({ after, limit: 1_000 });
    for (const { position } of events) {
      const isThere = there.has(position);
      if (isThere) there.remove(position);
      if (!isThere && position <= published) run = run ? [run[0], run[1] + 1] : [position, 1];
      else if (run) {
        yield run;
        run = undefined;
      }
    }
    after = settledUpTo;
  }
  if (run) yield run;
}
