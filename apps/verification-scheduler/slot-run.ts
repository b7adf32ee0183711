import { isBroken } from '@app/mail-records';
import { trace } from '@app/tracing';
import type { Canary } from '@app/verification';
import type { AssessmentRecorder } from './assessment-recorder';
import { tolerated, type CircuitBreaker } from './circuit-breaker';
import type { ConcurrencyLimit } from './concurrency-limit';
import type { DomainVisits } from './domain-visits';
import type { AssessedDomain, FaultyIdentity, Looks } from './looks';
import { lookOutcomes, type Outcome } from './metrics';
import type { ClaimedSlot } from './slots';
import { hasSomethingToLose, type WatchedDomain } from './watched-domain';
import type { WatchedDomains } from './watched-domains';

/** Thrown when the fault is probably in this system: nothing that was found in the slot counts. */
export class SlotStopped extends Error {
  override readonly name = 'SlotStopped';
}

/** The components that all runs of a scheduler share. */
export interface SlotRunParts {
  readonly watchedDomains: Pick<WatchedDomains, 'page' | 'verifiedIn'>;
  readonly looks: Looks;
  readonly recorder: AssessmentRecorder;
  readonly visits: DomainVisits;
  readonly concurrency: ConcurrencyLimit;
  readonly canary: Pick<Canary, 'isFound' | 'name'>;
  readonly breaker: CircuitBreaker;
  /** Called whenever a domain of a slot was finished. */
  readonly onProgress: () => void;
}

/**
 * Looks at the domains of one slot in one cycle, and then records. Assessments that would fail a domain with something
 * to lose are withheld until the whole slot has been looked at, so that a fault of this system is noticed before it
 * affects a customer. No more than the tolerated number of verified domains is withheld: the run stops at that number.
 */
export class SlotRun {
  /** The number of domains by outcome. */
  readonly outcomes = new Map<Outcome, number>();
  /** The domains whose look or record failed. */
  readonly unjudged = new Set<string>();
  private readonly withheld: AssessedDomain[] = [];
  private readonly faulty: FaultyIdentity[] = [];
  private failures = 0;
  private stopped: SlotStopped | undefined;

  /**
   * @param isActive no look or record begins once this is false: the lease is lost, or the scheduler is stopping.
   * @param only the domains to look at; the whole slot when absent.
   */
  constructor(
    private readonly parts: SlotRunParts,
    private readonly claim: ClaimedSlot,
    private readonly isActive: () => boolean,
    private readonly only?: ReadonlySet<string>,
  ) {}

  /** @throws {SlotStopped} when the canary is not found, or too many domains fail at once. */
  async complete(): Promise<void> {
    const { slot } = this.claim;
    const [verified] = await Promise.all([this.parts.watchedDomains.verifiedIn(slot), this.assertCanary()]);
    await this.lookAtAll(verified);
    this.assertPlausible(verified);
    if (this.withheld.length > 0 && this.isActive()) await this.assertCanary();
    await this.recordWithheld();
  }

  private async lookAtAll(verified: number): Promise<void> {
    const { slot, cycle } = this.claim;
    const { looks, recorder, visits, watchedDomains } = this.parts;
    const { only } = this;
    const onFault = (faulty: FaultyIdentity) => void this.faulty.push(faulty);
    const listing = {
      read: (after: string, limit: number) => watchedDomains.page(slot, after, limit),
      isWanted: (domain: WatchedDomain) => !only || only.has(domain.id),
      isActive: () => this.isActive() && !this.stopped,
    };
    await visits.forEach(listing, (domain) =>
      // Each look is a trace of its own: one of a slot would have the looks at all of its domains.
      trace('look', { attributes: { 'sendmux.domain': domain.id, 'sendmux.slot': slot } }, async () => {
        const look = await looks.at(domain, onFault);
        if (typeof look === 'string') return this.count(domain.id, look);
        const fails = isBroken(look.assessment.findings);
        if (fails && hasSomethingToLose(domain)) return this.withhold(look, verified);
        this.count(domain.id, await recorder.record(look, cycle));
      }),
    );
  }

  private withhold(assessed: AssessedDomain, verified: number): void {
    this.withheld.push(assessed);
    this.parts.onProgress();
    if (assessed.domain.status !== 'verified' || (this.failures += 1) <= tolerated(verified)) return;
    this.stopped = new SlotStopped(
      `More than ${tolerated(verified)} of the ${verified} verified domains of slot ${this.claim.slot} fail at once: none is judged`,
    );
  }

  private assertPlausible(verified: number): void {
    const { slot } = this.claim;
    const most = tolerated(verified);
    if (this.faulty.length > most)
      this.stopped ??= new SlotStopped(
        `More than ${most} domains of slot ${slot} are not in SES as they should be: is this another account or Region?`,
      );
    if (!this.stopped) return;
    this.parts.breaker.open(slot, 'mass_failure', this.stopped.message);
    throw this.stopped;
  }

  private async recordWithheld(): Promise<void> {
    const { concurrency, recorder } = this.parts;
    const { cycle } = this.claim;
    if (this.isActive())
      await concurrency.forEach([this.faulty], (each) =>
        trace('ask for a repair', { parent: each.traceparent }, () => recorder.requestRepair(each, cycle)),
      );
    await concurrency.forEach([this.withheld], async (each) => {
      if (!this.isActive()) return;
      const { domain, traceparent: parent } = each;
      const outcome = await trace('record a failing look', { parent }, () => recorder.record(each, cycle));
      this.count(domain.id, outcome);
    });
  }

  private async assertCanary(): Promise<void> {
    const { breaker, canary } = this.parts;
    if (await canary.isFound()) return breaker.canaryFound();
    const message = `No resolver finds ${canary.name}: domains are not judged until one does`;
    breaker.open(this.claim.slot, 'canary', message);
    throw new SlotStopped(message);
  }

  private count(id: string, outcome: Outcome): void {
    lookOutcomes.inc({ outcome });
    if (outcome === 'error') this.unjudged.add(id);
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    this.parts.onProgress();
  }
}
