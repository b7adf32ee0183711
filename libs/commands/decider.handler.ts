import { Logger } from '@nestjs/common';
import { ConstraintViolation, WrongExpectedVersion, type Append, type EventStore } from '@app/event-store';
import { carried, span } from '@app/tracing';
import type { Command, Decider, ModelEvent } from './decider';
import { StreamStates, type ReadState, type StreamState } from './stream-states';

/** The number of times that a decision is made before a conflict with other writers is thrown to the caller. */
const attempts = 8;
/** Milliseconds for which a stream that a caller has read is not read again. */
const knownMs = 1_000;

/** The outcome of a command: the state after it, the version of the stream, and the new events. */
export interface Decision<E extends ModelEvent, State> {
  readonly state: State;
  readonly version: number;
  readonly events: readonly E[];
}

interface ToExecute<C extends Command, State> {
  readonly command: C;
  /** The stream as the caller has just read it, so that it is read again only where it has changed since. */
  readonly known?: ReadState<State> | undefined;
  /** The only version of the stream that the command may be decided on; absent: any. */
  readonly ifVersion?: number | undefined;
  /** A command on another stream of the model: the events of both are appended, or none. */
  readonly also?: C | undefined;
}

/** A decision that is not appended yet. */
interface Undone<C extends Command, E extends ModelEvent, State> extends Decision<E, State> {
  readonly command: C;
  readonly stream: string;
  readonly append: Append;
}

/** Thrown when a command demands a version of its stream that is no longer the last one. Nothing was appended. */
export class StreamHasChanged extends Error {
  override readonly name = 'StreamHasChanged';
}

/** Reads a stream, has the model decide, and appends. This is the only place where a model and the store meet. */
export abstract class DeciderHandler<C extends Command, E extends ModelEvent, State> {
  private readonly logger = new Logger(this.constructor.name);
  private readonly states: StreamStates<C, E, State>;

  constructor(
    private readonly store: EventStore,
    private readonly decider: Decider<C, E, State>,
  ) {
    this.states = new StreamStates(store, decider);
  }

  /**
   * Executes a command, with another one where `also` is given: where one of the two changes nothing, neither does, and
   * the decision on the first is returned without events. Several processes write to a stream, each with its own clock,
   * so a decision whose clock is behind gets the time of the event before it: times in a stream never decrease.
   *
   * @throws {StreamHasChanged} when `ifVersion` is given and is not the version of the stream; whatever the model
   * refuses, by its decision or by a constraint of the store; {WrongExpectedVersion} when other writers were first too
   * many times in a row; whatever `EventStore.append` throws.
   */
  execute(asked: ToExecute<C, State>): Promise<Decision<E, State>> {
    const { command } = asked;
    const attributes = { [`sendmux.${this.decider.kind}`]: this.decider.streamOf(command) };
    return span(command.type, { attributes }, async (recorded) => {
      const decision = await this.decideAndAppend(asked);
      recorded.set({ 'sendmux.version': decision.version, 'sendmux.events': typesOf(decision.events) });
      return decision;
    });
  }

  private async decideAndAppend({ command, known, ifVersion, also }: ToExecute<C, State>): Promise<Decision<E, State>> {
    for (let attempt = 1; ; attempt++) {
      // 1. Read the streams, fold them, and decide.
      const isFirst = attempt === 1;
      const decided =
        (isFirst && known && (await this.decideOnKnown(command, known, ifVersion))) ||
        (await this.decideOn(command, isFirst, ifVersion));
      const besides = also && (await this.decideOn(also, isFirst));
      const all = besides ? [decided, besides] : [decided];
      const { state, version, events } = decided;
      if (decided.events.length === 0) return { state, version, events };
      if (besides?.events.length === 0) return { ...(await this.load(decided.stream)), events: [] };
      // 2. Append the events and the rows of the read model, in one transaction.
      try {
        await this.append(all.map(({ append }) => append));
        for (const each of all) this.tell(each);
        return { state, version, events };
      } catch (error) {
        // 3. When another writer was first, decide again on the new state.
        if (error instanceof ConstraintViolation) {
          for (const each of all) {
            const refusal = this.decider.refusalOf(error, each.command);
            if (refusal) throw refusal;
          }
          throw error;
        }
        if (!(error instanceof WrongExpectedVersion) || attempt === attempts) throw error;
      }
    }
  }

