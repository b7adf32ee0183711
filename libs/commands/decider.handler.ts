import { Logger } from '@nestjs/common';
import { ConstraintViolation, WrongExpectedVersion, type EventStore, type RecordedEvent } from '@app/event-store';
import type { Command, Decider, ModelEvent } from './decider';

/** How often a decision that lost a race is made again before the conflict is the caller's. */
const attempts = 8;

/** What a command led to: the state after it, the version of the stream, and what is new. */
export interface Decision<E extends ModelEvent, State> {
  readonly state: State;
  readonly version: number;
  readonly events: readonly E[];
}

/** The only place where a model and the store meet. */
export abstract class DeciderHandler<C extends Command, E extends ModelEvent, State> {
  private readonly logger = new Logger(this.constructor.name);

  constructor(
    private readonly store: EventStore,
    private readonly decider: Decider<C, E, State>,
  ) {}

  /**
   * Several processes write a stream, each by its own clock, and its times never run backwards: what is decided by a clock that
   * is behind has the time of the event before it. So a time leads to one state.
   *
   * @throws whatever the model refuses, by its decision or by what the store has seen; {WrongExpectedVersion} when it lost too
   * many races in a row; whatever `EventStore.append` throws.
   */
  async execute(command: C): Promise<Decision<E, State>> {
    const { decide, evolve, streamOf, rowOf, refusalOf, schemaVersions } = this.decider;
    const stream = streamOf(command);
    for (let attempt = 1; ; attempt++) {
      // 1. Read the stream and fold it.
      const { state: before, version: expectedVersion, last } = await this.load(stream);
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
        // 4. A race that was lost is decided again, on what the winner left.
        if (error instanceof ConstraintViolation) throw refusalOf(error, command) ?? error;
        if (!(error instanceof WrongExpectedVersion) || attempt === attempts) throw error;
      }
    }
  }

  /**
   * The state of a stream now, its version, and the event that brought it there.
   *
   * @throws {EventNotUnderstood} when a newer release has added to the stream: it cannot be decided upon here.
   */
  async load(stream: string): Promise<{ state: State; version: number; last: RecordedEvent | undefined }> {
    const { initialState, eventOf, evolve } = this.decider;
    const recorded = await this.store.readStream(stream);
    return {
      state: recorded.map(eventOf).reduce(evolve, initialState),
      version: recorded.length,
      last: recorded.at(-1),
    };
  }

  /** One line for what has changed: the id of a request leads through the logs of all processes. */
  private tell(stream: string, { context }: C, version: number, events: readonly E[]): void {
    const { actor, requestId, correlationId, causationId } = context;
    this.logger.log(
      {
        ...{ [this.decider.kind]: stream, version, actor },
        ...{ request_id: requestId, correlation_id: correlationId, causation_id: causationId },
        ...this.decider.logged?.(events),
      },
      events.map(({ type }) => type).join(', '),
    );
  }
}

/** Of times as events have them, whose order is that of their texts. */
const latest = (at: string, last = at): string => (last > at ? last : at);
