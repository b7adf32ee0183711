import { setTimeout as sleep } from 'node:timers/promises';
import type { Epoch, Epochs, EventArchive, EventMetadata, KeptEvent } from '@app/event-store';
import {
  batchLength,
  KafkaAway,
  toCloudEvent,
  TopicCheck,
  TopicPublisher,
  type CloudEvent,
  type KafkaClient,
  type Replay,
  type Replays,
  type TopicSettings,
} from '@app/messaging';
import { backOffMs } from '@app/runtime';
import { Interrupted } from './interruption';
import { say } from './output';
import { Progress } from './progress';

export interface Republishing {
  readonly archive: EventArchive;
  readonly epochs: Epochs;
  readonly replays: Replays;
  readonly replay: Replay;
  readonly client: KafkaClient;
  readonly topic: TopicSettings;
  /** Whether the topic is the one of the product, so that its settings may be altered. */
  readonly mayAlter: boolean;
  readonly perSecond?: number;
  readonly signal: AbortSignal;
}

/** Largest number of events that are prepared at once. */
const mostAtOnce = 500;
/** Batches per second of a throttled replay. */
const batchesPerSecond = 5;
/** Consecutive failed sends after which the replay ends, to be resumed later. */
const mostFailures = 6;

/**
 * Publishes the rest of a replay in the order of the log, so that the events of each domain stay in order. The
 * acknowledged position is stored, and events that may or may not have arrived are sent again.
 *
 * @throws {Interrupted} between two batches when the signal is aborted.
 */
export async function republish(work: Republishing): Promise<{ replay: string; topic: string; events: number }> {
  const { archive, epochs, replays, replay, perSecond, signal } = work;
  const { id, selection, span, topic } = replay;
  const goOn = `sendmux events republish --resume ${id}`;
  const { events: total } = await archive.count(selection, { ...span, after: 0 });
  const { events: left } = await archive.count(selection, span);
  say(`Replay ${id} to ${topic}. Should it be stopped, go on with:  ${goOn}`);
  const progress = new Progress({ label: 'Publishing', total, unit: 'events', done: total - left });
  const channel = new Channel(work);
  let done = total - left;
  let position = span.after;
  try {
    for await (const page of archive.read(selection, span)) {
      for (let rest = page.events; rest.length > 0;) {
        signal.throwIfAborted();
        const most = perSecond ? Math.ceil(perSecond / batchesPerSecond) : mostAtOnce;
        const messages = rest.slice(0, most).map((event) => replayed(event, id, epochs.of(event.position)));
        const length = batchLength(messages, (message) => message);
        await channel.send(messages.slice(0, length));
        position = rest[length - 1]!.position;
        rest = rest.slice(length);
        await replays.reached(id, position);
        progress.reached((done += length));
      }
      // The page may end with positions that are not selected.
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

const replayed = ({ data, metadata, ...event }: KeptEvent, replayId: string, epoch?: Epoch): CloudEvent => ({
  ...toCloudEvent({
    position: event.position,
    stream: event.stream,
    version: event.version,
    type: event.type,
    schemaVersion: event.schemaVersion,
    time: event.time,
    data: undefined,
    replayId,
    ...(epoch && { epoch }),
    metadata: JSON.parse(metadata) as EventMetadata,
  }),
  // The stored bytes are published, and not a new serialisation.
  value: data,
});

/** Publishes through a producer that is replaced after a failure, since it does not know which records have arrived. */
class Channel {
  private publisher: TopicPublisher | undefined;
  private readyAt = 0;

  constructor(private readonly work: Republishing) {}

  /**
   * @throws {KafkaAway} after several attempts; {TopicUnfit} where the topic would lose the events, and other errors of
   * Kafka, at once.
   */
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
    await publisher?.close();
  }

  private async open(): Promise<TopicPublisher> {
    const { client, topic, mayAlter } = this.work;
    const admin = await client.admin();
    try {
      const partitions = await admin.ensureTopic(topic);
      await new TopicCheck(topic.topic, mayAlter).run(admin);
      return new TopicPublisher(client, topic.topic, partitions);
    } finally {
      await admin.close();
    }
  }
}
