/** Lifts the data of an event from one schema version to the next. Pure. */
export type Upcaster = (data: never) => unknown;

/** Upcasters by event type, and by the schema version that they lift. */
export type Upcasters = Readonly<Record<string, Readonly<Record<number, Upcaster>>>>;

/** What a model needs in order to read the events of every release. */
export interface EventVersions {
  /** The current schema version, by event type. */
  readonly written: Readonly<Record<string, number>>;
  /** One upcaster for each earlier version. */
  readonly upcasters: Upcasters;
}

/** An event as this or any other release recorded it. */
export interface Recorded {
  readonly stream: string;
  readonly type: string;
  readonly schemaVersion: number;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly data: unknown;
}

/**
 * Thrown when a newer release recorded the event. Nothing may be decided on a stream that cannot be read completely.
 */
export class EventNotUnderstood extends Error {
  override readonly name = 'EventNotUnderstood';
}

/**
 * Lifts the data of a recorded event to the current schema version.
 *
 * @throws {EventNotUnderstood} when the type, or its schema version, is newer than this release.
 */
export function upcast(
  { stream, type, schemaVersion, data }: Recorded,
  { written, upcasters }: EventVersions,
): unknown {
  const newest = Object.hasOwn(written, type) ? written[type]! : 0;
  if (schemaVersion === newest) return data;
  if (schemaVersion > newest)
    throw new EventNotUnderstood(
      newest === 0
        ? `Unknown event ${type} in stream ${stream}: this release is older than the stream.`
        : `${type} in stream ${stream} has schema version ${schemaVersion}, and this release knows up to ${newest}: it is older than the stream.`,
    );
  let lifted = data;
  for (let version = schemaVersion; version < newest; version++) {
    const lift = upcasters[type]?.[version];
    if (!lift) throw new Error(`${type} has no upcaster from schema version ${version}.`);
    lifted = lift(lifted as never);
  }
  return lifted;
}
