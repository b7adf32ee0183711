import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { Commands } from '@app/commands';
import type { SesStatuses } from '@app/ses';
import type { Canary, Verifier } from '@app/verification';
import { AssessmentRecorder } from './assessment-recorder';
import { CircuitBreaker } from './circuit-breaker';
import { ConcurrencyLimit } from './concurrency-limit';
import { DomainVisits } from './domain-visits';
import { Looks } from './looks';
import { intervalSeconds } from './metrics';
import { RateLimiter, unlessAborted } from './rate-limiter';
import { withDefaults, type SchedulerOptions } from './scheduler-options';
import { SlotRunner } from './slot-runner';
import type { ClaimedSlot, Slots } from './slots';
import type { WatchedDomains } from './watched-domains';
import { YoungDomains } from './young-domains';

/** Number of slots that run at the same time. */
const slotsAtOnce = 8;
/** Number of free places at which slots are claimed without waiting for the next poll. */
const slotsAClaim = 4;
/** Milliseconds that a stopping scheduler waits for the looks that are under way. */
const stopWithinMs = 5_000;

/**
 * Looks at every pending and verified domain once per cycle, slot by slot. Any number of schedulers share the slots.
 */
export class Scheduler implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(Scheduler.name);
  private readonly options: Required<SchedulerOptions>;
  private readonly runner: SlotRunner;
  private readonly youngDomains: YoungDomains;
  private readonly running = new Set<Promise<void>>();
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;
  private young: Promise<void> | undefined;
  private claimedAt = -Infinity;
  private youngAt = -Infinity;
  private progressAt = performance.now();

  constructor(
    private readonly slots: Slots,
    watchedDomains: WatchedDomains,
    verifier: Pick<Verifier, 'check'>,
    sesStatuses: Pick<SesStatuses, 'of'>,
    commands: Pick<Commands, 'execute'>,
    canary: Pick<Canary, 'isFound' | 'name'>,
    options: SchedulerOptions,
  ) {
    this.options = withDefaults(options);
    intervalSeconds.set(this.options.intervalMs / 1_000);
    const { alarmMs, clock, concurrency: most, perSecond } = this.options;
    const { signal } = this.stopping;
    const concurrency = new ConcurrencyLimit(most);
    const shared = {
      watchedDomains,
      looks: new Looks(verifier, sesStatuses, clock),
      recorder: new AssessmentRecorder(commands, watchedDomains, clock),
      visits: new DomainVisits(concurrency, new RateLimiter(perSecond), signal),
      canary,
    };
    const breaker = new CircuitBreaker(alarmMs);
    const onProgress = () => void (this.progressAt = performance.now());
    this.runner = new SlotRunner(slots, { ...shared, concurrency, breaker, onProgress }, this.options, signal);
    this.youngDomains = new YoungDomains({ ...shared, slots }, this.options, signal);
    // Every visit that waits for the rate limiter adds a listener.
    setMaxListeners(0, signal);
  }

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  /**
   * Stops taking slots and domains, leaves unfinished slots to other schedulers, and waits for the looks that are under
   * way.
   */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
    await Promise.race([Promise.all([...this.running, this.young]), delay(stopWithinMs, undefined, { ref: false })]);
  }

  /**
   * Checks the progress, for the liveness probe. An unavailable database is no failure, since a restart would not help.
   *
   * @throws {Error} when slots are running and no domain was finished for `stalledMs` (milliseconds), or when the loop
   * is stuck.
   */
  assertProgress(stalledMs = 600_000): void {
    const standsForMs = performance.now() - this.progressAt;
    if (standsForMs > stalledMs) throw new Error(`No slot has moved for ${Math.round(standsForMs / 1_000)} s`);
  }

  /** Gives the milliseconds since the oldest open slot was due. */
  lagMs(): Promise<number> {
    return this.slots.lagMs(this.options.clock(), this.options.intervalMs);
  }

  private async run(): Promise<void> {
    const { pollMs } = this.options;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      if (this.running.size === 0) this.progressAt = performance.now();
      try {
        await this.claimSlots();
        this.startYoung();
      } catch (error) {
        this.logger.warn(`Due slots cannot be claimed: ${(error as Error).message}`);
      }
      const pause = delay(pollMs, undefined, { signal }).catch(unlessAborted);
      await Promise.race([pause, ...this.running]);
    }
  }

  /** Claims several slots at once: a slot with few domains takes less time to run than to claim. */
  private async claimSlots(): Promise<void> {
    const { clock, intervalMs, leaseMs, pollMs } = this.options;
    const free = slotsAtOnce - this.running.size;
    const isPollDue = performance.now() - this.claimedAt >= pollMs;
    if (free < slotsAClaim && !(free > 0 && isPollDue)) return;
    const claimed = await this.slots.claim(clock(), intervalMs, free, leaseMs);
    for (const claim of claimed) this.start(claim);
    this.claimedAt = performance.now();
  }

  private start(claim: ClaimedSlot): void {
    const run = this.runner.run(claim).finally(() => {
      this.running.delete(run);
      this.progressAt = performance.now();
    });
    this.running.add(run);
  }

  /** Looks at young domains once per poll interval. The loop itself runs more often, whenever a slot is done. */
  private startYoung(): void {
    if (performance.now() - this.youngAt < this.options.pollMs) return;
    this.youngAt = performance.now();
    this.young ??= this.youngDomains.lookAtDue().finally(() => (this.young = undefined));
  }
}
