import { setTimeout as sleep } from 'node:timers/promises';
import type { EventArchive, EventMetadata, KeptEvent } from '@app/event-store';
import {
  batchLength,
  KafkaAway,
  toCloudEvent,
  type CloudEvent,
  type KafkaClient,
  type Publisher,
  type Replay,
  type Replays,
  type TopicSettings,
} from '@app/messaging';
import { backOffMs } from '@app/runtime';
import { Interrupted } from './interruption';
import { Progress } from './progress';

export interface Republishing {
  readonly archive: EventArchive;
  readonly replays: Replays;
  readonly replay: Replay;
  readonly client: KafkaClient;
  readonly topic: TopicSettings;
  readonly perSecond?: number;
  readonly signal: AbortSignal;
}

/** Events that are made ready at once. */
const mostAtOnce = 500;
/** Of a replay that is held back. */
const batchesPerSecond = 5;
/** Sends that fail one after the other before the replay is left to be resumed. */
const mostFailures = 6;

/**
 * Publishes what is left of a replay, in the order of the log: so each domain has its order. What is acknowledged is noted, and what
 * may have arrived is sent again.
 *
 * @throws {Interrupted} by the signal, between two batches.
 */
export async function republish(work: Republishing): Promise<{ replay: string; topic: string; events: number }> {
  const { archive, replays, replay, perSecond, signal } = work;
  const { id, selection, span, topic } = replay;
  const goOn = `sendmux events republish --resume ${id}`;
  const { events: total } = await archive.count(selection, { ...span, after: 0 });
  const { events: left } = await archive.count(selection, span);
  process.stderr.write(`Replay ${id} to ${topic}. Should it be stopped, go on with:  ${goOn}\n`);
  const progress = new Progress({ label: 'Publishing', total, unit: 'events', done: total - left });
  const channel = new Channel(work);
  let done = total - left;
  let position = span.after;
  try {
    for await (const page of archive.read(selection, span)) {
      for (let rest = page.events; rest.length > 0;) {
        signal.throwIfAborted();
        const most = perSecond ? Math.ceil(perSecond / batchesPerSecond) : mostAtOnce;
        const messages = rest.slice(0, most).map((event) => replayed(event, id));
        const length = batchLength(messages, (message) => message);
        await channel.send(messages.slice(0, length));
        position = rest[length - 1]!.position;
        rest = rest.slice(length);
        await replays.reached(id, position);
        progress.reached((done += length));
      }
      // Past positions that nobody asked for, too.
      position = page.position;
    }
    await replays.end(id);
    progress.finish();
    return { replay: id, topic, events: done };
  } catch (error) {
    progress.abandon();
    const where = `${done} of ${total} events are published, up to position ${position}. Go on with:  ${goOn}`;
    if (error instanceof Interrupted) throw new Interrupted(`Interrupted. ${where}`, { cause: error });
    throw new Error(`${(error as Error).message}. ${where}`, { cause: error });
  } finally {
    await channel.close();
  }
}

const replayed = ({ data, metadata, ...event }: KeptEvent, replayId: string): CloudEvent => ({
  ...toCloudEvent({
    ...{ position: event.position, stream: event.stream, version: event.version, type: event.type },
    ...{ schemaVersion: event.schemaVersion, time: event.time, data: undefined, replayId },
    metadata: JSON.parse(metadata) as EventMetadata,
  }),
  // As it is kept.
  value: data,
});

/** A producer that is replaced after a failure: it does not know what has arrived. */
class Channel {
  private publisher: Publisher | undefined;
  private readyAt = 0;

  constructor(private readonly work: Republishing) {}

  /** @throws {KafkaAway} after several tries; the errors of Kafka that last at once. */
  async send(batch: readonly CloudEvent[]): Promise<void> {
    const { signal, perSecond } = this.work;
    const wait = this.readyAt - performance.now();
    if (perSecond && wait > 0) await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
    this.readyAt = Math.max(this.readyAt, performance.now()) + (perSecond ? (batch.length * 1_000) / perSecond : 0);
    for (let failures = 1; ; failures++) {
      try {
        this.publisher ??= await this.open();
        return await this.publisher.send(batch);
      } catch (error) {
        await this.close();
        if (!(error instanceof KafkaAway) || failures === mostFailures) throw error;
        await sleep(backOffMs({ baseMs: 500, capMs: 5_000 }, failures), undefined, { signal }).catch(() =>
          signal.throwIfAborted(),
        );
      }
    }
  }

  async close(): Promise<void> {
    const { publisher } = this;
    this.publisher = undefined;
    await publisher?.close().catch(() => undefined);
  }

  private async open(): Promise<Publisher> {
    const { client, topic } = this.work;
    const admin = await client.admin();
    const partitions = await admin.ensureTopic(topic).finally(() => admin.close());
    return client.publisher(topic.topic, partitions);
  }
}
