import { Logger } from '@nestjs/common';
import { Counter, Gauge } from 'prom-client';

/** Fewer failures than this in a slot are the customers' own, whatever their share. */
export const fewestFailures = 10;
/** More of a slot's verified domains than this share do not fail at once by themselves. */
export const largestShare = 0.2;

/** How many verified domains of a slot may fail in one cycle before the fault is taken for ours. */
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
 * Alarms the operator once for as long as slots are being stopped, however many they are. One that was not stopped again for
 * longer than `forgetMs` (milliseconds) has come through at another scheduler.
 */
export class CircuitBreaker {
  private readonly logger = new Logger(CircuitBreaker.name);
  /** When each slot was stopped last, by the clock. */
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

  /** The canary was found: the next time that it is not is another outage. */
  canaryFound(): void {
    this.clear('canary', this.stopped.canary.keys());
  }

  /** The slot came through. */
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
