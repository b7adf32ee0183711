/** Why an event is there. Stored beside it, never inside it. */
export interface EventMetadata {
  readonly actor: string;
  readonly requestId?: string;
  readonly correlationId: string;
  /** `stream/version` of the event that led to this one. */
  readonly causationId?: string;
}

export interface NewEvent {
  readonly type: string;
  readonly schemaVersion: number;
  readonly data: unknown;
  /** ISO 8601, UTC: when it was decided. */
  readonly time: string;
}

export interface RecordedEvent extends NewEvent {
  /** Place in the log: unique and growing in the order of the log, with gaps. */
  readonly position: number;
  readonly stream: string;
  /** Place in the stream, from 1, without gaps. */
  readonly version: number;
  readonly metadata: EventMetadata;
}

/** The name of an event everywhere: in causation, in logs, on the wire. */
export const eventId = (event: Pick<RecordedEvent, 'stream' | 'version'>): string => `${event.stream}/${event.version}`;

/** A row of an inline projection, written in the append's own transaction: a reader sees its own writes. */
export type ProjectedRow = Readonly<Record<string, unknown>>;

export interface Append {
  readonly stream: string;
  /** Version of the last event that the decision was made on; 0 for a new stream. */
  readonly expectedVersion: number;
  /** At least one. */
  readonly events: readonly NewEvent[];
  readonly metadata: EventMetadata;
  /** Upserted by the table's key when the events are appended, and only then. */
  readonly row?: ProjectedRow;
}

/** The table that `Append.row` goes to. Every row carries all columns. */
export interface InlineProjection {
  readonly table: string;
  readonly key: string;
  /** Column name to PostgreSQL type, such as `{ id: 'text', version: 'integer' }`. */
  readonly columns: Readonly<Record<string, string>>;
  /**
   * A column under a unique index for whose values different streams compete, such as a name that is reserved. Rows are
   * locked in its order; without it, two processes that write the same values in other orders could deadlock.
   */
  readonly contended?: string;
}
