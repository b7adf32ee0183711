import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { WebhookDeliveries } from '@app/webhooks';

const everyMs = 3_600_000;
const firstMs = 60_000;

/** Removes old deliveries every hour. Several processes may do so at the same time. */
@Injectable()
export class Housekeeping implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('webhooks');
  private readonly stopping = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;

  constructor(private readonly deliveries: WebhookDeliveries) {}

  onApplicationBootstrap(): void {
    this.runIn(firstMs);
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    clearTimeout(this.timer);
    await this.running;
  }

  private runIn(milliseconds: number): void {
    this.timer = setTimeout(() => {
      this.running = this.removeOld().finally(() => {
        if (!this.stopping.signal.aborted) this.runIn(everyMs);
      });
    }, milliseconds);
  }

  private async removeOld(): Promise<void> {
    try {
      const removed = await this.deliveries.removeOld(this.stopping.signal);
      if (removed > 0) this.logger.log(`${removed} old deliveries are removed`);
    } catch (error) {
      this.logger.warn(`Old deliveries stay for another hour: ${(error as Error).message}`);
    }
  }
}
