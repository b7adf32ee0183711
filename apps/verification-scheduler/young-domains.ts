import { Logger } from '@nestjs/common';
import { youngCycle } from '@app/cycle';
import { trace } from '@app/tracing';
import type { Canary } from '@app/verification';
import type { AssessmentRecorder } from './assessment-recorder';
import type { DomainVisits } from './domain-visits';
import { Lease } from './lease';
import type { Looks } from './looks';
import { lookOutcomes, type Outcome } from './metrics';
import type { SchedulerOptions } from './scheduler-options';
import type { ClaimedSlot, Slots } from './slots';
import type { WatchedDomains, YoungDomain } from './watched-domains';

/** Largest difference between the clocks of two schedulers, in milliseconds. */
const skewMs = 60_000;
/** Longest wait until young domains are looked at again whose looks gave no result, in milliseconds. */
const youngRetryMs = 30_000;

export interface YoungDomainsParts {
  readonly slots: Slots;
  readonly watchedDomains: Pick<WatchedDomains, 'young'>;
  readonly looks: Looks;
  readonly recorder: AssessmentRecorder;
  readonly visits: DomainVisits;
  readonly canary: Pick<Canary, 'isFound'>;
}

/**
 * Looks at domains that were never verified when they reach certain ages, in addition to the looks of their slots.
 * Which domains are due depends on the time alone, so a crash, a stop or a failed record only delays looks.
 */
export class YoungDomains {
  private readonly logger = new Logger(YoungDomains.name);

  constructor(
    private readonly parts: YoungDomainsParts,
    private readonly options: Required<SchedulerOptions>,
    private readonly stopping: AbortSignal,
  ) {}

  /**
   * Looks at the domains that have reached one of the ages since the last call, but not further in the past than the
   * greatest age. Never rejects.
   */
  async lookAtDue(): Promise<void> {
    const { slots, watchedDomains } = this.parts;
    const { clock, leaseMs, youngAges } = this.options;
    const now = clock();
    try {
      const due = await watchedDomains.young(youngAges, this.since(await slots.youngUntil(), now), now, '', 1);
      const claim = due.length > 0 ? await slots.claimYoung(leaseMs) : undefined;
      if (!claim) return;
      const lease = new Lease(slots, claim, 'the young domains', leaseMs);
      try {
        const isActive = () => lease.isOurs && !this.stopping.aborted;
        const outcomes = await this.lookAtAll(this.since(claim.until, now), now, isActive);
        await this.closeOrRelease(claim, now, outcomes, isActive);
      } finally {
        lease.end();
      }
    } catch (error) {
      this.logger.warn(`Young domains will be looked at when the lease ends: ${(error as Error).message}`);
    }
  }

  /**
   * Gives the time from which ages count. A time in the future, stored before the clock was set back, must not delay
   * the looks.
   */
  private since(until: number, now: number): number {
    const oldest = now - Math.max(0, ...this.options.youngAges);
    return until > now + skewMs ? oldest : Math.max(Math.min(until, now), oldest);
  }

  private async lookAtAll(from: number, until: number, isActive: () => boolean): Promise<ReadonlySet<Outcome>> {
    const { looks, recorder, visits, watchedDomains } = this.parts;
    const { intervalMs, youngAges } = this.options;
    const outcomes = new Set<Outcome>();
    const listing = {
      read: (after: string, limit: number) => watchedDomains.young(youngAges, from, until, after, limit),
      isActive,
    };
    await visits.forEach(listing, async (domain: YoungDomain) => {
      const outcome = await trace('look', { attributes: { 'sendmux.domain': domain.id } }, async () => {
        const look = await looks.at(domain);
        const cycle = youngCycle(domain.id, domain.dueAt, intervalMs, domain.turn);
        return typeof look === 'string' ? look : recorder.record(look, cycle);
      });
      lookOutcomes.inc({ outcome });
      outcomes.add(outcome);
    });
    return outcomes;
  }

  /**
   * Closes the slot of the young domains, or releases it to be tried again. These domains have nothing to lose, so the
   * canary is only checked when one of them was undecided. Without resolvers all are undecided, and the slot is tried
   * again; a single undecided domain must not delay the others.
   */
  private async closeOrRelease(
    claim: ClaimedSlot,
    now: number,
    outcomes: ReadonlySet<Outcome>,
    isActive: () => boolean,
  ): Promise<void> {
    const { canary, slots } = this.parts;
    if (!isActive()) return await slots.release(claim, 0);
    const isLost = outcomes.has('error') || (outcomes.has('undecided') && !(await canary.isFound()));
    if (isLost) await slots.release(claim, Math.min(this.options.retryMs, youngRetryMs));
    else await slots.close(claim, now);
  }
}
