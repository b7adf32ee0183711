/**
 * The verification cycle is a function of time, not a column: every domain belongs to a slot, and every slot is due once
 * an interval, so that the work is spread evenly over it.
 *
 * A cycle is named by its start, in milliseconds since the Unix epoch: such names grow with time. When
 * the interval is made longer, a domain's next cycle is the first that starts after the last one that judged it. All times are UTC.
 */
import { createHash } from 'node:crypto';

export const slotCount = 360;

/** Beside the slots, and leased as they are: the looks at young domains. */
export const youngSlot = slotCount;

/** Ages at which a domain that has never been verified is looked at besides its turn in the cycle, in milliseconds. */
export const youngAges: readonly number[] = [1, 2, 5, 10, 30].map((minutes) => minutes * 60_000);

export interface DueSlot {
  readonly slot: number;
  /** The newest cycle whose turn has come for this slot. */
  readonly cycle: number;
  /** When that was, in milliseconds since the epoch. */
  readonly dueAt: number;
}

/** From 0 to 359, evenly spread, the same for ever. */
export const slotOf = (domainId: string): number =>
  createHash('sha256').update(domainId).digest().readUInt32BE() % slotCount;

/** Milliseconds after the start of a cycle at which a slot is due. */
export const offsetOf = (slot: number, intervalMs: number): number => Math.floor((slot * intervalMs) / slotCount);

/**
 * Stands in a command for the look at the `turn`-th (from 1) young age: above the number of the cycle that the slot of the domain is
 * in, and below the next.
 */
export function youngCycle(domainId: string, dueAt: number, intervalMs: number, turn: number): number {
  const offset = offsetOf(slotOf(domainId), intervalMs);
  return Math.floor((dueAt - offset) / intervalMs) * intervalMs + turn;
}

/** Every slot with its newest due cycle at the time `now`, the longest due first. */
export function dueSlots(now: number, intervalMs: number): DueSlot[] {
  return Array.from({ length: slotCount }, (_, slot) => dueSlot(slot, now, intervalMs)).sort(
    (a, b) => a.dueAt - b.dueAt,
  );
}

/** A slot with its newest due cycle at the time `now`. */
export function dueSlot(slot: number, now: number, intervalMs: number): DueSlot {
  const offset = offsetOf(slot, intervalMs);
  const cycle = Math.floor((now - offset) / intervalMs) * intervalMs;
  return { slot, cycle, dueAt: cycle + offset };
}

/** Two looks at a slot are at least this far apart, in milliseconds: a late cycle and the next must not find the same short fault twice. */
export const leastDistance = (intervalMs: number): number => intervalMs / 2;
