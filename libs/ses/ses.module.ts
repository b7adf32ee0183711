import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import type { SesShard } from '@app/runtime';
import { Pool } from 'pg';
import { SesIdentities } from './ses-identities';
import { SesShards } from './ses-shards';
import { SharedTurns } from './shared-turns';

export interface SesModuleOptions {
  readonly shards: readonly SesShard[];
  /** Milliseconds after which a single call counts as unanswered. */
  readonly timeoutMs: number;
}

@Module({})
export class SesModule implements OnApplicationShutdown {
  constructor(@Inject(SesShards) private readonly shards: SesShards) {}

  static forRoot({ shards, timeoutMs }: SesModuleOptions): DynamicModule {
    return {
      module: SesModule,
      providers: [
        {
          provide: SesShards,
          inject: [Pool],
          useFactory: (pool: Pool) =>
            new SesShards(shards, (shard) => new SesIdentities({ ...shard, timeoutMs }, new SharedTurns(pool, shard))),
        },
      ],
      exports: [SesShards],
    };
  }

  onApplicationShutdown(): void {
    this.shards.close();
  }
}
