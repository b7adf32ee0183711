import { setTimeout as delay } from 'node:timers/promises';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { CommandBus } from '@nestjs/cqrs';
import type { Decided } from '@app/commands';
import { isUndecided, RecordCheck } from '@app/mail-domain';
import type { Verifier } from '@app/verification';
import { Counter, Histogram } from 'prom-client';
import { Lanes } from './lanes';
import type { SesStatuses } from './ses-statuses';
import type { ClaimedSlot, Slots } from './slots';
import { isOldNews, type WatchedDomain, type WatchedDomains } from './watched-domains';

export interface SchedulerOptions {
  /** Length of a cycle, in milliseconds. */
  readonly intervalMs: number;
  /** Domains looked at at once. */
  readonly concurrency: number;
  /** A slot of a killed scheduler is taken over after this long; 15,000 when absent. */
  readonly leaseMs?: number;
  /** Longest wait before due slots are looked for again; a slot's share of the interval, 1,000 at most, when absent. */
  readonly pollMs?: number;
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

/** What a look at a domain led to. */
type Outcome = 'unchanged' | 'changed' | 'verified' | 'lapsed' | 'failed' | 'undecided' | 'error';

const slotsAtOnce = 16;
const pageSize = 500;
const stopWithinMs = 5_000;

const judged = new Counter({
  name: 'sendmux_verification_domains_total',
  help: 'Domains that the cycle looked at, by what it led to',
  labelNames: ['outcome'],
});
const closed = new Counter({ name: 'sendmux_verification_slots_total', help: 'Slots with domains that were closed' });
const looks = new Histogram({
  name: 'sendmux_verification_look_seconds',
  help: 'How long a look at one domain took',
  buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30],
});

