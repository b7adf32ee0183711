import type { RecordedEvent } from './event';

type Seen = Pick<RecordedEvent, 'position' | 'stream' | 'version'>;

export interface LogFaults {
  /** Committed, and never seen. */
  readonly lost: number;
  readonly repeated: number;
  /** Seen below a position that was seen before. */
  readonly outOfOrder: number;
  /** The same, among the versions of one stream. */
  readonly outOfOrderInStream: number;
  /** Seen, and never committed. */
  readonly invented: number;
}

/** Compares what a reader saw, in the order it saw it, with what was committed. */
export function checkLog(committed: readonly Seen[], seen: readonly Seen[]): LogFaults {
  const expected = new Set(committed.map(({ position }) => position));
  const already = new Set<number>();
  const versions = new Map<string, number>();
  const faults = { lost: 0, repeated: 0, outOfOrder: 0, outOfOrderInStream: 0, invented: 0 };
  let highest = 0;
  for (const { position, stream, version } of seen) {
    if (!expected.has(position)) faults.invented++;
    if (already.has(position)) faults.repeated++;
    else {
      if (position < highest) faults.outOfOrder++;
      if (version < (versions.get(stream) ?? 0)) faults.outOfOrderInStream++;
    }
    already.add(position);
    highest = Math.max(highest, position);
    versions.set(stream, Math.max(version, versions.get(stream) ?? 0));
  }
  for (const position of expected) if (!already.has(position)) faults.lost++;
  return faults;
}
