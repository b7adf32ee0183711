import type { DkimAnswer } from '@app/mail-records';
import type { SesShards } from '@app/ses';
import { SesStatuses, type SesStatusesOptions } from './ses-statuses';

/** Gives the DKIM statuses of domains, each from the listing of its shard. */
export class ShardStatuses {
  private readonly statuses: ReadonlyMap<string, SesStatuses>;

  constructor(shards: SesShards, options: SesStatusesOptions) {
    this.statuses = new Map(shards.names().map((name) => [name, new SesStatuses(shards.of(name), options)]));
  }

  /**
   * Gives what `SesStatuses.of` gives. Never rejects: `unavailable` where the settings of this process do not have the
   * shard.
   */
  of(name: string, hasSomethingToLose: boolean, shard: string): Promise<DkimAnswer> {
    const statuses = this.statuses.get(shard);
    return statuses ? statuses.of(name, hasSomethingToLose) : Promise.resolve('unavailable');
  }
}
