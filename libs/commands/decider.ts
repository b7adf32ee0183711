import type { ConstraintViolation, ProjectedRow, StreamEvent } from '@app/event-store';
import type { CommandContext } from '@app/mail-domain';

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

/** What the handler has to know of a model: how it decides and folds, and how its events and its row are kept. */
export interface Decider<C extends Command, E extends ModelEvent, State> {
  /** What the streams are of, such as `domain`: the field of the logs that has their name. */
  readonly kind: string;
  readonly initialState: State;
  readonly schemaVersions: Readonly<Record<string, number>>;
  /** Pure; throws what breaks a rule. */
  readonly decide: (command: C, state: State) => E[];
  /** Pure. */
  readonly evolve: (state: State, event: E) => State;
  readonly streamOf: (command: C) => string;
  /** The event of the model in a record of the log; throws when a newer release has recorded it. */
  readonly eventOf: (recorded: StreamEvent) => E;
  /** The row of the read model after `version` events, the last of them at `at`. */
  readonly rowOf: (state: State, version: number, at: string) => ProjectedRow;
  /** The broken rule that the store has seen and a decision on one stream cannot; undefined when it is none of the model's. */
  readonly refusalOf: (violation: ConstraintViolation, command: C) => Error | undefined;
  /** What the line of the logs has besides. */
  readonly logged?: (events: readonly E[]) => object;
}
