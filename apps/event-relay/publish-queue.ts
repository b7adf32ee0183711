import type { RecordedEvent } from '@app/event-store';
import { batchLength, RecordRefused, toCloudEvent, type CloudEvent, type Sink } from '@app/messaging';
import type { RefusedEvents } from './refused-events';

export interface PublishQueueOptions {
  /** The position up to which everything is published already. */
  readonly after: number;
  /**
   * Resolves when the brokers have acknowledged all of the events.
   *
   * @throws {RecordRefused} when they refuse one of the events for good.
   */
  send(events: readonly CloudEvent[]): Promise<void>;
  /** Keeps the events that the brokers refuse, and the later ones of their streams. */
  readonly refused: Pick<RefusedEvents, 'isWaiting' | 'wait' | 'park' | 'redrive'>;
  /**
   * Called when a send failed that may or may not have arrived. The queue sends nothing more: publishing must start
   * again at the checkpoint.
   */
  broken(error: unknown): void;
}

/** Number of unacknowledged events at which the queue is full. */
const backlog = 5_000;

interface Queued {
  readonly event: RecordedEvent;
  readonly message: CloudEvent;
}

/**
 * Publishes events in the order of the log. One send is under way at a time, and the events that arrive meanwhile form
 * the next batch. So the order of every key is kept, and batches grow only with the load. An event that the brokers
 * refuse for good is parked, with all later ones of its stream; the others go on.
 */
export class PublishQueue implements Sink {
  private queue: Queued[] = [];
  private working: Promise<void> | undefined;
  private acknowledged: number;
  private taken: number;
  private stopped = false;
  private mayRedrive = false;
  private waiting: (() => void)[] = [];
  /** Number of events that are sent but not acknowledged. */
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
    this.queue.push({ event, message: toCloudEvent(event) });
    this.work();
  }

  skip(position: number): void {
    this.taken = position;
  }

  /** Looks for parked events of which a redrive is requested, and publishes them between the batches. */
  redrive(): void {
    this.mayRedrive = true;
    this.work();
  }

  async room(): Promise<void> {
    while (!this.hasRoom) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.announceRoom();
    await this.working;
  }

  private work(): void {
    if (!this.stopped) this.working ??= this.drain().finally(() => (this.working = undefined));
  }

  /** Publishes until the queue is empty or stopped. Never rejects. */
  private async drain(): Promise<void> {
    // Events that are pushed in the same turn of the event loop form one batch.
    await Promise.resolve();
    try {
      while ((this.queue.length > 0 || this.mayRedrive) && !this.stopped) {
        if (this.mayRedrive) this.mayRedrive = await this.options.refused.redrive((events) => this.send(events));
        if (!this.stopped) await this.publishNext();
      }
    } catch (error) {
      this.stopped = true;
      this.announceRoom();
      this.options.broken(error);
    }
  }

  private async publishNext(): Promise<void> {
    const length = batchLength(this.queue, ({ message }) => message);
    const batch = this.queue.slice(0, length);
    if (batch.length === 0) return;
    this.queue = this.queue.slice(length);
    this.inFlight = batch.length;
    await this.publish(batch);
    this.inFlight = 0;
    this.acknowledged = batch.at(-1)!.event.position;
    if (this.hasRoom) this.announceRoom();
  }

  /**
   * Publishes or parks each event of a batch. A batch that is refused is halved until the refused event stands alone.
   */
  private async publish(batch: readonly Queued[]): Promise<void> {
    const { refused } = this.options;
    const behind = batch.filter(({ event }) => refused.isWaiting(event));
    if (behind.length > 0) await refused.wait(behind.map(({ event }) => event));
    const free = batch.filter(({ event }) => !refused.isWaiting(event));
    if (free.length === 0) return;
    try {
      await this.options.send(free.map(({ message }) => message));
    } catch (error) {
      if (!(error instanceof RecordRefused)) throw error;
      if (free.length === 1) return refused.park(free[0]!.event, error);
      const half = free.length >> 1;
      await this.publish(free.slice(0, half));
      await this.publish(free.slice(half));
    }
  }

  private send(events: readonly RecordedEvent[]): Promise<void> {
    return this.options.send(events.map((event) => toCloudEvent(event)));
  }

  private get hasRoom(): boolean {
    return this.queue.length + this.inFlight < backlog || this.stopped;
  }

  private announceRoom(): void {
    for (const tell of this.waiting.splice(0)) tell();
  }
}
