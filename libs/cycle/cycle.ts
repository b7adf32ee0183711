/**
 * Computes the verification cycle as a function of time, without a stored schedule. Every domain belongs to a slot, and
 * every slot is due once an interval, so that looks are spread evenly over it.
 *
 * A cycle is named by its start, in milliseconds since the Unix epoch, so that names grow with time. When the interval
 * is made longer, a domain's next cycle is the first that starts after the last cycle in which it was looked at. All
 * times are UTC.
 */
import { createHash } from 'node:crypto';

export const slotCount = 360;

/** The number of the slot of young domains, which is leased like the others. */
export const youngSlot = slotCount;

/** Ages at which a domain that has never been verified gets an additional look, in milliseconds. */
export const youngAges: readonly number[] = [1, 2, 5, 10, 30].map((minutes) => minutes * 60_000);

export interface DueSlot {
  readonly slot: number;
  /** The newest cycle in which this slot is due. */
  readonly cycle: number;
  /** When the slot was due in that cycle, in milliseconds since the epoch. */
  readonly dueAt: number;
}

/** Gives the slot of a domain, from 0 to 359. Domains are evenly spread, and a domain's slot never changes. */
export const slotOf = (domainId: string): number =>
  createHash('sha256').update(domainId).digest().readUInt32BE() % slotCount;

/** Gives the milliseconds after the start of a cycle at which a slot is due. */
export const offsetOf = (slot: number, intervalMs: number): number => Math.floor((slot * intervalMs) / slotCount);

/**
 * Gives the cycle number that a command uses for the look at the `turn`-th (from 1) young age. It lies above the number
 * of the cycle that the slot of the domain is in, and below the next.
 */
export function youngCycle(domainId: string, dueAt: number, intervalMs: number, turn: number): number {
  const offset = offsetOf(slotOf(domainId), intervalMs);
  return Math.floor((dueAt - offset) / intervalMs) * intervalMs + turn;
}

/** Gives every slot with its newest due cycle at the time `now`, with the longest due first. */
export function dueSlots(now: number, intervalMs: number): DueSlot[] {
  return Array.from({ length: slotCount }, (_, slot) => dueSlot(slot, now, intervalMs)).sort(
    (a, b) => a.dueAt - b.dueAt,
  );
}

/** Gives a slot with its newest due cycle at the time `now`. */
export function dueSlot(slot: number, now: number, intervalMs: number): DueSlot {
  const offset = offsetOf(slot, intervalMs);
  const cycle = Math.floor((now - offset) / intervalMs) * intervalMs;
  return { slot, cycle, dueAt: cycle + offset };
}

/**
 * Gives the least time between two looks at a slot, in milliseconds, so that a late cycle and the next one do not find
 * the same short fault twice.
 */
export const leastDistance = (intervalMs: number): number => intervalMs / 2;
