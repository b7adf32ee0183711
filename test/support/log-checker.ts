import type { RecordedEvent } from '@app/event-store';

type Seen = Pick<RecordedEvent, 'position' | 'stream' | 'version'>;

export interface LogFaults {
  /** Events that were committed but not seen. */
  readonly lost: number;
  readonly repeated: number;
  /** Events that were seen after one of a higher position. */
  readonly outOfOrder: number;
  /** Events that were seen after a later version of their stream. */
  readonly outOfOrderInStream: number;
  /** Events that were seen but never committed. */
  readonly invented: number;
}

/** Compares the events that a reader saw, in the order in which it saw them, with the committed ones. */
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
