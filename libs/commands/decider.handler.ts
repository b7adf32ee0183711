import { Logger } from '@nestjs/common';
import { ConstraintViolation, WrongExpectedVersion, type EventStore } from '@app/event-store';
import type { Command, Decider, ModelEvent } from './decider';
import { StreamStates, type StreamState } from './stream-states';

/** The number of times that a decision is made before a conflict with other writers is thrown to the caller. */
const attempts = 8;

/** The outcome of a command: the state after it, the version of the stream, and the new events. */
export interface Decision<E extends ModelEvent, State> {
  readonly state: State;
  readonly version: number;
  readonly events: readonly E[];
}

interface ToExecute<C extends Command> {
  readonly command: C;
  /** The only version of the stream that the command may be decided on; absent: any. */
  readonly ifVersion?: number | undefined;
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
   * Executes a command. Several processes write to a stream, each with its own clock, so a decision whose clock is
   * behind gets the time of the event before it: times in a stream never decrease.
   *
   * @throws {StreamHasChanged} when `ifVersion` is given and is not the version of the stream; whatever the model
   * refuses, by its decision or by a constraint of the store; {WrongExpectedVersion} when other writers were first too
   * many times in a row; whatever `EventStore.append` throws.
   */
  async execute({ command, ifVersion }: ToExecute<C>): Promise<Decision<E, State>> {
    const { decide, evolve, streamOf, rowOf, refusalOf, schemaVersions } = this.decider;
    const stream = streamOf(command);
    for (let attempt = 1; ; attempt++) {
      // 1. Read the stream and fold it.
      const { state: before, version: expectedVersion, last } = await this.load(stream);
      if (ifVersion !== undefined && ifVersion !== expectedVersion)
        throw new StreamHasChanged(`${stream} is at version ${expectedVersion}, and not at ${ifVersion}.`);
      // 2. Decide.
      const context = { ...command.context, at: latest(command.context.at, last?.time) };
      const events = decide({ ...command, context }, before);
      const state = events.reduce(evolve, before);
      const version = expectedVersion + events.length;
      if (events.length === 0) return { state, version, events };
      // 3. Append the events and the row of the read model, in one transaction.
      try {
        const { at, ...metadata } = context;
        await this.store.append({
          stream,
          expectedVersion,
          events: events.map(({ type, at: time, data }) => ({
            type,
            schemaVersion: schemaVersions[type]!,
            time,
            data,
          })),
          metadata,
          row: rowOf(state, version, at),
        });
        this.tell(stream, command, version, events);
        return { state, version, events };
      } catch (error) {
        // 4. When another writer was first, decide again on the new state.
        if (error instanceof ConstraintViolation) throw refusalOf(error, command) ?? error;
        if (!(error instanceof WrongExpectedVersion) || attempt === attempts) throw error;
      }
    }
  }

  /**
   * Gives the current state of a stream, its version, and its last event.
   *
   * @throws {EventNotUnderstood} when a newer release has added to the stream, so that this release cannot decide on
   * it.
   */
  load(stream: string): Promise<StreamState<State>> {
    return this.states.load(stream);
  }

  /**
   * Logs one line for each change, with the id of the request, so that a request can be followed through all processes.
   */
  private tell(stream: string, { context }: C, version: number, events: readonly E[]): void {
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
      events.map(({ type }) => type).join(', '),
    );
  }
}

/** Gives the later of two times as events store them: as texts they sort in the order of time. */
const latest = (at: string, last = at): string => (last > at ? last : at);
