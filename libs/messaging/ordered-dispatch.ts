import { backOffMs, type BackOff } from '@app/runtime';
import { isConnectionLoss } from './connection-loss';

/** One thing to handle. */
export interface Delivery {
  /** Place in what is read: in the log, or in a partition. Grows. */
  readonly position: number;
  /** Deliveries of one stream are handled one after another. */
  readonly stream: string;
}

/** Thrown in place of a handler's work: no retry makes it succeed, so it is parked at once. */
export class CannotBeHandled extends Error {
  override readonly name = 'CannotBeHandled';
}

export interface OrderedDispatchOptions<Item extends Delivery> {
  /** Everything at or below this position is done already. */
  readonly after: number;
  /** Streams at once. */
  readonly concurrency: number;
  /** Deliveries taken and not done, beyond which there is no room. */
  readonly backlog: number;
  /** Calls of `handle` before a delivery is parked. */
  readonly attempts: number;
  readonly backOff: BackOff;
  handle(item: Item): Promise<void>;
  /** Called with the error of each failed attempt; `retryInMs` is absent when it was the last. */
  failed(item: Item, error: unknown, attempt: number, retryInMs?: number): void;
  park(item: Item, error: unknown, attempts: number): Promise<void>;
  /** Parking failed: the delivery stays undone, and so does everything after it in its stream. */
  broken(error: unknown): void;
}

interface Stream<Item> {
  readonly items: Item[];
  /** Failed attempts of the first item. */
  failures: number;
}

/**
 * Hands deliveries to a handler: those of one stream one after another, those of different streams at once. A stream that
 * waits for a retry holds up nothing but itself.
 */
export class OrderedDispatch<Item extends Delivery> {
  private readonly streams = new Map<string, Stream<Item>>();
  private readonly ready: Stream<Item>[] = [];
  /** In the order of their positions, so that the first one bounds what is done. */
  private readonly undone = new Set<number>();
  private readonly running = new Set<Promise<void>>();
  private readonly retries = new Set<NodeJS.Timeout>();
  private taken: number;
  private stopped = false;
  private waiting: (() => void)[] = [];

  constructor(private readonly options: OrderedDispatchOptions<Item>) {
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

  get hasRoom(): boolean {
    return this.undone.size < this.options.backlog || this.stopped;
  }

  /** Positions must grow. */
  push(item: Item): void {
    this.taken = item.position;
    this.undone.add(item.position);
    const stream = this.streams.get(item.stream);
    if (stream) stream.items.push(item);
    else {
      const opened = { items: [item], failures: 0 };
      this.streams.set(item.stream, opened);
      this.ready.push(opened);
    }
    this.startReady();
  }

  /** Resolves when there is room for another one. */
  async room(): Promise<void> {
    while (!this.hasRoom) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  skip(position: number): void {
    this.taken = position;
  }

  /** Starts nothing more. Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const retry of this.retries) clearTimeout(retry);
    this.tellOfRoom();
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
  private async handleFirst(stream: Stream<Item>): Promise<void> {
    const { attempts, backOff } = this.options;
    const item = stream.items[0]!;
    try {
      await this.options.handle(item);
    } catch (error) {
      stream.failures += 1;
      const hopeless = stream.failures >= attempts || error instanceof CannotBeHandled;
      // A database that is away is no fault of the event: it is tried for as long as that takes.
      if (!hopeless || isConnectionLoss(error)) {
        const retryInMs = backOffMs(backOff, stream.failures);
        this.options.failed(item, error, stream.failures, retryInMs);
        this.retryIn(retryInMs, stream);
        return;
      }
      this.options.failed(item, error, stream.failures);
      try {
        await this.options.park(item, error, stream.failures);
      } catch (parkError) {
        this.options.broken(parkError);
        return;
      }
    }
    stream.failures = 0;
    stream.items.shift();
    this.undone.delete(item.position);
    if (stream.items.length > 0) this.ready.push(stream);
    else this.streams.delete(item.stream);
    if (this.hasRoom) this.tellOfRoom();
  }

  private tellOfRoom(): void {
    for (const tell of this.waiting.splice(0)) tell();
  }

  private retryIn(milliseconds: number, stream: Stream<Item>): void {
    if (this.stopped) return;
    const retry = setTimeout(() => {
      this.retries.delete(retry);
      this.ready.push(stream);
      this.startReady();
    }, milliseconds);
    this.retries.add(retry);
  }
}
