import { backOffMs, type BackOff } from '@app/runtime';
import { isPassingFault } from '@app/database';

/** An item for the handler. */
export interface Delivery {
  /** Place in the log or in a partition; it grows. */
  readonly position: number;
  /** Deliveries of one stream are handled one after another. */
  readonly stream: string;
}

/** Thrown by a handler when no retry can succeed, so that the delivery is parked at once. */
export class CannotBeHandled extends Error {
  override readonly name = 'CannotBeHandled';
}

export interface OrderedDispatchOptions<Item extends Delivery> {
  /** Everything at or below this position is done already. */
  readonly after: number;
  /** Streams that are handled at once. */
  readonly concurrency: number;
  /** The number of unfinished deliveries at which there is no more room. */
  readonly backlog: number;
  /** Calls of `handle` before a delivery is parked. */
  readonly attempts: number;
  readonly backOff: BackOff;
  handle(item: Item): Promise<void>;
  /** Called with the error of each failed attempt; `retryInMs` is absent after the last one. */
  failed(item: Item, error: unknown, attempt: number, retryInMs?: number): void;
  park(item: Item, error: unknown, attempts: number): Promise<void>;
  /** Called when parking has failed. The delivery stays unfinished, and so does everything after it in its stream. */
  broken(error: unknown): void;
}

interface Stream<Item> {
  readonly items: Item[];
  /** Failed attempts of the first item. */
  failures: number;
}

/**
 * Passes deliveries to a handler: those of one stream one after another, those of different streams concurrently. A
 * stream that waits for a retry delays no other stream.
 */
export class OrderedDispatch<Item extends Delivery> {
  private readonly streams = new Map<string, Stream<Item>>();
  private readonly ready: Stream<Item>[] = [];
  /** Positions that are not done, in ascending order. The first one bounds the checkpoint. */
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

  /** Takes a delivery. Positions must grow from call to call. */
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

  /** Resolves when there is room for another delivery. */
  async room(): Promise<void> {
    while (!this.hasRoom) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  skip(position: number): void {
    this.taken = position;
  }

  /** Starts no more handlers. Resolves when none runs. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const retry of this.retries) clearTimeout(retry);
    this.announceRoom();
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

  /** Handles the first delivery of a stream, and parks it after the last attempt. Never rejects. */
  private async handleFirst(stream: Stream<Item>): Promise<void> {
    const { attempts, backOff } = this.options;
    const item = stream.items[0]!;
    try {
      await this.options.handle(item);
    } catch (error) {
      stream.failures += 1;
      const hopeless = stream.failures >= attempts || error instanceof CannotBeHandled;
      // A database that is away or busy is not the event's fault, so the event is retried until it is not.
      if (!hopeless || isPassingFault(error)) {
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
    if (this.hasRoom) this.announceRoom();
  }

  private announceRoom(): void {
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
