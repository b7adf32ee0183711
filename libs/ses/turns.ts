/** Says how calls of Amazon SES follow each other, whoever makes them. Pure. */

/**
 * `change`: a customer waits for it, for an add or a deletion. `check`: somebody has asked a question, and waits for
 * the answer. `background`: nobody waits, as for a listing, a repair or the cycle.
 */
export type Priority = 'change' | 'check' | 'background';

/** Those that go first have the lower number. */
export const rankOf: Readonly<Record<Priority, number>> = { change: 0, check: 1, background: 2 };

/** One lease in so many goes to the call that has waited longest, whatever its priority: none waits for ever. */
export const leasesByPriority = 8;

/** Milliseconds after its turn has begun within which a call begins. A turn that is missed is lost. */
export const graceMs = 50;
/** Milliseconds by which the way of one call to SES may take longer than that of another. */
export const wayMs = 50;

/** Milliseconds of turns that a process leases at once at most, or one turn: others wait for as long. */
const leaseMs = 250;

/** Gives the milliseconds in which SES counts calls: a second, or what one call takes where that is longer. */
export const windowMs = (callsPerSecond: number): number => Math.max(1_000, 1_000 / callsPerSecond);

/**
 * Gives the milliseconds between the beginnings of two turns. Calls that follow each other so, each within
 * `graceMs + slackMs` of its turn, reach SES in such a way that no window has more of them than SES allows.
 */
export function spacingMs(callsPerSecond: number, slackMs = 0): number {
  const window = windowMs(callsPerSecond);
  return ((window + graceMs + slackMs + wayMs) * 1_000) / (window * callsPerSecond);
}

/** Gives the largest number of turns that a process leases at once. */
export const turnsALease = (callsPerSecond: number): number =>
  Math.max(1, Math.floor(leaseMs / spacingMs(callsPerSecond)));

/** A call that waits for its turn. */
export interface WaitingCall {
  readonly priority: Priority;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
  /** Since when it waits, by `performance.now()`: a call that SES has throttled keeps its place. */
  readonly since: number;
}

/** Gives calls of SES their turns. */
export interface Turns {
  /**
   * Resolves when the call may begin, which it does at once.
   *
   * @throws the signal's reason as soon as the caller gives up; an error of the database that does not pass.
   */
  take(call: WaitingCall): Promise<void>;

  /**
   * Has all calls wait for a while, after SES has throttled one. Never rejects.
   *
   * @param beganAt when that call began, by `performance.now()`.
   */
  slowDown(beganAt: number): Promise<void>;
}

/** Whether a call goes before another one. */
export const goesBefore = (a: WaitingCall, b: WaitingCall): boolean =>
  rankOf[a.priority] === rankOf[b.priority] ? a.since < b.since : rankOf[a.priority] < rankOf[b.priority];
