/**
 * When a domain was looked at, and will be. A healthy domain costs no write, so nothing is kept of a look at it: both are
 * functions of time, of how far its slot has come, and of the last check that was recorded.
 */
import { Pool } from 'pg';
import { dueSlot, leastDistance, offsetOf, slotOf, youngAges, youngSlot } from './cycle';

/** What the times of a domain depend on. */
export interface CheckedDomain {
  readonly id: string;
  readonly status: 'pending' | 'verified' | 'failed' | 'deleting';
  readonly createdAt: Date;
  readonly verifiedAt: Date | null;
  /** Of the last recorded check. */
  readonly checkedAt: Date | null;
}

/** How far a slot has come. */
export interface SlotProgress {
  /** The newest cycle in which all of its domains were looked at; 0 before the first. */
  readonly cycle: number;
  /** When that was, in milliseconds since the epoch; of the young slot, up to which age's time. */
  readonly at: number;
}

export interface CheckTimes {
  readonly lastCheckedAt: Date | null;
  /** Null of a domain that the cycle leaves out. */
  readonly nextCheckAt: Date | null;
}

/** From the add until a domain is surely among those that are looked at, in milliseconds. */
const untilWatched = (intervalMs: number): number => Math.min(60_000, intervalMs / 10);

/**
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
  const youngTimes = isYoung ? youngAges.map((age) => createdAt + age) : [];
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
  // No further back than the greatest age: nobody looks at what was missed before.
  const missed = Math.max(youngUntil, now - Math.max(...youngAges));
  const coming = [Math.max(due, notBefore), ...youngTimes.filter((at) => at > missed)];
  return {
    lastCheckedAt: looked.length > 0 ? new Date(Math.max(...looked)) : null,
    nextCheckAt: isWatched ? new Date(Math.max(now, Math.min(...coming))) : null,
  };
}

/** How long what was read of the slots is believed, in milliseconds. */
const freshMs = 1_000;

/** The times of domains, from the table of the slots, which is read once a second at most. */
export class Checks {
  private progress: Promise<ReadonlyMap<number, SlotProgress>> | undefined;
  private readAt = -Infinity;

  constructor(
    private readonly pool: Pool,
    private readonly intervalMs: number,
  ) {}

  async timesOf(domain: CheckedDomain): Promise<CheckTimes> {
    return checkTimes(domain, await this.current(), Date.now(), this.intervalMs);
  }

  private current(): Promise<ReadonlyMap<number, SlotProgress>> {
    if (!this.progress || performance.now() - this.readAt > freshMs) {
      this.readAt = performance.now();
      const progress = this.read();
      // A failure is not kept.
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
