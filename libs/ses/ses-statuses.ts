import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { DkimAnswer, SesDkimStatus } from '@app/mail-records';
import { defaultShard } from '@app/runtime';
import type { Listing, SesListings } from './ses-listings';
import type { SesShards } from './ses-shards';

export interface SesStatusesOptions {
  /** Milliseconds after which a status says nothing any more; longer where listings take longer. */
  readonly tooOldMs: number;
  /**
   * Milliseconds without an answer after which a request for one domain has failed. It must be long enough for a
   * request for each domain that is looked at at the same time: requests that fail do not count as lost identities, and
   * a slot whose identities are all lost must be noticed.
   */
  readonly timeoutMs: number;
  /** Milliseconds to wait for the first listing of a shard that has never been listed; 300,000 when absent. */
  readonly firstListingMs?: number;
  /** Milliseconds for which is used what was read of the listings; 1,000 when absent. */
  readonly freshMs?: number;
}

/** A domain with what the table has of it. */
export interface ListedDomain {
  readonly name: string;
  /** The shard of SES that has its identity. */
  readonly sesShard: string;
  /** The status of its identity in the table (`listedStatusOf`); null when it has none. */
  readonly listedStatus: SesDkimStatus | null;
}

/** The age that the list of identities may have whatever the length of a cycle, in milliseconds. */
const leastTooOldMs = 300_000;
/** Milliseconds without an answer of SES about one domain of the cycle. */
const confirmationMs = 300_000;
/** The most that statuses are older than when whole listings follow each other, in durations of a listing. */
const durations = 4;

/**
 * Gives the DKIM statuses of domains at SES, from the table that one process keeps by listing all identities
 * (`SesLister`): SES allows about one request a second, and one page of a listing covers a thousand domains.
 */
export class SesStatuses {
  private readonly logger = new Logger(SesStatuses.name);
  private readonly firstListingMs: number;
  private readonly freshMs: number;
  private known: Promise<readonly Listing[]> | undefined;
  private readAt = -Infinity;

  constructor(
    private readonly listings: Pick<SesListings, 'read' | 'statusOf'>,
    private readonly ses: Pick<SesShards, 'get'>,
    private readonly options: SesStatusesOptions,
  ) {
    this.firstListingMs = options.firstListingMs ?? 300_000;
    this.freshMs = options.freshMs ?? 1_000;
  }

  /**
   * Makes one for an installation.
   *
   * @param cycleMs length of a verification cycle, in milliseconds: statuses may be as old as that.
   */
  static ofCycle(listings: SesListings, ses: SesShards, cycleMs: number): SesStatuses {
    return new SesStatuses(listings, ses, { tooOldMs: Math.max(leastTooOldMs, cycleMs), timeoutMs: confirmationMs });
  }

  /**
   * Gives the DKIM status of a domain. The table may be out of date, so a bad status of a domain that has something to
   * lose is confirmed by a request for that domain. Never rejects.
   *
   * `identity_missing`: SES has no such identity, as both the table and a request for the domain have shown.
   * `unavailable`: SES did not answer, or was not listed for too long.
   */
  async of(domain: ListedDomain, hasSomethingToLose = false): Promise<DkimAnswer> {
    const { name, sesShard } = domain;
    try {
      const listed = domain.listedStatus ?? (await this.inFirstListing(domain));
      if (!(await this.usable(sesShard))) return 'unavailable';
      if (listed === 'success' || (listed && !hasSomethingToLose)) return listed;
      const signal = AbortSignal.timeout(this.options.timeoutMs);
      const identity = await this.ses.get(name, { signal }, sesShard);
      return identity?.status ?? 'identity_missing';
    } catch (error) {
      this.logger.warn(`Amazon SES did not say whether it has ${name}: ${(error as Error).message}`);
      return 'unavailable';
    }
  }

  /**
   * Gives the status that the table has of an identity: null for none, undefined where its shard was not listed as a
   * whole, or its list is too old.
   */
  async listed(name: string, sesShard: string): Promise<SesDkimStatus | null | undefined> {
    const listing = await this.usable(sesShard);
    return listing && listing.tookMs !== null ? this.listings.statusOf(sesShard, name) : undefined;
  }

  /** Gives since when at the latest the table has a domain as verified; null where it has not, or is too old. */
  async verifiedSince(name: string, sesShard: string = defaultShard): Promise<Date | null> {
    const listing = await this.usable(sesShard);
    if (!listing) return null;
    const status = await this.listings.statusOf(sesShard, name);
    return status === 'success' ? new Date(Date.now() - listing.ageMs) : null;
  }

  /** Waits for the first listing of the domain's shard, if it has never been listed, and gives what that has seen. */
  private async inFirstListing({ name, sesShard }: ListedDomain): Promise<SesDkimStatus | null> {
    const deadline = performance.now() + this.firstListingMs;
    for (let waited = false; ; waited = true) {
      const listing = await this.listing(sesShard);
      if (listing && listing.tookMs !== null) return waited ? this.listings.statusOf(sesShard, name) : null;
      if (listing?.hasFailed || performance.now() > deadline)
        throw new Error(`the shard ${sesShard} was never listed as a whole`);
      await delay(Math.min(this.freshMs, 250), undefined, { ref: false });
    }
  }

  /** Gives what is known of a shard; undefined where it is unknown, or its list is too old. */
  private async usable(shard: string): Promise<Listing | undefined> {
    const listing = await this.listing(shard);
    if (!listing) return undefined;
    const { ageMs, tookMs } = listing;
    return ageMs <= Math.max(this.options.tooOldMs, durations * (tookMs ?? 0)) ? listing : undefined;
  }

  private async listing(shard: string): Promise<Listing | undefined> {
    if (!this.known || performance.now() - this.readAt > this.freshMs) {
      this.readAt = performance.now();
      const known = this.listings.read();
      // A read that failed is not used again.
      known.catch(() => this.known === known && (this.known = undefined));
      this.known = known;
    }
    return (await this.known).find((listing) => listing.shard === shard);
  }
}
