import type { EventStore, RecordedEvent } from '@app/event-store';
import type { Command, Decider, ModelEvent } from './decider';

/** The state of a stream, its version, and its last event. */
export interface StreamState<State> {
  readonly state: State;
  readonly version: number;
  readonly last: RecordedEvent | undefined;
}

/** A stream as a caller has read it before its command. */
export interface ReadState<State> extends StreamState<State> {
  /** When it began to read, by `performance.now()`. */
  readonly readAt: number;
}

/** Streams of at least this version are remembered; reading a shorter one costs no more than looking for its end. */
const longFrom = 50;
/** The most streams that are remembered. */
const most = 1_000;
/** The most events that are in memory at once. */
const pageSize = 1_000;

/**
 * Gives the current states of streams. Of long streams it remembers the last state that it has given, and reads only
 * the events since, so that a decision on a stream takes no longer as the stream grows.
 *
 * A state that is remembered stays right, because events are only ever added to a stream. The read begins with the last
 * event that is known, so that another stream of the same name, as after a restore of the database, is noticed.
 */
export class StreamStates<C extends Command, E extends ModelEvent, State> {
  /** The map holds the least recently used state first. */
  private readonly known = new Map<string, StreamState<State>>();

  constructor(
    private readonly store: Pick<EventStore, 'readStream'>,
    private readonly model: Pick<Decider<C, E, State>, 'initialState' | 'eventsOf' | 'evolve'>,
  ) {}

  /** @throws whatever `eventsOf` throws for an event that this release does not understand. */
  async load(stream: string): Promise<StreamState<State>> {
    const known = this.known.get(stream);
    const loaded = (known && (await this.since(stream, known))) ?? (await this.fromTheStart(stream));
    this.remember(stream, loaded);
    return loaded;
  }

  /** @returns undefined where the stream does not go on from what is known. */
  private async since(stream: string, known: StreamState<State>): Promise<StreamState<State> | undefined> {
    const page = await this.store.readStream(stream, known.version, pageSize);
    if (page[0]?.position !== known.last?.position) return undefined;
    return this.onwards(stream, known, page, 1);
  }

  private async fromTheStart(stream: string): Promise<StreamState<State>> {
    const none = { state: this.model.initialState, version: 0, last: undefined };
    return this.onwards(stream, none, await this.store.readStream(stream, 1, pageSize), 0);
  }

  /**
   * Folds a page, and those that come after it.
   *
   * @param skipped the number of events at the beginning of the page that are folded already.
   */
  private async onwards(
    stream: string,
    from: StreamState<State>,
    page: readonly RecordedEvent[],
    skipped: number,
  ): Promise<StreamState<State>> {
    const { eventsOf, evolve } = this.model;
    let loaded = from;
    for (let events = page.slice(skipped), isFull = page.length === pageSize; ;) {
      const last = events.at(-1);
      if (last) {
        const state = (await eventsOf(events)).reduce(evolve, loaded.state);
        loaded = { state, version: last.version, last };
      }
      if (!isFull) return loaded;
      events = await this.store.readStream(stream, loaded.version + 1, pageSize);
      isFull = events.length === pageSize;
    }
  }

  private remember(stream: string, loaded: StreamState<State>): void {
    this.known.delete(stream);
    if (loaded.version < longFrom) return;
    this.known.set(stream, loaded);
    if (this.known.size <= most) return;
    const [oldest] = this.known.keys();
    this.known.delete(oldest!);
  }
}