  /** Appends, with the span that does it as the origin of whatever the events lead to. */
  private append(appends: readonly Append[]): Promise<void> {
    const attributes = { 'db.system.name': 'postgresql', 'db.operation.name': 'INSERT' };
    return span('append', { kind: 'producer', attributes }, async () => {
      const traced = appends.map((each) => ({ ...each, metadata: { ...each.metadata, ...carried() } }));
      if (traced.length > 1) await this.store.appendTogether(traced);
      else await this.store.append(traced[0]!);
    });
  }

  private async decideOn(command: C, isFirst: boolean, ifVersion?: number): Promise<Undone<C, E, State>> {
    const { initialState, begins, streamOf } = this.decider;
    const isNew = isFirst && ifVersion === undefined && begins?.(command) === true;
    const nothing = { state: initialState, version: 0, last: undefined };
    return this.decideIn(command, isNew ? nothing : await this.load(streamOf(command)), ifVersion);
  }

  /**
   * Decides on what the caller has read. A decision that appends is good only where that is still so, which the append
   * finds out by the version; one that does not, or a refusal, has to be made on the stream as it is. What was read
   * longer ago is read again: after a fail-over the stream may have another event of that version.
   */
  private async decideOnKnown(
    command: C,
    known: ReadState<State>,
    ifVersion?: number,
  ): Promise<Undone<C, E, State> | undefined> {
    if (performance.now() - known.readAt > knownMs) return undefined;
    const decided = await this.decideIn(command, known, ifVersion).catch(() => undefined);
    return decided && decided.events.length > 0 ? decided : undefined;
  }

  private async decideIn(
    command: C,
    { state: before, version: expectedVersion, last }: StreamState<State>,
    ifVersion?: number,
  ): Promise<Undone<C, E, State>> {
    const { decide, evolve, streamOf, rowOf, schemaVersions, storedData } = this.decider;
    const stream = streamOf(command);
    if (ifVersion !== undefined && ifVersion !== expectedVersion)
      throw new StreamHasChanged(`${stream} is at version ${expectedVersion}, and not at ${ifVersion}.`);
    const context = { ...command.context, at: latest(command.context.at, last?.time) };
    const events = decide({ ...command, context }, before);
    const state = events.reduce(evolve, before);
    const version = expectedVersion + events.length;
    const { at, ...metadata } = context;
    const stored = storedData && events.length > 0 ? await storedData(stream, events) : events.map(({ data }) => data);
    const recorded = events.map(({ type, at: time }, i) => ({
      type,
      schemaVersion: schemaVersions[type]!,
      time,
      data: stored[i],
    }));
    const row = events.length > 0 ? { row: rowOf(state, version, at) } : {};
    const append = { stream, expectedVersion, events: recorded, metadata, ...row };
    return { command, stream, state, version, events, append };
  }

  /**
   * Gives the current state of a stream, its version, and its last event.
   *
   * @throws {EventNotUnderstood} when a newer release has added to the stream, so that this release cannot decide on
   * it.
   */
  async load(stream: string): Promise<ReadState<State>> {
    const readAt = performance.now();
    return { ...(await this.states.load(stream)), readAt };
  }

  /** Reads a stream before its command; undefined where it cannot be read, which is for the command to say. */
  ahead(stream: string): Promise<ReadState<State> | undefined> {
    return this.load(stream).catch(() => undefined);
  }

  /**
   * Logs one line for each change, with the id of the request, so that a request can be followed through all processes.
   */
  private tell({ stream, command: { context }, version, events }: Undone<C, E, State>): void {
    const { actor, requestId, correlationId, causationId } = context;
    this.logger.log(
      {
        [this.decider.kind]: stream,
        version,
        actor,
        request_id: requestId,
        correlation_id: correlationId,
        causation_id: causationId,
        ...this.decider.logged?.(events),
      },
      typesOf(events),
    );
  }
}

/** Gives the later of two times as events store them: as texts they sort in the order of time. */
const latest = (at: string, last = at): string => (last > at ? last : at);

const typesOf = (events: readonly ModelEvent[]): string => events.map(({ type }) => type).join(', ');
