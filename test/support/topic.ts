import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { KafkaAway, KafkaClient } from '@app/messaging';
import type { Arrival } from './delivery-checker';

/**
 * Reads every record that a topic has now. Starts again when the client crashes, as it may on a cluster that has just
 * started.
 */
export async function arrivalsOf(brokers: readonly string[], topic: string, withinMs = 60_000): Promise<Arrival[]> {
  for (let tries = 1; ; tries++) {
    try {
      return await readAll(brokers, topic, withinMs);
    } catch (error) {
      if (!(error instanceof KafkaAway) || tries === 5) throw error;
      await delay(500);
    }
  }
}

/**
 * Watches a topic from its beginning until it is closed.
 *
 * @returns for each event that has arrived at a consumer, by its id, when it first did, by the clock of `performance`.
 */
export async function watchTopic(
  brokers: readonly string[],
  topic: string,
): Promise<{ readonly arrivedAt: ReadonlyMap<string, number>; close(): Promise<void> }> {
  const arrivedAt = new Map<string, number>();
  const client = new KafkaClient({ brokers, tls: false }, 'test');
  const member = await client.member(`watch-${randomUUID()}`, topic, {
    assigned: () => undefined,
    rebalancing: () => undefined,
    crashed: () => undefined,
    records: (_partition, messages) => {
      for (const { headers } of messages)
        if (!arrivedAt.has(headers.ce_id!)) arrivedAt.set(headers.ce_id!, performance.now());
    },
  });
  return { arrivedAt, close: () => member.close() };
}

async function readAll(brokers: readonly string[], topic: string, withinMs: number): Promise<Arrival[]> {
  const client = new KafkaClient({ brokers, tls: false }, 'test');
  const admin = await client.admin();
  const ends = await admin.ends(topic);
  await admin.close();
  const total = [...ends.values()].reduce((sum, end) => sum + end, 0);
  const all: Arrival[] = [];
  let complete: () => void = () => undefined;
  let crashed: (error: Error) => void = () => undefined;
  const completed = new Promise<void>((resolve, reject) => ([complete, crashed] = [resolve, reject]));
  completed.catch(() => undefined);
  if (total === 0) complete();
  const member = await client.member(`arrivals-${randomUUID()}`, topic, {
    assigned: () => undefined,
    rebalancing: () => undefined,
    crashed,
    records: (partition, messages) => {
      for (const { offset, headers } of messages)
        all.push({
          partition,
          offset,
          id: headers.ce_id!,
          stream: headers.ce_subject!,
          version: Number(headers.ce_streamversion),
        });
      if (all.length >= total) complete();
    },
  });
  const late = new Promise<never>((_, reject) =>
    setTimeout(() => reject(new Error(`${all.length} of ${total} records within ${withinMs} ms`)), withinMs).unref(),
  );
  try {
    await Promise.race([completed, late]);
  } finally {
    await member.close();
  }
  return all;
}
