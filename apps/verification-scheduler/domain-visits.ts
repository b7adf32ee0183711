import type { ConcurrencyLimit } from './concurrency-limit';
import type { RateLimiter } from './rate-limiter';
import type { WatchedDomain } from './watched-domain';

/** Domains per page. A listing holds one page in memory, besides the domains that are being visited. */
const pageSize = 100;

/** A source of domains to visit, in the order of their ids. */
export interface Listing<Domain extends WatchedDomain> {
  /** Reads at most `limit` domains above the id `after`. */
  readonly read: (after: string, limit: number) => Promise<Domain[]>;
  /** Whether to visit the domain. Skipped domains do not wait for the rate limiter; all are visited when absent. */
  readonly isWanted?: (domain: Domain) => boolean;
  /** No further visit begins once this is false. */
  readonly isActive: () => boolean;
}

/**
 * Visits domains page by page, within the concurrency limit and the rate limit that all listings of a scheduler share.
 */
export class DomainVisits {
  constructor(
    private readonly concurrency: ConcurrencyLimit,
    private readonly rate: RateLimiter,
    /** Ends the wait for the rate limiter; `isActive` of every listing is false from then on. */
    private readonly stopping: AbortSignal,
  ) {}

  /** @throws the first error of a page or a visit; no visit begins after that. */
  forEach<Domain extends WatchedDomain>(
    { read, isWanted = () => true, isActive }: Listing<Domain>,
    visit: (domain: Domain) => Promise<void>,
  ): Promise<void> {
    return this.concurrency.forEach(pages(read, isActive), async (domain) => {
      if (!isWanted(domain) || !isActive()) return;
      await this.rate.acquire(this.stopping);
      if (isActive()) await visit(domain);
    });
  }
}

/** Reads a page when the one before it is used up. */
async function* pages<Domain extends WatchedDomain>(
  read: Listing<Domain>['read'],
  isActive: () => boolean,
): AsyncGenerator<Domain[]> {
  for (let after = ''; isActive();) {
    const page = await read(after, pageSize);
    yield page;
    if (page.length < pageSize) return;
    after = page.at(-1)!.id;
  }
}
