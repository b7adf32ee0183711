/** Lifts the data of an event from one schema version to the next. Pure. */
export type Upcaster = (data: never) => unknown;

/** By event type, and by the schema version that is lifted. */
export type Upcasters = Readonly<Record<string, Readonly<Record<number, Upcaster>>>>;

/** What a model has to know to read what any release has ever recorded. */
export interface EventVersions {
  /** Schema version that is written now, by event type. */
  readonly written: Readonly<Record<string, number>>;
  /** One for each version before it. */
  readonly upcasters: Upcasters;
}

/** An event as it was recorded, by this release or by any other. */
export interface Recorded {
  readonly stream: string;
  readonly type: string;
  readonly schemaVersion: number;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly data: unknown;
}

/** Recorded by a newer release. Nothing may be decided on a stream that cannot be read whole. */
export class EventNotUnderstood extends Error {
  override readonly name = 'EventNotUnderstood';
}

/**
 * The data of a recorded event as it would be recorded now.
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
