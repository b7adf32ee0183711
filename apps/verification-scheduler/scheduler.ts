import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { CommandBus } from '@nestjs/cqrs';
import type { Decided } from '@app/commands';
import {
  failing,
  isUndecided,
  RecordCheck,
  RequestIdentityRepair,
  type Assessment,
  type DkimAnswer,
  type IdentityFault,
} from '@app/mail-domain';
import type { Canary, Verifier } from '@app/verification';
import { Counter, Histogram } from 'prom-client';
import { CircuitBreaker, tolerated } from './circuit-breaker';
import { Lanes } from './lanes';
import { Pace, unlessAborted } from './pace';
import type { SesStatuses } from './ses-statuses';
import type { ClaimedSlot, Slots } from './slots';
import { youngAges, youngCycle } from '@app/cycle';
import { isOldNews, type WatchedDomain, type WatchedDomains, type YoungDomain } from './watched-domains';

export interface SchedulerOptions {
  /** Length of a cycle, in milliseconds. */
  readonly intervalMs: number;
  /** Domains looked at at once. */
  readonly concurrency: number;
  /** Domains that this scheduler begins to look at a second, at most; no bound when absent. */
  readonly perSecond?: number;
  /** A slot of a killed scheduler is taken over after this long; 15,000 when absent. */
  readonly leaseMs?: number;
  /** Longest wait before due slots are looked for again; a slot's share of the interval, 1,000 at most, when absent. */
  readonly pollMs?: number;
  /** A slot that was stopped, or could not be finished, is tried again after this long; a 36th of the interval, 300,000 at most, when absent. */
  readonly retryMs?: number;
  /** Ages at which a domain that was never verified is looked at as well, in milliseconds, ascending; 1, 2, 5, 10 and 30 minutes when absent. */
  readonly youngAges?: readonly number[];
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

/** What a look at a domain led to. */
type Outcome = 'unchanged' | 'changed' | 'verified' | 'lapsed' | 'failed' | 'undecided' | 'error';

/** A look that may be recorded. */
interface News {
  readonly domain: WatchedDomain;
  readonly look: Assessment;
  /** Milliseconds since the epoch. */
  readonly lookedAt: number;
}

/** A domain that SES does not have as it should. */
interface Lost {
  readonly id: string;
  readonly fault: IdentityFault;
}
const faults: Partial<Record<DkimAnswer, IdentityFault>> = { identity_missing: 'missing', not_started: 'not_started' };

/** Case G2: only one resolver sees the proof of ownership, and all see the rest. */
function isOwnershipDisputed({ findings }: Assessment): boolean {
  const inDns = findings.filter(({ check }) => check !== 'dkim');
  return inDns.every(({ check, outcome, code }) =>
    check === 'verification_txt' ? code === 'resolver_disagreement' : outcome === 'pass',
  );
}

/** The fault is likely ours: nothing that was seen in the slot counts. */
class SlotStopped extends Error {
  override readonly name = 'SlotStopped';
}

const slotsAtOnce = 8;
/** So many are to be free before others are looked for, or a poll is to be due. */
const slotsAClaim = 4;
/** Domains of a slot that are in memory at once. */
const pageSize = 100;
const skewMs = 60_000;
/** Young domains whose looks came to nothing are looked at again after this long, in milliseconds. */
const youngRetryMs = 30_000;
const stopWithinMs = 5_000;

const judged = new Counter({
  name: 'sendmux_verification_domains_total',
  help: 'Domains that the cycle looked at, by what it led to',
  labelNames: ['outcome'],
});
const disputes = new Counter({
  name: 'sendmux_verification_disputed_ownership_total',
  help: 'Looks at domains whose ownership the resolvers have disagreed about for a cycle or more, with all else in place',
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
  private readonly pace: Pace;
  private readonly breaker: CircuitBreaker;
  private readonly running = new Set<Promise<void>>();
  /** Of slots that stayed open: the domains that could not be judged. The others have had their look in that cycle. */
  private readonly unjudged = new Map<number, { readonly cycle: number; readonly ids: ReadonlySet<string> }>();
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;
  private young: Promise<void> | undefined;
  private progressAt = performance.now();

  constructor(
    private readonly slots: Slots,
    private readonly watchedDomains: WatchedDomains,
    private readonly verifier: Pick<Verifier, 'check'>,
    private readonly sesStatuses: Pick<SesStatuses, 'of'>,
    private readonly commands: Pick<CommandBus, 'execute'>,
    private readonly canary: Pick<Canary, 'isFound' | 'name'>,
    options: SchedulerOptions,
  ) {
    const pollMs = Math.min(1_000, Math.max(20, options.intervalMs / 360));
    const retryMs = Math.min(300_000, options.intervalMs / 36);
    this.options = { leaseMs: 15_000, pollMs, retryMs, youngAges, clock: Date.now, perSecond: Infinity, ...options };
    this.breaker = new CircuitBreaker(3 * this.options.retryMs);
    this.pace = new Pace(this.options.perSecond);
    this.lanes = new Lanes(options.concurrency);
    // Whoever waits for a turn listens, and each lane may.
    setMaxListeners(0, this.stopping.signal);
  }

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  /** Takes no more slots or domains and leaves the begun slots to others; looks that are under way are finished. */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
    await Promise.race([Promise.all([...this.running, this.young]), delay(stopWithinMs, undefined, { ref: false })]);
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
    let [claimedAt, youngAt] = [-Infinity, -Infinity];
    while (!signal.aborted) {
      const free = slotsAtOnce - this.running.size;
      if (this.running.size === 0) this.progressAt = performance.now();
      try {
        // Several at a time: a slot of few domains costs less than to look for it.
        if (free >= slotsAClaim || (free > 0 && performance.now() - claimedAt >= pollMs)) {
          const claimed = await this.slots.claim(clock(), intervalMs, free, leaseMs);
          for (const slot of claimed) this.start(slot);
          claimedAt = performance.now();
        }
        // The loop turns whenever a slot is done, which is far more often.
        if (performance.now() - youngAt >= pollMs) {
          youngAt = performance.now();
          this.young ??= this.lookAtYoung().finally(() => (this.young = undefined));
        }
      } catch (error) {
        this.logger.warn(`Due slots cannot be claimed: ${(error as Error).message}`);
      }
      const pause = delay(pollMs, undefined, { signal }).catch(unlessAborted);
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

  /** Renews the lease of a slot until it is let go. The work on it goes on while it is ours and nobody stops this scheduler. */
  private hold(slot: ClaimedSlot, name: string): { readonly goesOn: () => boolean; readonly letGo: () => void } {
    const { leaseMs } = this.options;
    let held = true;
    const renewal = setInterval(() => {
      this.slots.renew(slot, leaseMs).then(
        (renewed) => (held &&= renewed),
        (error: Error) => this.logger.warn(`The lease of ${name} was not renewed: ${error.message}`),
      );
    }, leaseMs / 3).unref();
    return { goesOn: () => held && !this.stopping.signal.aborted, letGo: () => clearInterval(renewal) };
  }

  /** Never rejects: a slot that is not finished stays open. */
  private async work(slot: ClaimedSlot): Promise<void> {
    const { clock, retryMs } = this.options;
    const name = `slot ${slot.slot} of cycle ${new Date(slot.cycle).toISOString()}`;
    const { goesOn, letGo } = this.hold(slot, name);
    try {
      const outcomes = await this.lookAtAll(slot, goesOn);
      const summary = [...outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
      if (!goesOn()) return await this.slots.release(slot, 0);
      if (outcomes.has('error')) {
        this.logger.warn(`${name} stays open and is done again in ${retryMs} ms: ${summary}`);
        return await this.slots.release(slot, retryMs);
      }
      await this.slots.close(slot, clock());
      closed.inc();
      this.breaker.close(slot.slot);
      this.logger.debug(`${name}: ${summary}`);
    } catch (error) {
      if (error instanceof SlotStopped) return await this.leaveStopped(slot, name, error);
      this.logger.warn(`${name} will be done again when its lease ends: ${(error as Error).message}`);
    } finally {
      letGo();
    }
  }

  /**
   * Looks at the domains that have reached one of the young ages since the last time, and no further back than the greatest age:
   * what is due is a function of time, so a crash or a stop loses nothing, nor do looks that could not be recorded. These domains
   * have nothing to lose: the canary is asked only when nothing could be decided of one. Never rejects.
   */
  private async lookAtYoung(): Promise<void> {
    const { clock, intervalMs, leaseMs, retryMs, youngAges: ages } = this.options;
    const now = clock();
    const oldest = now - Math.max(0, ...ages);
    // A clock that was set back must not keep the young waiting; the clocks of two schedulers differ a little.
    const since = (until: number) => (until > now + skewMs ? oldest : Math.max(Math.min(until, now), oldest));
    try {
      const due = await this.watchedDomains.young(ages, since(await this.slots.youngUntil()), now, '', 1);
      const claim = due.length > 0 ? await this.slots.claimYoung(leaseMs) : undefined;
      if (!claim) return;
      const { goesOn, letGo } = this.hold(claim, 'the young domains');
      const seen = new Set<Outcome>();
      const visit = async (domain: YoungDomain) => {
        if (!(await this.mayLook(goesOn))) return;
        const news = await this.look(domain);
        const cycle = youngCycle(domain.id, domain.dueAt, intervalMs, domain.turn);
        const outcome = typeof news === 'string' ? news : await this.record(news, cycle);
        judged.inc({ outcome });
        seen.add(outcome);
      };
      try {
        const from = since(claim.until);
        const read = (after: string) => this.watchedDomains.young(ages, from, now, after, pageSize);
        await this.lanes.each(this.pages(read, goesOn), visit);
        if (!goesOn()) return await this.slots.release(claim, 0);
        // Nothing can be decided without resolvers; one domain that cannot be is no reason to hold up the others.
        const isLost = seen.has('error') || (seen.has('undecided') && !(await this.canary.isFound()));
        await (isLost ? this.slots.release(claim, Math.min(retryMs, youngRetryMs)) : this.slots.close(claim, now));
      } finally {
        letGo();
      }
    } catch (error) {
      this.logger.warn(`Young domains will be looked at when the lease ends: ${(error as Error).message}`);
    }
  }

  private async leaveStopped(slot: ClaimedSlot, name: string, { message }: SlotStopped): Promise<void> {
    const { retryMs } = this.options;
    this.logger.warn(`${name} is stopped, and tried again in ${retryMs} ms: ${message}`);
    await this.slots
      .release(slot, retryMs)
      .catch((error: Error) => this.logger.warn(`${name} stays leased until its lease ends: ${error.message}`));
  }

  /** @throws {SlotStopped} when the canary is not found. */
  private async askCanary(slot: number): Promise<void> {
    if (await this.canary.isFound()) return this.breaker.canaryFound();
    const message = `No resolver finds ${this.canary.name}: domains are not judged until one does`;
    this.breaker.open(slot, 'canary', message);
    throw new SlotStopped(message);
  }

  /**
   * Looks first and records afterwards: what is seen of domains with something to lose is kept until the whole slot has been
   * seen, so that an outage of ours is known before it has cost anybody anything. What is kept of verified domains is bounded by what
   * is tolerated.
   *
   * @throws {SlotStopped} when the canary is not found, or too many verified domains fail at once.
   */
  private async lookAtAll({ slot, cycle }: ClaimedSlot, goesOn: () => boolean): Promise<Map<Outcome, number>> {
    const [verified] = await Promise.all([this.watchedDomains.verifiedIn(slot), this.askCanary(slot)]);
    const most = tolerated(verified);
    const outcomes = new Map<Outcome, number>();
    const left = this.unjudged.get(slot);
    const open = new Set<string>();
    const kept: News[] = [];
    const lost: Lost[] = [];
    let failures = 0;
    let stopped: SlotStopped | undefined;
    const count = (id: string, outcome: Outcome) => {
      judged.inc({ outcome });
      if (outcome === 'error') open.add(id);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      this.progressAt = performance.now();
    };
    const isOn = () => goesOn() && !stopped;
    const visit = async (domain: WatchedDomain) => {
      if (left?.cycle === cycle && !left.ids.has(domain.id)) return;
      if (!(await this.mayLook(isOn))) return;
      const news = await this.look(domain, lost);
      if (typeof news === 'string') return count(domain.id, news);
      const fails = failing(news.look.findings).length > 0;
      if (!fails || (domain.status === 'pending' && !domain.lapsed))
        return count(domain.id, await this.record(news, cycle));
      kept.push(news);
      this.progressAt = performance.now();
      if (domain.status !== 'verified' || (failures += 1) <= most) return;
      const message = `More than ${most} of the ${verified} verified domains of slot ${slot} fail at once: none is judged`;
      stopped = new SlotStopped(message);
    };
    const read = (after: string) => this.watchedDomains.page(slot, after, pageSize);
    await this.lanes.each(this.pages(read, isOn), visit);
    if (lost.length > most)
      stopped ??= new SlotStopped(
        `More than ${most} domains of slot ${slot} are not in SES as they should be: is this another account or Region?`,
      );
    if (stopped) {
      this.breaker.open(slot, 'mass_failure', stopped.message);
      throw stopped;
    }
    if (kept.length > 0 && goesOn()) await this.askCanary(slot);
    if (goesOn()) await this.lanes.each([lost], (each) => this.requestRepair(each, cycle));
    const recordKept = async (news: News) => {
      if (goesOn()) count(news.domain.id, await this.record(news, cycle));
    };
    await this.lanes.each([kept], recordKept);
    if (open.size > 0 && goesOn()) this.unjudged.set(slot, { cycle, ids: open });
    else this.unjudged.delete(slot);
    return outcomes;
  }

  /** Waits for the turn; false when the work is not to go on. */
  private async mayLook(goesOn: () => boolean): Promise<boolean> {
    if (!goesOn()) return false;
    await this.pace.turn(this.stopping.signal);
    return goesOn();
  }

  /** Pages of domains in the order of their ids, each read when the one before it is used up, for as long as the work goes on. */
  private async *pages<Domain extends WatchedDomain>(
    read: (after: string) => Promise<Domain[]>,
    goesOn: () => boolean,
  ): AsyncGenerator<Domain[]> {
    for (let after = ''; goesOn();) {
      const page = await read(after);
      yield page;
      if (page.length < pageSize) return;
      after = page.at(-1)!.id;
    }
  }

  /**
   * One look at one domain; what it led to, where there is nothing to record.
   *
   * @param lost takes the domain when SES does not have it as it should.
   */
  private async look(domain: WatchedDomain, lost: Lost[] = []): Promise<News | Outcome> {
    try {
      const lookedAt = this.options.clock();
      const dkim = await this.sesStatuses.of(domain.name, domain.status === 'verified' || domain.lapsed);
      const fault = faults[dkim];
      if (fault) lost.push({ id: domain.id, fault });
      const startedAt = performance.now();
      const look = await this.verifier.check(domain, dkim);
      looks.observe((performance.now() - startedAt) / 1_000);
      if (isUndecided(look)) return 'undecided';
      if (!isOldNews(domain, look)) return { domain, look, lookedAt };
      if (isOwnershipDisputed(look)) this.reportDispute(domain);
      return 'unchanged';
    } catch (error) {
      this.logger.warn(`${domain.id} could not be looked at: ${(error as Error).message}`);
      return 'error';
    }
  }

  /** Somebody may have got at one of the resolvers, or at the way to it: an operator should know. It decides nothing. */
  private reportDispute({ id, name }: WatchedDomain): void {
    disputes.inc();
    this.logger.warn(
      `Resolvers go on giving different answers about who owns ${name} (${id}), with all else in place: ask each of them by hand`,
    );
  }

  /** Once until it is repaired; a domain that cannot be written now is asked for in the next cycle. */
  private async requestRepair({ id, fault }: Lost, cycle: number): Promise<void> {
    const at = new Date(this.options.clock()).toISOString();
    const context = { at, actor: 'verification-scheduler', correlationId: `${id}/cycle/${cycle}` };
    try {
      await this.commands.execute(new RequestIdentityRepair(id, { fault }, context));
    } catch (error) {
      this.logger.warn(`The repair of ${id} in SES could not be asked for: ${(error as Error).message}`);
    }
  }

  /**
   * The number of the cycle lets the same domain be judged again in the same cycle without effect, by a slot done again or by
   * two schedulers.
   */
  private async record({ domain: { id }, look, lookedAt }: News, cycle: number): Promise<Outcome> {
    try {
      const { state, version, events } = await this.commands.execute<RecordCheck, Decided>(
        new RecordCheck(
          id,
          { ...look, trigger: 'scheduled', cycle, lookedAt: new Date(lookedAt).toISOString() },
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
