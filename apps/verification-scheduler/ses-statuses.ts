import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { DkimAnswer } from '@app/mail-records';
import type { SesIdentities } from '@app/ses';
import { ListedStatuses } from './listed-statuses';

export interface SesStatusesOptions {
  /** Milliseconds for which a listing is used; longer where the listing itself took longer. */
  readonly maxAgeMs: number;
  /**
   * Milliseconds without a further page after which a listing has failed, and without an answer after which a request
   * for one domain has. It must be long enough for a request for each domain that is looked at at the same time:
   * requests that fail do not count as lost identities, and a slot whose identities are all lost must be noticed.
   */
  readonly timeoutMs: number;
  /** Milliseconds after which the last listing is used while a new one is under way; 1,000 when absent. */
  readonly waitMs?: number;
  readonly clock?: () => number;
}

/** Milliseconds to wait for the first listing. If it takes longer, no status is known until it ends. */
const firstListingMs = 300_000;

/**
 * Gives the DKIM statuses of domains at SES from one listing of all identities, which is shared and used for a while:
 * SES allows about one request per second, and one page of the listing covers a thousand domains.
 */
export class SesStatuses {
  private readonly logger = new Logger(SesStatuses.name);
  private readonly clock: () => number;
  /** The last listing that has ended; undefined when it failed. */
  private last: ListedStatuses | undefined;
  private answer: Promise<ListedStatuses | undefined> = Promise.resolve(undefined);
  private staleAt = -Infinity;

  constructor(
    private readonly ses: Pick<SesIdentities, 'list' | 'get'>,
    private readonly options: SesStatusesOptions,
  ) {
    this.clock = options.clock ?? (() => performance.now());
  }

  /**
   * Gives the DKIM status of a domain. The listing may be out of date, so a bad status of a domain that has something
   * to lose is confirmed by a request for that domain. Never rejects.
   *
   * `identity_missing`: SES has no such identity, as both the listing and a request for the domain have shown.
   * `unavailable`: SES did not answer.
   */
  async of(name: string, hasSomethingToLose = false): Promise<DkimAnswer> {
    const statuses = await this.current();
    if (!statuses) return 'unavailable';
    const listed = statuses.get(name);
    if (listed === 'success' || (listed && !hasSomethingToLose)) return listed;
    try {
      const identity = await this.ses.get(name, { signal: AbortSignal.timeout(this.options.timeoutMs) });
      return identity?.status ?? 'identity_missing';
    } catch (error) {
      this.logger.warn(`Amazon SES did not say whether it has ${name}: ${(error as Error).message}`);
      return 'unavailable';
    }
  }

  /**
   * Gives the current listing, or undefined when it failed. A failure is kept for a while too, so that SES is not
   * overloaded.
   */
  private current(): Promise<ListedStatuses | undefined> {
    if (this.clock() < this.staleAt) return this.answer;
    this.staleAt = Infinity;
    const listing = this.list(this.clock()).then((statuses) => {
      this.answer = listing;
      return (this.last = statuses);
    });
    // A listing of millions of identities takes hours, so looks use the last one meanwhile.
    const patienceMs = this.last ? (this.options.waitMs ?? 1_000) : firstListingMs;
    return (this.answer = Promise.race([listing, delay(patienceMs, this.last, { ref: false })]));
  }

  private async list(startedAt: number): Promise<ListedStatuses | undefined> {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), this.options.timeoutMs).unref();
    try {
      const statuses = new ListedStatuses();
      for await (const { name, status } of this.ses.list({ signal: silence.signal })) {
        statuses.add(name, status);
        timer.refresh();
      }
      const endedAt = this.clock();
      this.staleAt = endedAt + Math.max(this.options.maxAgeMs, endedAt - startedAt);
      return statuses;
    } catch (error) {
      this.logger.warn(
        `The identities of Amazon SES cannot be listed, no status is known: ${(error as Error).message}`,
      );
      this.staleAt = this.clock() + this.options.maxAgeMs;
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}
