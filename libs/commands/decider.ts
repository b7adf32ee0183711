import type { CommandContext } from '@app/decider';
import type { ConstraintViolation, ProjectedRow, StreamEvent } from '@app/event-store';

export interface Command {
  readonly type: string;
  readonly context: CommandContext;
}

export interface ModelEvent {
  readonly type: string;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly data: unknown;
}

/** What the handler needs of a model: how it decides and folds, and how its events and its row are stored. */
export interface Decider<C extends Command, E extends ModelEvent, State> {
  /** What a stream of the model is, such as `domain`; also the log field for the stream's name. */
  readonly kind: string;
  readonly initialState: State;
  readonly schemaVersions: Readonly<Record<string, number>>;
  /** Decides on a command. Pure; throws when the command breaks a rule. */
  readonly decide: (command: C, state: State) => E[];
  /** Folds one event into the state. Pure. */
  readonly evolve: (state: State, event: E) => State;
  readonly streamOf: (command: C) => string;
  /**
   * Tells whether a command begins a stream as a rule. It is decided on without reading first; where there is a stream
   * already, the append is refused, and the decision is made on what is there. Never when absent.
   */
  readonly begins?: (command: C) => boolean;
  /** Reads recorded events as events of the model; rejects when a newer release has recorded one. */
  readonly eventsOf: (recorded: readonly StreamEvent[]) => Promise<E[]>;
  /** Gives the data of new events of a stream as they are stored; `data` itself where absent. */
  readonly storedData?: (stream: string, events: readonly E[]) => Promise<unknown[]>;
  /** Gives the row of the read model after `version` events, the last of them at `at`. */
  readonly rowOf: (state: State, version: number, at: string) => ProjectedRow;
  /**
   * Gives the model's error for a constraint that the store found violated and that a decision on one stream cannot
   * check; undefined when it is not one of the model's.
   */
  readonly refusalOf: (violation: ConstraintViolation, command: C) => Error | undefined;
  /** Further fields of the log line. */
  readonly logged?: (events: readonly E[]) => object;
}
