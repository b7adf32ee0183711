import { Logger } from '@nestjs/common';
import type { DkimAnswer } from '@app/mail-domain';
import type { SesIdentities } from '@app/ses';
import { ListedStatuses } from './listed-statuses';

export interface SesStatusesOptions {
  /** How long a listing is believed, in milliseconds; as long as it took where that is longer. */
  readonly maxAgeMs: number;
  /** A listing or a question that takes longer has failed, in milliseconds. */
  readonly timeoutMs: number;
  readonly clock?: () => number;
}

/**
 * What SES says of the domains, from one listing of all its identities that everybody shares for a while: SES allows
 * about one call a second, and a page of the listing answers for a thousand domains.
 */
export class SesStatuses {
  private readonly logger = new Logger(SesStatuses.name);
  private readonly clock: () => number;
  private listing: Promise<ListedStatuses | undefined> | undefined;
  private staleAt = 0;

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

  /** The listing of now, or undefined when it failed. A failure is kept as long as an answer: SES is not pressed. */
  private current(): Promise<ListedStatuses | undefined> {
    if (!this.listing || this.clock() >= this.staleAt) {
      this.staleAt = Infinity;
      this.listing = this.list(this.clock());
    }
    return this.listing;
  }

  private async list(startedAt: number): Promise<ListedStatuses | undefined> {
    try {
      const statuses = new ListedStatuses();
      const signal = AbortSignal.timeout(this.options.timeoutMs);
      for await (const { name, status } of this.ses.list({ signal })) statuses.add(name, status);
      return statuses;
    } catch (error) {
      this.logger.warn(
        `The identities of Amazon SES cannot be listed, no status is known: ${(error as Error).message}`,
      );
      return undefined;
    } finally {
      const endedAt = this.clock();
      this.staleAt = endedAt + Math.max(this.options.maxAgeMs, endedAt - startedAt);
    }
  }
}
