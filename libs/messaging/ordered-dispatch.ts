import { backOffMs, type BackOff } from '@app/runtime';
import type { RecordedEvent } from '@app/event-store';
import { isConnectionLoss } from './connection-loss';

export interface OrderedDispatchOptions {
  /** Everything at or below this position is done already. */
  readonly after: number;
  /** Streams at once. */
  readonly concurrency: number;
  /** Events taken and not done, beyond which `push` waits. */
  readonly backlog: number;
  /** Calls of `handle` before an event is parked. */
  readonly attempts: number;
  readonly backOff: BackOff;
  handle(event: RecordedEvent): Promise<void>;
  /** Called with the error of each failed attempt; `retryInMs` is absent when it was the last. */
  failed(event: RecordedEvent, error: unknown, attempt: number, retryInMs?: number): void;
  park(event: RecordedEvent, error: unknown, attempts: number): Promise<void>;
  /** Parking failed: the event stays undone, and so does everything after it in its stream. */
  broken(error: unknown): void;
}

interface Stream {
  readonly events: RecordedEvent[];
  /** Failed attempts of the first event. */
  failures: number;
}

/**
 * Hands events to a handler: those of one stream one after another, those of different streams at once. A stream that
 * waits for a retry holds up nothing but itself.
 */
export class OrderedDispatch {
  private readonly streams = new Map<string, Stream>();
  private readonly ready: Stream[] = [];
  /** In the order of the log, so that the first one bounds what is done. */
  private readonly undone = new Set<number>();
  private readonly running = new Set<Promise<void>>();
  private readonly retries = new Set<NodeJS.Timeout>();
  private taken: number;
  private stopped = false;
  private madeRoom = (): void => undefined;

  constructor(private readonly options: OrderedDispatchOptions) {
    this.taken = options.after;
  }

  /** The highest position at and below which everything is done. */
  get position(): number {
    const [first] = this.undone;
    return first === undefined ? this.taken : first - 1;
  }

  /** The highest position that was pushed or skipped. */
  get seen(): number {
    return this.taken;
  }

  /** Resolves when there is room for another one. Positions must grow. */
  async push(event: RecordedEvent): Promise<void> {
    this.taken = event.position;
    this.undone.add(event.position);
    const stream = this.streams.get(event.stream);
    if (stream) stream.events.push(event);
    else {
      const opened = { events: [event], failures: 0 };
      this.streams.set(event.stream, opened);
      this.ready.push(opened);
    }
    this.startReady();
    while (this.undone.size >= this.options.backlog && !this.stopped)
      await new Promise<void>((resolve) => (this.madeRoom = resolve));
  }

  skip(position: number): void {
    this.taken = position;
  }

  /** Starts nothing more. Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const retry of this.retries) clearTimeout(retry);
    this.madeRoom();
    await Promise.all(this.running);
  }

  private startReady(): void {
    while (!this.stopped && this.running.size < this.options.concurrency) {
      const stream = this.ready.shift();
      if (!stream) return;
      const run = this.handleFirst(stream).finally(() => {
        this.running.delete(run);
        this.startReady();
      });
      this.running.add(run);
    }
  }

  /** Never rejects. */
  private async handleFirst(stream: Stream): Promise<void> {
    const { attempts, backOff } = this.options;
    const event = stream.events[0]!;
    try {
      await this.options.handle(event);
    } catch (error) {
      stream.failures += 1;
      // A database that is away is no fault of the event: it is tried for as long as that takes.
      if (stream.failures < attempts || isConnectionLoss(error)) {
        const retryInMs = backOffMs(backOff, stream.failures);
        this.options.failed(event, error, stream.failures, retryInMs);
        this.retryIn(retryInMs, stream);
        return;
      }
      this.options.failed(event, error, stream.failures);
      try {
        await this.options.park(event, error, stream.failures);
      } catch (parkError) {
        this.options.broken(parkError);
        return;
      }
    }
    stream.failures = 0;
    stream.events.shift();
    this.undone.delete(event.position);
    if (stream.events.length > 0) this.ready.push(stream);
    else this.streams.delete(event.stream);
    this.madeRoom();
  }

  private retryIn(milliseconds: number, stream: Stream): void {
    if (this.stopped) return;
    const retry = setTimeout(() => {
      this.retries.delete(retry);
      this.ready.push(stream);
      this.startReady();
    }, milliseconds);
    this.retries.add(retry);
  }
}
