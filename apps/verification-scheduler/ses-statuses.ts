import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { DkimAnswer } from '@app/mail-domain';
import type { SesIdentities } from '@app/ses';
import { ListedStatuses } from './listed-statuses';

export interface SesStatusesOptions {
  /** How long a listing is believed, in milliseconds; as long as it took where that is longer. */
  readonly maxAgeMs: number;
  /**
   * A listing has failed when no more of it has come for so long, and a question about one domain when it is not answered, in
   * milliseconds. Long enough for every lane to have its turn: what nobody answered is not counted as lost, and a slot that is
   * lost as a whole must be known for that.
   */
  readonly timeoutMs: number;
  /** While a new listing is under way, the one before it answers after so long, in milliseconds; 1,000 when absent. */
  readonly waitMs?: number;
  readonly clock?: () => number;
}

/** How long the first listing is waited for, in milliseconds; while it takes longer, nothing is known. */
const firstListingMs = 300_000;

/**
 * What SES says of the domains, from one listing of all its identities that everybody shares for a while: SES allows
 * about one call a second, and a page of the listing answers for a thousand domains.
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
   * The listing is a little old, so what it says against a domain with something to lose is asked again, for it alone.
   *
   * `identity_missing`: SES has no such identity, and has said so twice, the second time when asked for it alone. `unavailable`:
   * SES did not answer. Never rejects.
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

  /** The listing of now, or undefined when it failed. A failure is kept for a while too: SES is not pressed. */
  private current(): Promise<ListedStatuses | undefined> {
    if (this.clock() < this.staleAt) return this.answer;
    this.staleAt = Infinity;
    const listing = this.list(this.clock()).then((statuses) => {
      this.answer = listing;
      return (this.last = statuses);
    });
    // Of millions of identities a listing takes hours, and nobody is to stand still for it.
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
