import { LogEpochs } from '@app/event-store';
import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { Pool } from 'pg';
import { tagByEpoch } from './preconditions';

/** Learns the epoch of the log before the first request, for the tags of all answers. */
@Injectable()
export class EpochOfTags implements OnModuleInit {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  async onModuleInit(): Promise<void> {
    const epochs = await LogEpochs.of(this.pool).epochs();
    tagByEpoch(epochs.newest?.number ?? 1);
  }
}
