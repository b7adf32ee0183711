import { setTimeout as delay } from 'node:timers/promises';
import { isPassingFault } from '@app/database';
import {
  Inject,
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { Pool } from 'pg';
import { isOneTable } from './partitioning';
import { EventPartitions } from './partitions';

/** Milliseconds between two rounds: far less than the appends of a partition take. */
const intervalMs = 60_000;

/** Keeps the partitions of the log, in every process that has the event store. */
@Injectable()
export class PartitionUpkeep implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('event-store');
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    const partitions = new EventPartitions(this.pool);
    for (let isFirst = true; !signal.aborted; isFirst = false) {
      try {
        if (isFirst && (await isOneTable(this.pool)))
          this.logger.warn(
            'The events are one table, which slows down as it grows: `sendmux events partition` partitions it',
          );
        await partitions.upkeep(signal);
      } catch (error) {
        // Appends open and make partitions themselves where this does not.
        if (!isPassingFault(error)) this.logger.error(error, 'The partitions of the log are not kept');
      }
      await delay(intervalMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
