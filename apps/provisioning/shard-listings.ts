import { Logger } from '@nestjs/common';
import type { SesDkimStatus } from '@app/mail-records';
import type { SesIdentities } from '@app/ses';

/** Gives what lists the identities of a shard; throws `SesUnavailable` where there is no such shard. */
interface ListedShards {
  of(shard: string): Pick<SesIdentities, 'list'>;
}

interface Listing {
  statuses: ReadonlyMap<string, SesDkimStatus> | undefined;
  isUnderWay: boolean;
  staleAt: number;
}

/**
 * Gives the DKIM statuses of identities by listings of their shards, which cover a thousand of them by a call: ten
 * thousand domains may wait for their owners to place records. Nobody waits for a listing, which goes on by itself.
 */
export class ShardListings {
  private readonly logger = new Logger(ShardListings.name);
  private readonly listings = new Map<string, Listing>();

  /** @param maxAgeMs milliseconds for which a listing is used; longer where the listing itself took longer. */
  constructor(
    private readonly shards: ListedShards,
    private readonly maxAgeMs: number,
  ) {}

  /** Gives the status of an identity; null where the shard has none, and undefined while that is not known. */
  statusOf(shard: string, name: string): SesDkimStatus | null | undefined {
    const listing = this.listings.get(shard) ?? { statuses: undefined, isUnderWay: false, staleAt: -Infinity };
    this.listings.set(shard, listing);
    if (!listing.isUnderWay && performance.now() >= listing.staleAt) void this.list(shard, listing);
    return listing.statuses && (listing.statuses.get(name) ?? null);
  }

  private async list(shard: string, listing: Listing): Promise<void> {
    const beganAt = performance.now();
    listing.isUnderWay = true;
    try {
      const statuses = new Map<string, SesDkimStatus>();
      for await (const { name, status } of this.shards.of(shard).list()) statuses.set(name, status);
      listing.statuses = statuses;
    } catch (error) {
      listing.statuses = undefined;
      this.logger.warn(`The identities of the shard ${shard} cannot be listed: ${(error as Error).message}`);
    } finally {
      const endedAt = performance.now();
      listing.isUnderWay = false;
      listing.staleAt = endedAt + Math.max(this.maxAgeMs, endedAt - beganAt);
    }
  }
}
