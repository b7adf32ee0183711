import type { RecordedEvent } from '@app/event-store';
import { toCloudEvent, type CloudEvent, type Sink } from '@app/messaging';

export interface PartitionQueuesOptions {
  /** Everything at or below this position is published already. */
  readonly after: number;
  partitionOf(key: string): number;
  /** Resolves when the brokers have acknowledged all of them. */
  send(partition: number, events: readonly CloudEvent[]): Promise<void>;
  /** A send that may or may not have arrived: nothing more is sent, as all must begin again from the checkpoint. */
  broken(error: unknown): void;
}

/** Events taken and not acknowledged, beyond which there is no room. */
const backlog = 10_000;
/** Of one send. A broker takes about a megabyte at once. */
const largest = { events: 500, bytes: 400_000 };

interface Queued {
  readonly position: number;
  readonly event: CloudEvent;
}

/**
 * Publishes events in the order of the log within each partition: a queue for each, one send at a time, and what comes
 * meanwhile goes with the next. Partitions go on side by side; the position is below the first event that is not
 * acknowledged in any of them.
 */
export class PartitionQueues implements Sink {
  private readonly queues = new Map<number, Queued[]>();
  private readonly sending = new Map<number, Promise<void>>();
  /** In the order of the log, so that the first one bounds what is done. */
  private readonly undone = new Set<number>();
  private taken: number;
  private stopped = false;
  private waiting: (() => void)[] = [];

  constructor(private readonly options: PartitionQueuesOptions) {
    this.taken = options.after;
  }

  get position(): number {
    const [first] = this.undone;
    return first === undefined ? this.taken : first - 1;
  }

  get seen(): number {
    return this.taken;
  }

  push(event: RecordedEvent): void {
    this.taken = event.position;
    this.undone.add(event.position);
    const queued = { position: event.position, event: toCloudEvent(event) };
    const partition = this.options.partitionOf(queued.event.key);
    const queue = this.queues.get(partition);
    if (queue) queue.push(queued);
    else this.queues.set(partition, [queued]);
    if (this.stopped || this.sending.has(partition)) return;
    this.sending.set(
      partition,
      this.drain(partition).finally(() => this.sending.delete(partition)),
    );
  }

  skip(position: number): void {
    this.taken = position;
  }

  async room(): Promise<void> {
    while (this.undone.size >= backlog && !this.stopped)
      await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.tellOfRoom();
    await Promise.all(this.sending.values());
  }

  /** Never rejects. */
  private async drain(partition: number): Promise<void> {
    const queue = this.queues.get(partition)!;
    // What is pushed in the same turn travels together.
    await Promise.resolve();
    while (queue.length > 0 && !this.stopped) {
      const batch = queue.splice(0, batchLength(queue));
      try {
        await this.options.send(
          partition,
          batch.map(({ event }) => event),
        );
      } catch (error) {
        this.stopped = true;
        this.tellOfRoom();
        this.options.broken(error);
        return;
      }
      for (const { position } of batch) this.undone.delete(position);
      if (this.undone.size < backlog) this.tellOfRoom();
    }
  }

  private tellOfRoom(): void {
    for (const tell of this.waiting.splice(0)) tell();
  }
}

/** At least one. */
function batchLength(queue: readonly Queued[]): number {
  let bytes = 0;
  let length = 0;
  for (const { event } of queue) {
    bytes += event.value.length;
    if (length === largest.events || (length > 0 && bytes > largest.bytes)) break;
    length++;
  }
  return length;
}
