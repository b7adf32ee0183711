import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import type { SesShard } from '@app/runtime';
import { Pool } from 'pg';
import { SesIdentities } from './ses-identities';
import { SesListings } from './ses-listings';
import { SesShards } from './ses-shards';
import { SesStatuses } from './ses-statuses';
import { SharedTurns } from './shared-turns';

export interface SesModuleOptions {
  readonly shards: readonly SesShard[];
  /** Milliseconds after which a single call counts as unanswered. */
  readonly timeoutMs: number;
  /** Length of a verification cycle, in milliseconds: the list of identities may be as old as that. */
  readonly cycleMs: number;
}

@Module({})
export class SesModule implements OnApplicationShutdown {
  constructor(@Inject(SesShards) private readonly shards: SesShards) {}

  static forRoot({ shards, timeoutMs, cycleMs }: SesModuleOptions): DynamicModule {
    return {
      module: SesModule,
      providers: [
        {
          provide: SesShards,
          inject: [Pool],
          useFactory: (pool: Pool) =>
            new SesShards(shards, (shard) => new SesIdentities({ ...shard, timeoutMs }, new SharedTurns(pool, shard))),
        },
        { provide: SesListings, inject: [Pool], useFactory: (pool: Pool) => new SesListings(pool) },
        {
          provide: SesStatuses,
          inject: [SesListings, SesShards],
          useFactory: (listings: SesListings, ses: SesShards) => SesStatuses.ofCycle(listings, ses, cycleMs),
        },
      ],
      exports: [SesShards, SesListings, SesStatuses],
    };
  }

  onApplicationShutdown(): void {
    this.shards.close();
  }
}
