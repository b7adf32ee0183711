import { Logger } from '@nestjs/common';
import { Counter, Gauge } from '@app/runtime';

/** Fewer failures than this in a slot are attributed to the customers, whatever their share. */
export const fewestFailures = 10;
/** A larger share of failures among a slot's verified domains is attributed to this system. */
export const largestShare = 0.2;

/** Gives how many verified domains of a slot may fail in one cycle before the slot is stopped. */
export const tolerated = (verified: number): number =>
  Math.max(fewestFailures - 1, Math.floor(verified * largestShare));

const stops = new Counter({
  name: 'sendmux_verification_stopped_slots_total',
  help: 'Slots that were stopped without a verdict, because the fault is likely ours',
  labelNames: ['reason'],
});
const standing = new Gauge({
  name: 'sendmux_verification_alarm',
  help: '1 while slots are stopped for this reason: an operator must look',
  labelNames: ['reason'],
});

export type Reason = 'canary' | 'mass_failure';
const reasons: readonly Reason[] = ['canary', 'mass_failure'];

/**
 * Raises one alarm for as long as slots are being stopped, however many they are. A slot that was last stopped more
 * than `forgetMs` (milliseconds) ago counts as completed by another scheduler.
 */
export class CircuitBreaker {
  private readonly logger = new Logger(CircuitBreaker.name);
  /** The time at which each slot was last stopped, by the clock. */
  private readonly stopped: Record<Reason, Map<number, number>> = { canary: new Map(), mass_failure: new Map() };

  constructor(
    private readonly forgetMs: number,
    private readonly clock = () => performance.now(),
  ) {
    for (const reason of reasons) standing.set({ reason }, 0);
  }

  open(slot: number, reason: Reason, message: string): void {
    stops.inc({ reason });
    this.forget(reason);
    if (this.stopped[reason].size === 0) this.logger.error(message);
    this.stopped[reason].set(slot, this.clock());
    standing.set({ reason }, 1);
  }

  /** Ends the alarm about the canary: a later failure to find it is a new outage. */
  canaryFound(): void {
    this.clear('canary', this.stopped.canary.keys());
  }

  /** Records that the slot was completed. */
  close(slot: number): void {
    this.forget('mass_failure');
    this.clear('mass_failure', [slot]);
  }

  private forget(reason: Reason): void {
    const old = this.clock() - this.forgetMs;
    this.clear(
      reason,
      [...this.stopped[reason]].filter(([, stoppedAt]) => stoppedAt < old).map(([slot]) => slot),
    );
  }

  private clear(reason: Reason, slots: Iterable<number>): void {
    const open = this.stopped[reason];
    if (open.size === 0) return;
    for (const slot of [...slots]) open.delete(slot);
    if (open.size > 0) return;
    standing.set({ reason }, 0);
    this.logger.log(`No slot is stopped any more (${reason})`);
  }
}
