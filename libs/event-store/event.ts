import type { Epoch } from './epochs';

/** What caused an event. Stored beside it, never inside it. */
export interface EventMetadata {
  readonly actor: string;
  readonly requestId?: string;
  readonly correlationId: string;
  /** `stream/version` of the event that led to this one. */
  readonly causationId?: string;
  /**
   * The span that has appended the event, as W3C `traceparent`; absent where nothing was traced. It is the context of
   * the CloudEvents extension for distributed tracing.
   */
  readonly traceparent?: string;
}

export interface NewEvent {
  readonly type: string;
  readonly schemaVersion: number;
  readonly data: unknown;
  /** The time of the decision: ISO 8601, UTC. */
  readonly time: string;
}

export interface RecordedEvent extends NewEvent {
  /** Place in the log: unique and growing, with gaps. */
  readonly position: number;
  readonly stream: string;
  /** Place in the stream, from 1, without gaps. */
  readonly version: number;
  readonly metadata: EventMetadata;
  /** The epoch of the log; absent in the first, which lasts until the log is restored to an earlier moment. */
  readonly epoch?: Epoch;
}

/**
 * Gives the name that an event has in causation ids, in logs and in messages. A restored log gives versions a second
 * time, so that from then on the name has the epoch too.
 */
export const eventId = ({ stream, version, epoch }: Pick<RecordedEvent, 'stream' | 'version' | 'epoch'>): string =>
  `${stream}/${version}${epoch ? `/${epoch.number}` : ''}`;

/** The CloudEvents `source` of every event: a URI reference that names the product (CloudEvents 1.0, section 3.1.1). */
export const eventSource = '/sendmux-domains';

/** Digits of a `sequence`. Positions stay below 2^53, so sixteen digits let them sort as text. */
const sequenceDigits = 16;

/** Gives a position as the CloudEvents extension `sequence` has it. */
export const sequenceOf = (position: number): string => String(position).padStart(sequenceDigits, '0');

/**
 * A row of an inline projection. The append's own transaction writes it, so that a client reads what it has just
 * written.
 */
export type ProjectedRow = Readonly<Record<string, unknown>>;

export interface Append {
  readonly stream: string;
  /** Version of the last event that the decision was made on; 0 for a new stream. */
  readonly expectedVersion: number;
  /** The events to append, at least one. */
  readonly events: readonly NewEvent[];
  readonly metadata: EventMetadata;
  /** The row to upsert by the table's key when the events are appended, and only then. */
  readonly row?: ProjectedRow;
}

/** The table that `Append.row` is written to. Every row has all columns. */
export interface InlineProjection {
  readonly table: string;
  readonly key: string;
  /** Column name to PostgreSQL type, such as `{ id: 'text', version: 'integer' }`. */
  readonly columns: Readonly<Record<string, string>>;
  /**
   * A column under a unique index for whose values different streams compete, such as a reserved name. Rows are locked
   * in its order; otherwise two processes that write the same values in different orders could deadlock.
   */
  readonly contended?: string;
}
