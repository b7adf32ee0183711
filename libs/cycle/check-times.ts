/**
 * Computes the times of the last and the next look at a domain. A look of the cycle at a healthy domain writes nothing,
 * so both follow from the current time, the progress of the domain's slot, and the last look that was recorded or
 * requested.
 */
import { Together } from '@app/database';
import { Pool } from 'pg';
import { RequestedLooks } from './requested-looks';
import { dueSlot, leastDistance, offsetOf, slotOf, youngAges, youngSlot } from './cycle';

/** The fields of a domain on which its times depend. */
export interface CheckedDomain {
  readonly id: string;
  readonly status: 'pending' | 'verified' | 'failed' | 'deleting';
  readonly createdAt: Date;
  readonly verifiedAt: Date | null;
  /** The time from which it is pending again since it is to receive mail; null or absent for any other domain. */
  readonly receivingSince?: Date | null;
  /** The time of the last look that was recorded or requested. */
  readonly checkedAt: Date | null;
}

/** The progress of a slot. */
export interface SlotProgress {
  /** The newest cycle in which all of the slot's domains were looked at; 0 before the first. */
  readonly cycle: number;
  /**
   * When that cycle was completed, in milliseconds since the epoch. For the young slot: the time up to which due ages
   * have been looked at.
   */
  readonly at: number;
}

export interface CheckTimes {
  readonly lastCheckedAt: Date | null;
  /** Null for a domain that the cycle leaves out. */
  readonly nextCheckAt: Date | null;
}

/** Gives the milliseconds after which an added domain is certain to be watched. */
const untilWatched = (intervalMs: number): number => Math.min(60_000, intervalMs / 10);

/**
 * Computes the times of a domain.
 *
 * @param progress by slot.
 * @param now in milliseconds since the epoch.
 */
export function checkTimes(
  domain: CheckedDomain,
  progress: ReadonlyMap<number, SlotProgress>,
  now: number,
  intervalMs: number,
): CheckTimes {
  const isWatched = domain.status === 'pending' || domain.status === 'verified';
  const number = slotOf(domain.id);
  const slot = progress.get(number) ?? { cycle: 0, at: 0 };
  const createdAt = domain.createdAt.getTime();
  const isYoung = domain.status === 'pending' && domain.verifiedAt === null;
  // A domain that was verified before is not looked at by its age.
  const pendingSince = domain.receivingSince?.getTime() ?? createdAt;
  const youngTimes = isYoung ? youngAges.map((age) => createdAt + age).filter((at) => at > pendingSince) : [];
  const youngUntil = Math.min(progress.get(youngSlot)?.at ?? 0, now);

  const looked = [
    ...(domain.checkedAt ? [domain.checkedAt.getTime()] : []),
    ...youngTimes.filter((at) => at <= youngUntil),
  ];
  const wasInSlot = slot.at > 0 && slot.cycle + offsetOf(number, intervalMs) >= createdAt + untilWatched(intervalMs);
  if (isWatched && wasInSlot) looked.push(slot.at);

  const newest = dueSlot(number, now, intervalMs);
  const due = slot.cycle < newest.cycle ? newest.dueAt : newest.dueAt + intervalMs;
  const notBefore = slot.at > 0 ? slot.at + leastDistance(intervalMs) : 0;
  // Looks that were missed longer ago than the greatest age are not made up for.
  const missed = Math.max(youngUntil, now - Math.max(...youngAges));
  const coming = [Math.max(due, notBefore), ...youngTimes.filter((at) => at > missed)];
  return {
    lastCheckedAt: looked.length > 0 ? new Date(Math.max(...looked)) : null,
    nextCheckAt: isWatched ? new Date(Math.max(now, Math.min(...coming))) : null,
  };
}

const latest = (a: Date | null, b: Date | undefined): Date | null => (a && b ? (a > b ? a : b) : (b ?? a));

/** Milliseconds for which the progress that was read of the slots is reused. */
const freshMs = 1_000;

/**
 * Gives the times of domains from the table of the slots, which is read once a second at most, and from the looks that
 * were requested.
 */
export class Checks {
  private readonly requested: RequestedLooks;
  private readonly requestedAt: Together<string, Date>;
  private progress: Promise<ReadonlyMap<number, SlotProgress>> | undefined;
  private readAt = -Infinity;

  constructor(
    private readonly pool: Pool,
    private readonly intervalMs: number,
  ) {
    this.requested = new RequestedLooks(pool);
    this.requestedAt = new Together(
      (id) => id,
      (ids) => this.requested.of(ids),
    );
  }

  async timesOf(domain: CheckedDomain): Promise<CheckTimes> {
    // A requested look that has found nothing new follows one that was recorded.
    const isLookedAt = domain.checkedAt !== null;
    const [progress, requested] = await Promise.all([
      this.current(),
      isLookedAt ? this.requestedAt.of(domain.id) : undefined,
    ]);
    const checkedAt = latest(domain.checkedAt, requested);
    return checkTimes({ ...domain, checkedAt }, progress, Date.now(), this.intervalMs);
  }

  /** Notes a requested look that has found nothing new. */
  noteRequested(domainId: string, at: Date): Promise<void> {
    return this.requested.note(domainId, at);
  }

  /** Forgets the requested looks at domains that are gone, by an SQL condition on their id. */
  forgetRequested(isGone: (id: string) => string): Promise<void> {
    return this.requested.forget(isGone);
  }

  private current(): Promise<ReadonlyMap<number, SlotProgress>> {
    if (!this.progress || performance.now() - this.readAt > freshMs) {
      this.readAt = performance.now();
      const progress = this.read();
      // A read that failed is not reused.
      progress.catch(() => this.progress === progress && (this.progress = undefined));
      this.progress = progress;
    }
    return this.progress;
  }

  private async read(): Promise<ReadonlyMap<number, SlotProgress>> {
    const { rows } = await this.pool.query<SlotProgress & { slot: number }>({
      name: 'slots-progress',
      text: 'SELECT slot, completed_cycle::float8 AS cycle, completed_at::float8 AS at FROM slots',
    });
    return new Map(rows.map(({ slot, cycle, at }) => [slot, { cycle, at }]));
  }
}
