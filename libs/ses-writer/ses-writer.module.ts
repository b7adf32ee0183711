import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { SesShards, SharedTurns, type SesModuleOptions } from '@app/ses';
import { Pool } from 'pg';
import { SesWriter } from './ses-writer';

@Module({})
export class SesWriterModule implements OnApplicationShutdown {
  constructor(@Inject(SesShards) private readonly shards: SesShards<SesWriter>) {}

  static forRoot({ shards, timeoutMs }: Omit<SesModuleOptions, 'cycleMs'>): DynamicModule {
    return {
      module: SesWriterModule,
      providers: [
        {
          provide: SesShards,
          inject: [Pool],
          useFactory: (pool: Pool) =>
            new SesShards(shards, (shard) => new SesWriter({ ...shard, timeoutMs }, new SharedTurns(pool, shard))),
        },
      ],
      exports: [SesShards],
    };
  }

  onApplicationShutdown(): void {
    this.shards.close();
  }
}
