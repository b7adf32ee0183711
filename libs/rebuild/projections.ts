import { domainDecider, mailboxDecider } from '@app/commands';
import type { InlineProjection, ProjectedRow, StreamEvent } from '@app/event-store';
import { domainsProjection, mailboxesProjection } from '@app/read-model';

/** How a stream becomes a row: the very functions that an append uses. */
interface Fold<E, State> {
  readonly initialState: State;
  readonly eventOf: (event: StreamEvent) => E;
  readonly evolve: (state: State, event: E) => State;
  readonly rowOf: (state: State, version: number, at: string) => ProjectedRow;
}

/** A table that can be made anew from the log: a row is a pure function of a stream. */
export interface Projection {
  readonly table: InlineProjection;
  /** What the names of its streams begin with. */
  readonly prefix: string;
  /** A new fold of one stream after the other. */
  readonly folder: () => Folder;
}

export interface Folder {
  /** Takes the next event; gives the row of the stream before it, when that has ended. */
  take(event: StreamEvent): ProjectedRow | undefined;
  /** The row of the last stream. */
  end(): ProjectedRow | undefined;
}

/** The state of one stream at a time. */
function folderOf<E, State>({ initialState, eventOf, evolve, rowOf }: Fold<E, State>): Folder {
  let last: StreamEvent | undefined;
  let state = initialState;
  const end = () => last && rowOf(state, last.version, last.time);
  return {
    end,
    take: (event) => {
      const row = event.stream === last?.stream ? undefined : end();
      if (event.stream !== last?.stream) state = initialState;
      state = evolve(state, eventOf(event));
      last = event;
      return row;
    },
  };
}

const projections = {
  domains: { table: domainsProjection, prefix: 'mdom_', folder: () => folderOf(domainDecider) },
  mailboxes: { table: mailboxesProjection, prefix: 'mbx_', folder: () => folderOf(mailboxDecider) },
} satisfies Record<string, Projection>;

export type ProjectionName = keyof typeof projections;
export const projectionNames = Object.keys(projections) as ProjectionName[];
export const projectionOf = (name: ProjectionName): Projection => projections[name];
