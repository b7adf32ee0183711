import type { RecordedEvent } from '@app/event-store';
import { batchLength, toCloudEvent, type CloudEvent, type Sink } from '@app/messaging';

export interface PublishQueueOptions {
  /** Everything at or below this position is published already. */
  readonly after: number;
  /** Resolves when the brokers have acknowledged all of them. */
  send(events: readonly CloudEvent[]): Promise<void>;
  /** A send that may or may not have arrived: nothing more is sent, as all must begin again from the checkpoint. */
  broken(error: unknown): void;
}

/** Events taken and not acknowledged, beyond which there is no room. */
const backlog = 5_000;

interface Queued {
  readonly position: number;
  readonly event: CloudEvent;
}

/**
 * Publishes events in the order of the log: one send at a time, and what comes meanwhile goes with the next. So the
 * order of every key is kept, whatever its partition, and few events travel soon while many travel together.
 */
export class PublishQueue implements Sink {
  private queue: Queued[] = [];
  private sending: Promise<void> | undefined;
  private acknowledged: number;
  private taken: number;
  private stopped = false;
  private waiting: (() => void)[] = [];
  /** Sent, and not acknowledged. */
  private inFlight = 0;

  constructor(private readonly options: PublishQueueOptions) {
    this.acknowledged = this.taken = options.after;
  }

  get position(): number {
    return this.queue.length + this.inFlight === 0 ? this.taken : this.acknowledged;
  }

  get seen(): number {
    return this.taken;
  }

  push(event: RecordedEvent): void {
    this.taken = event.position;
    this.queue.push({ position: event.position, event: toCloudEvent(event) });
    if (!this.stopped) this.sending ??= this.drain().finally(() => (this.sending = undefined));
  }

  skip(position: number): void {
    this.taken = position;
  }

  async room(): Promise<void> {
    while (!this.hasRoom) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.tellOfRoom();
    await this.sending;
  }

  /** Never rejects. */
  private async drain(): Promise<void> {
    // What is pushed in the same turn travels together.
    await Promise.resolve();
    while (this.queue.length > 0 && !this.stopped) {
      const batch = this.queue.slice(
        0,
        batchLength(this.queue, ({ event }) => event),
      );
      this.queue = this.queue.slice(batch.length);
      this.inFlight = batch.length;
      try {
        await this.options.send(batch.map(({ event }) => event));
      } catch (error) {
        this.stopped = true;
        this.tellOfRoom();
        this.options.broken(error);
        return;
      }
      this.inFlight = 0;
      this.acknowledged = batch.at(-1)!.position;
      if (this.hasRoom) this.tellOfRoom();
    }
  }

  private get hasRoom(): boolean {
    return this.queue.length + this.inFlight < backlog || this.stopped;
  }

  private tellOfRoom(): void {
    for (const tell of this.waiting.splice(0)) tell();
  }
}