/** Looks at every pending and verified domain once a cycle, slot by slot. Any number of schedulers share the slots. */
export class Scheduler implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(Scheduler.name);
  private readonly options: Required<SchedulerOptions>;
  private readonly lanes: Lanes;
  private readonly running = new Set<Promise<void>>();
  /** Of slots that stayed open: the domains that could not be judged. The others have had their look in that cycle. */
  private readonly unjudged = new Map<number, { readonly cycle: number; readonly ids: ReadonlySet<string> }>();
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;
  private progressAt = performance.now();

  constructor(
    private readonly slots: Slots,
    private readonly watchedDomains: WatchedDomains,
    private readonly verifier: Pick<Verifier, 'check'>,
    private readonly sesStatuses: Pick<SesStatuses, 'of'>,
    private readonly commands: Pick<CommandBus, 'execute'>,
    options: SchedulerOptions,
  ) {
    const pollMs = Math.min(1_000, Math.max(20, options.intervalMs / 360));
    this.options = { leaseMs: 15_000, pollMs, clock: Date.now, ...options };
    this.lanes = new Lanes(options.concurrency);
  }

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  /** Takes no more slots or domains and leaves the begun slots to others; looks that are under way are finished. */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
    await Promise.race([Promise.all(this.running), delay(stopWithinMs, undefined, { ref: false })]);
  }

  /**
   * For a liveness probe. A database that is away is no fault of this process.
   *
   * @throws {Error} when slots are being worked on and none has got a domain further for `stalledMs`, or the loop stands.
   */
  assertProgress(stalledMs = 600_000): void {
    const standsForMs = performance.now() - this.progressAt;
    if (standsForMs > stalledMs) throw new Error(`No slot has moved for ${Math.round(standsForMs / 1_000)} s`);
  }

  /** Milliseconds since the longest waiting open slot was due. */
  lagMs(): Promise<number> {
    return this.slots.lagMs(this.options.clock(), this.options.intervalMs);
  }

  private async run(): Promise<void> {
    const { clock, intervalMs, leaseMs, pollMs } = this.options;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const free = slotsAtOnce - this.running.size;
      if (this.running.size === 0) this.progressAt = performance.now();
      try {
        const claimed = free > 0 ? await this.slots.claim(clock(), intervalMs, free, leaseMs) : [];
        for (const slot of claimed) this.start(slot);
      } catch (error) {
        this.logger.warn(`Due slots cannot be claimed: ${(error as Error).message}`);
      }
      const pause = delay(pollMs, undefined, { signal }).catch((error: Error) => {
        if (error.name !== 'AbortError') throw error;
      });
      await Promise.race([pause, ...this.running]);
    }
  }

  private start(slot: ClaimedSlot): void {
    const work = this.work(slot).finally(() => {
      this.running.delete(work);
      this.progressAt = performance.now();
    });
    this.running.add(work);
  }

  /** Never rejects: a slot that is not finished stays open. */
  private async work(slot: ClaimedSlot): Promise<void> {
    const { clock, intervalMs, leaseMs } = this.options;
    const name = `slot ${slot.slot} of cycle ${new Date(slot.cycle).toISOString()}`;
    let held = true;
    const renewal = setInterval(() => {
      this.slots.renew(slot, leaseMs).then(
        (renewed) => (held &&= renewed),
        (error: Error) => this.logger.warn(`The lease of ${name} was not renewed: ${error.message}`),
      );
    }, leaseMs / 3).unref();
    const goesOn = () => held && !this.stopping.signal.aborted;
    try {
      const outcomes = await this.lookAtAll(slot, goesOn);
      const summary = [...outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
      if (!goesOn()) return await this.slots.release(slot, 0);
      if (outcomes.has('error')) {
        const retryMs = Math.min(300_000, intervalMs / 36);
        this.logger.warn(`${name} stays open and is done again in ${retryMs} ms: ${summary}`);
        return await this.slots.release(slot, retryMs);
      }
      await this.slots.close(slot, clock());
      closed.inc();
      this.logger.debug(`${name}: ${summary}`);
    } catch (error) {
      this.logger.warn(`${name} will be done again when its lease ends: ${(error as Error).message}`);
    } finally {
      clearInterval(renewal);
    }
  }

  private async lookAtAll({ slot, cycle }: ClaimedSlot, goesOn: () => boolean): Promise<Map<Outcome, number>> {
    const outcomes = new Map<Outcome, number>();
    const left = this.unjudged.get(slot);
    const open = new Set<string>();
    const visit = async (domain: WatchedDomain) => {
      if (!goesOn() || (left?.cycle === cycle && !left.ids.has(domain.id))) return;
      const outcome = await this.judge(domain, cycle);
      judged.inc({ outcome });
      if (outcome === 'error') open.add(domain.id);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      this.progressAt = performance.now();
    };
    for (let after = ''; goesOn();) {
      const page = await this.watchedDomains.page(slot, after, pageSize);
      await Promise.all(page.map((domain) => this.lanes.run(() => visit(domain))));
      if (page.length < pageSize) break;
      after = page.at(-1)!.id;
    }
    if (open.size > 0 && goesOn()) this.unjudged.set(slot, { cycle, ids: open });
    else this.unjudged.delete(slot);
    return outcomes;
  }

  /**
   * One look at one domain, recorded when it can change anything. The number of the cycle lets the same domain be judged
   * again in the same cycle without effect, by a slot done again or by two schedulers.
   */
  private async judge(domain: WatchedDomain, cycle: number): Promise<Outcome> {
    const { id, name } = domain;
    try {
      const lookedAt = new Date(this.options.clock()).toISOString();
      const dkim = await this.sesStatuses.of(name, domain.status === 'verified' || domain.lapsed);
      const stop = looks.startTimer();
      const look = await this.verifier.check(domain, dkim).finally(stop);
      if (isUndecided(look)) return 'undecided';
      if (isOldNews(domain, look)) return 'unchanged';
      const { state, version, events } = await this.commands.execute<RecordCheck, Decided>(
        new RecordCheck(
          id,
          { ...look, trigger: 'scheduled', cycle, lookedAt },
          {
            at: new Date(this.options.clock()).toISOString(),
            actor: 'verification-scheduler',
            correlationId: `${id}/cycle/${cycle}`,
          },
        ),
      );
      await this.watchedDomains.refresh(id, state, version);
      const types = new Set<string>(events.map(({ type }) => type));
      if (types.has('DomainVerified')) return 'verified';
      if (types.has('VerificationLapsed')) return 'lapsed';
      if (types.has('VerificationFailed')) return 'failed';
      return types.size > 0 ? 'changed' : 'unchanged';
    } catch (error) {
      this.logger.warn(`${id} could not be judged: ${(error as Error).message}`);
      return 'error';
    }
  }
}
