import { Logger } from '@nestjs/common';
import { Lease } from './lease';
import { closedSlots } from './metrics';
import type { SchedulerOptions } from './scheduler-options';
import { SlotRun, SlotStopped, type SlotRunParts } from './slot-run';
import type { ClaimedSlot, Slots } from './slots';

/** Runs claimed slots under their leases, and closes or releases them afterwards. */
export class SlotRunner {
  private readonly logger = new Logger(SlotRunner.name);
  /**
   * The domains that could not be judged, of slots that stayed open. The other domains of those slots have had their
   * look in the cycle.
   */
  private readonly unjudged = new Map<number, { readonly cycle: number; readonly ids: ReadonlySet<string> }>();

  constructor(
    private readonly slots: Slots,
    private readonly parts: SlotRunParts,
    private readonly options: Required<SchedulerOptions>,
    private readonly stopping: AbortSignal,
  ) {}

  /** Runs a slot. A slot that is not finished stays open. Never rejects. */
  async run(claim: ClaimedSlot): Promise<void> {
    const name = `slot ${claim.slot} of cycle ${new Date(claim.cycle).toISOString()}`;
    const lease = new Lease(this.slots, claim, name, this.options.leaseMs);
    try {
      await this.runLeased(claim, name, () => lease.isOurs && !this.stopping.aborted);
    } catch (error) {
      if (error instanceof SlotStopped) return await this.releaseStopped(claim, name, error);
      this.logger.warn(`${name} will be done again when its lease ends: ${(error as Error).message}`);
    } finally {
      lease.end();
    }
  }

  private async runLeased(claim: ClaimedSlot, name: string, isActive: () => boolean): Promise<void> {
    const { clock, retryMs } = this.options;
    const left = this.unjudged.get(claim.slot);
    const run = new SlotRun(this.parts, claim, isActive, left?.cycle === claim.cycle ? left.ids : undefined);
    await run.complete();
    if (run.unjudged.size > 0 && isActive()) this.unjudged.set(claim.slot, { cycle: claim.cycle, ids: run.unjudged });
    else this.unjudged.delete(claim.slot);
    const summary = [...run.outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
    if (!isActive()) return await this.slots.release(claim, 0);
    if (run.unjudged.size > 0) {
      this.logger.warn(`${name} stays open and is done again in ${retryMs} ms: ${summary}`);
      return await this.slots.release(claim, retryMs);
    }
    await this.slots.close(claim, clock());
    closedSlots.inc();
    this.parts.breaker.close(claim.slot);
    this.logger.debug(`${name}: ${summary}`);
  }

  private async releaseStopped(claim: ClaimedSlot, name: string, { message }: SlotStopped): Promise<void> {
    const { retryMs } = this.options;
    this.logger.warn(`${name} is stopped, and tried again in ${retryMs} ms: ${message}`);
    try {
      await this.slots.release(claim, retryMs);
    } catch (error) {
      this.logger.warn(`${name} stays leased until its lease ends: ${(error as Error).message}`);
    }
  }
}
