import { Logger } from '@nestjs/common';
import type { ClaimedSlot, Slots } from './slots';

/**
 * Renews the lease of a claimed slot, three times within its length, until it is ended or another scheduler has the
 * slot.
 */
export class Lease {
  private readonly logger = new Logger(Lease.name);
  private readonly renewal: NodeJS.Timeout;
  private isHeld = true;

  /**
   * @param name of the slot, for the log.
   * @param leaseMs length of the lease, in milliseconds.
   */
  constructor(
    private readonly slots: Pick<Slots, 'renew'>,
    private readonly slot: ClaimedSlot,
    private readonly name: string,
    private readonly leaseMs: number,
  ) {
    this.renewal = setInterval(() => void this.renew(), leaseMs / 3).unref();
  }

  /**
   * Whether this scheduler still has the slot. If not, the rest of the slot belongs to the scheduler that has claimed
   * it.
   */
  get isOurs(): boolean {
    return this.isHeld;
  }

  /** Stops the renewal. The holder of the lease closes or releases the slot itself. */
  end(): void {
    clearInterval(this.renewal);
  }

  private async renew(): Promise<void> {
    try {
      const isRenewed = await this.slots.renew(this.slot, this.leaseMs);
      this.isHeld &&= isRenewed;
    } catch (error) {
      this.logger.warn(`The lease of ${this.name} was not renewed: ${(error as Error).message}`);
    }
  }
}
