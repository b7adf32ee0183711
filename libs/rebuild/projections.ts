import { domainDecider, mailboxDecider, type PersonalDataKeys } from '@app/commands';
import type { InlineProjection, ProjectedRow, StreamEvent } from '@app/event-store';
import { domainsProjection, mailboxesProjection, recountQuotas, recountShards } from '@app/read-model';
import type { Client } from 'pg';

/** The functions that turn a stream into a row; an append uses the same ones. */
interface Fold<E, State> {
  readonly initialState: State;
  readonly eventsOf: (events: readonly StreamEvent[]) => Promise<E[]>;
  readonly evolve: (state: State, event: E) => State;
  readonly rowOf: (state: State, version: number, at: string) => ProjectedRow;
}

/** A table that can be made again from the log, since each row is a pure function of a stream. */
export interface Projection {
  readonly table: InlineProjection;
  /** The prefix of the names of its streams. */
  readonly prefix: string;
  /** Counts anew what its rows are counted for, by those of a table that nobody else can write to. */
  readonly recount: (client: Client, table: string) => Promise<void>;
  /** Makes a fold that takes one stream after another. */
  readonly folder: (keys: PersonalDataKeys) => Folder;
}

export interface Folder {
  /** Takes the next events. Gives the rows of the streams that ended with them or before. */
  take(events: readonly StreamEvent[]): Promise<ProjectedRow[]>;
  /** Gives the row of the last stream. */
  end(): ProjectedRow | undefined;
}

/** Makes a fold that holds the state of one stream at a time. */
function folderOf<E, State>({ initialState, eventsOf, evolve, rowOf }: Fold<E, State>): Folder {
  let last: StreamEvent | undefined;
  let state = initialState;
  const end = () => last && rowOf(state, last.version, last.time);
  return {
    end,
    take: async (events) => {
      const read = await eventsOf(events);
      const rows: ProjectedRow[] = [];
      for (const [i, event] of events.entries()) {
        if (event.stream !== last?.stream) {
          if (last) rows.push(end()!);
          state = initialState;
        }
        state = evolve(state, read[i]!);
        last = event;
      }
      return rows;
    },
  };
}

const projections = {
  domains: {
    table: domainsProjection,
    prefix: 'mdom_',
    recount: async (client, table) => {
      await recountQuotas(client, 'domains', table);
      await recountShards(client, table);
    },
    folder: () => folderOf(domainDecider),
  },
  mailboxes: {
    table: mailboxesProjection,
    prefix: 'mbx_',
    recount: (client, table) => recountQuotas(client, 'mailboxes', table),
    folder: (keys: PersonalDataKeys) => folderOf(mailboxDecider(keys)),
  },
} satisfies Record<string, Projection>;

export type ProjectionName = keyof typeof projections;
export const projectionNames = Object.keys(projections) as ProjectionName[];
export const projectionOf = (name: ProjectionName): Projection => projections[name];
