import { setTimeout as delay } from 'node:timers/promises';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { queriedGauge } from '@app/runtime';
import { SeenNames } from './seen-names';
import type { SesIdentities } from './ses-identities';
import { ListingLost, type ClaimedListing, type Listing, type SesListings } from './ses-listings';

export interface SesListerOptions {
  /** Names of the shards that this process may list. */
  readonly shards: readonly string[];
  /** Milliseconds between two listings of a shard; as long as the listing took where that is longer. */
  readonly refreshMs: number;
  /** Milliseconds without a further page after which a listing has failed. */
  readonly timeoutMs: number;
  /** Milliseconds after which the listing of a process that died is taken over; 10,000 when absent. */
  readonly leaseMs?: number;
}

/** Listings that a process makes at the same time. Each waits for its shard of SES nearly all of the time. */
const listingsAtOnce = 8;

/** Milliseconds without a listing after which the statuses of a shard that this process does not know are forgotten. */
const unlistedMs = 24 * 3_600_000;
/** Milliseconds between two looks for such shards. */
const forgetEveryMs = 3_600_000;

/**
 * Lists all identities of each shard of SES into a table, one process at a time for each shard. Pages are written as
 * they come, and a listing that breaks off begins again, without forgetting what it had learnt. What a whole listing
 * has not seen is removed at its end.
 */
export class SesLister implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(SesLister.name);
  private readonly stopping = new AbortController();
  private readonly running = new Set<Promise<void>>();
  private readonly pollMs: number;
  private readonly leaseMs: number;
  private loop: Promise<void> | undefined;

  /** @param ses gives what lists a shard. */
  constructor(
    private readonly listings: SesListings,
    private readonly ses: { of(shard: string): Pick<SesIdentities, 'list'> },
    private readonly options: SesListerOptions,
  ) {
    this.leaseMs = options.leaseMs ?? 10_000;
    this.pollMs = Math.min(5_000, Math.max(50, options.refreshMs / 10));
    const measured = (name: string, help: string, valueOf: (listing: Listing) => number | null) =>
      queriedGauge({ name, help, labelNames: ['shard'] }, async () =>
        (await listings.read()).flatMap((listing) => {
          const { shard } = listing;
          const value = valueOf(listing);
          // The list of a shard that has left the settings grows old, and nobody needs it.
          return value === null || !options.shards.includes(shard) ? [] : [{ labels: { shard }, value }];
        }),
      );
    measured(
      'sendmux_ses_listing_age_seconds',
      'How old the statuses of identities are at most, by shard',
      ({ ageMs }) => ageMs / 1_000,
    );
    measured(
      'sendmux_ses_listed_identities',
      'Identities that SES had in the last whole listing, by shard',
      ({ identities }) => identities,
    );
  }

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
    await Promise.all(this.running);
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    const { shards } = this.options;
    let forgetAt = performance.now();
    for (let isKnown = false; !signal.aborted;) {
      try {
        if (!isKnown) await this.listings.add(shards);
        isKnown = true;
        const free = listingsAtOnce - this.running.size;
        const claimed = free > 0 ? await this.listings.claim(shards, free, this.leaseMs) : [];
        for (const listing of claimed) this.start(listing);
        if (performance.now() >= forgetAt) {
          forgetAt = performance.now() + forgetEveryMs;
          const forgotten = await this.listings.forget(shards, unlistedMs);
          if (forgotten > 0) this.logger.log(`Forgot ${forgotten} statuses of shards that SES_SHARDS has no more`);
        }
      } catch (error) {
        this.logger.warn(`Listings of SES cannot be claimed: ${(error as Error).message}`);
      }
      await delay(this.pollMs, undefined, { signal }).catch(() => undefined);
    }
  }

  private start(listing: ClaimedListing): void {
    const run = this.list(listing).finally(() => this.running.delete(run));
    this.running.add(run);
  }

  /** Lists a shard. Never rejects. */
  private async list(listing: ClaimedListing): Promise<void> {
    const { refreshMs, timeoutMs } = this.options;
    const ended = new AbortController();
    const renewal = setInterval(() => void this.renew(listing, ended), this.leaseMs / 3).unref();
    const silence = setTimeout(() => ended.abort(new Error('SES gives no further page')), timeoutMs).unref();
    const signal = AbortSignal.any([ended.signal, this.stopping.signal]);
    try {
      const seen = new SeenNames();
      for await (const page of this.ses.of(listing.shard).list({ signal })) {
        silence.refresh();
        const identities = page.filter(({ name }) => domainForm.test(name));
        for (const { name } of identities) seen.add(name);
        await this.listings.save(listing, identities);
      }
      signal.throwIfAborted();
      await this.listings.removeUnseen(listing, seen);
      await this.listings.end(listing, seen.size, refreshMs);
    } catch (error) {
      await this.giveUp(listing, (ended.signal.aborted ? ended.signal.reason : error) as Error);
    } finally {
      clearInterval(renewal);
      clearTimeout(silence);
    }
  }

  private async giveUp(listing: ClaimedListing, error: Error): Promise<void> {
    if (error instanceof ListingLost) return;
    const isStopped = this.stopping.signal.aborted;
    if (!isStopped) this.logger.warn(`The identities of the shard ${listing.shard} cannot be listed: ${error.message}`);
    try {
      await this.listings.release(listing, !isStopped, isStopped ? 0 : this.options.refreshMs);
    } catch {
      // The lease ends by itself.
    }
  }

  private async renew(listing: ClaimedListing, ended: AbortController): Promise<void> {
    try {
      if (!(await this.listings.renew(listing, this.leaseMs)))
        ended.abort(new ListingLost(`Another process lists the shard ${listing.shard}`));
    } catch (error) {
      this.logger.warn(`The lease of a listing of SES was not renewed: ${(error as Error).message}`);
    }
  }
}

/** The form of a name. Identities of other forms, such as addresses, are those of no domain. */
const domainForm = /^[\w.-]{1,253}$/;
