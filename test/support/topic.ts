import { randomUUID } from 'node:crypto';
import { KafkaClient } from '@app/messaging';
import type { Arrival } from './delivery-checker';

/** Every record of a topic, as far as it reaches now. */
export async function arrivalsOf(brokers: readonly string[], topic: string, withinMs = 60_000): Promise<Arrival[]> {
  const client = new KafkaClient({ brokers, tls: false }, 'test');
  const admin = await client.admin();
  const ends = await admin.ends(topic);
  await admin.close();
  const total = [...ends.values()].reduce((sum, end) => sum + end, 0);
  const all: Arrival[] = [];
  let complete: () => void = () => undefined;
  const completed = new Promise<void>((resolve) => (complete = resolve));
  if (total === 0) complete();
  const member = await client.member(`arrivals-${randomUUID()}`, topic, {
    ...{ assigned: () => undefined, rebalancing: () => undefined, crashed: () => undefined },
    records: (partition, messages) => {
      for (const { offset, headers } of messages)
        all.push({
          ...{ partition, offset, id: headers.ce_id!, stream: headers.ce_subject! },
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
