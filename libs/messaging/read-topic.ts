import { setTimeout as sleep } from 'node:timers/promises';
import { fromCloudEvent, type DeliveredEvent, type ReceivedMessage } from './cloud-event';
import type { KafkaDriver } from './kafka-driver';
import { KafkaAway } from './kafka-errors';

/** Milliseconds without a record after which reading has failed. */
const silenceMs = 30_000;

export interface TopicReading {
  readonly topic: string;
  /** A group of this reading alone, which may commit offsets. */
  readonly group: string;
  /** Reads the last so many records of each partition; all when absent. */
  readonly last?: number;
  /** Takes records as they come, of one partition after the other in no order. */
  take(messages: readonly ReceivedMessage[]): void;
  readonly signal?: AbortSignal;
}

/**
 * Reads a topic up to the ends that its partitions have now.
 *
 * @returns false where there is no such topic.
 * @throws {KafkaAway} also when no record comes for 30 seconds.
 * @throws the reason of the signal, when it is aborted.
 */
export async function readTopic(
  client: Pick<KafkaDriver, 'admin' | 'member'>,
  { topic, group, last, signal, ...reading }: TopicReading,
): Promise<boolean> {
  const admin = await client.admin();
  let left: Map<number, number>;
  try {
    if (!(await admin.hasTopic(topic))) return false;
    left = new Map([...(await admin.ends(topic))].filter(([, end]) => end > 0));
    if (left.size === 0) return true;
    if (last !== undefined)
      await admin.setCommitted(group, topic, new Map([...left].map(([each, end]) => [each, Math.max(0, end - last)])));
  } finally {
    await admin.close();
  }
  let heard = Date.now();
  let crashed: Error | undefined;
  const member = await client.member(group, topic, {
    assigned: () => (heard = Date.now()),
    rebalancing: () => undefined,
    crashed: (error) => (crashed = error),
    records: (partition, messages) => {
      heard = Date.now();
      const end = left.get(partition) ?? 0;
      reading.take(messages.filter(({ offset }) => offset < end));
      if ((messages.at(-1)?.offset ?? -1) >= end - 1) left.delete(partition);
    },
  });
  try {
    while (left.size > 0) {
      signal?.throwIfAborted();
      if (crashed) throw crashed;
      if (Date.now() - heard > silenceMs) throw new KafkaAway(`${topic} gives no further record`);
      await sleep(20);
    }
    return true;
  } finally {
    await member.close();
  }
}

/** Records of each partition that are looked at: replays may come after the newest event. */
const lastRecords = 100;

/**
 * Reads the events in the last records of each partition of a topic; undefined where there is no such topic. What
 * cannot be read as an event is left out.
 *
 * @param group a group of this reading alone, which commits offsets.
 * @throws {KafkaAway}
 */
export async function readLastEvents(
  client: Pick<KafkaDriver, 'admin' | 'member'>,
  topic: string,
  group: string,
): Promise<DeliveredEvent[] | undefined> {
  const events: DeliveredEvent[] = [];
  const take = (messages: readonly ReceivedMessage[]) => {
    for (const message of messages)
      try {
        events.push(fromCloudEvent(message));
      } catch {
        // Others may have written it.
      }
  };
  return (await readTopic(client, { topic, group, last: lastRecords, take })) ? events : undefined;
}
