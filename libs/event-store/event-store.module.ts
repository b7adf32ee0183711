import { Inject, Module, type BeforeApplicationShutdown, type DynamicModule } from '@nestjs/common';
import { Pool } from 'pg';
import type { InlineProjection } from './event';
import { EventLog } from './event-log';
import { EventStore } from './event-store';
import { PartitionUpkeep } from './partition-upkeep';

/** Provides the store and the log over the process's pool, and keeps the partitions of the log. */
@Module({})
export class EventStoreModule implements BeforeApplicationShutdown {
  constructor(@Inject(EventLog) private readonly log: EventLog) {}

  /** @param projection the table to which appends write their rows. */
  static forRoot(projection?: InlineProjection): DynamicModule {
    return {
      module: EventStoreModule,
      providers: [
        { provide: EventStore, inject: [Pool], useFactory: (pool: Pool) => new EventStore(pool, projection) },
        { provide: EventLog, inject: [Pool], useFactory: (pool: Pool) => new EventLog(pool) },
        PartitionUpkeep,
      ],
      exports: [EventStore, EventLog],
    };
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.log.close();
  }
}
