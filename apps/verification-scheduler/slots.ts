import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';
import { dueSlots, leastDistance, youngSlot } from '@app/cycle';

/** A slot that one scheduler has claimed for one cycle. */
export interface ClaimedSlot {
  readonly slot: number;
  readonly cycle: number;
  readonly token: string;
}

/** Stores the progress of each of the 360 slots, and which scheduler has claimed it. */
@Injectable()
export class Slots {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Claims up to `limit` due slots, the oldest first, for `leaseMs` (milliseconds), each only for its newest due cycle.
   * Slots without a domain to look at are closed at once.
   *
   * @param now milliseconds since the epoch.
   */
  async claim(now: number, intervalMs: number, limit: number, leaseMs: number): Promise<ClaimedSlot[]> {
    const due = dueSlots(now, intervalMs);
    const { rows } = await this.pool.query<ClaimedSlot>({
      name: 'slots-claim',
      text: `
        WITH due AS MATERIALIZED (
          SELECT s.slot, d.cycle, d.turn, EXISTS (
            SELECT FROM watched_domains w WHERE w.slot = s.slot AND w.status IN ('pending', 'verified')) AS inhabited
          FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS d(slot, cycle, turn) JOIN slots s USING (slot)
          WHERE s.completed_cycle < d.cycle AND s.completed_at <= $3
            AND (s.lease_until IS NULL OR s.lease_until <= now())
          ORDER BY d.turn FOR UPDATE OF s SKIP LOCKED
        ), closed AS (
          UPDATE slots SET completed_cycle = due.cycle FROM due WHERE slots.slot = due.slot AND NOT due.inhabited
        )
        UPDATE slots SET lease_token = gen_random_uuid(), lease_until = now() + $4 * interval '1 ms'
        FROM (SELECT slot, cycle FROM due WHERE inhabited ORDER BY turn LIMIT $5) AS taken
        WHERE slots.slot = taken.slot
        RETURNING slots.slot, taken.cycle::float8 AS cycle, lease_token AS token`,
      values: [
        due.map(({ slot }) => slot),
        due.map(({ cycle }) => cycle),
        Math.floor(now - leastDistance(intervalMs)),
        leaseMs,
        limit,
      ],
    });
    return rows;
  }

  /** Gives the time up to which the young domains have been looked at, in milliseconds since the epoch. */
  async youngUntil(): Promise<number> {
    const { rows } = await this.pool.query<{ until: number }>({
      name: 'slots-young-until',
      text: 'SELECT completed_at::float8 AS until FROM slots WHERE slot = $1',
      values: [youngSlot],
    });
    return rows[0]!.until;
  }

  /** Claims the young domains, unless another scheduler has; `until` is what `youngUntil` gives. */
  async claimYoung(leaseMs: number): Promise<(ClaimedSlot & { readonly until: number }) | undefined> {
    const { rows } = await this.pool.query<ClaimedSlot & { until: number }>({
      name: 'slots-claim-young',
      text: `
        UPDATE slots SET lease_token = gen_random_uuid(), lease_until = now() + $2 * interval '1 ms'
        WHERE slot = $1 AND (lease_until IS NULL OR lease_until <= now())
        RETURNING slot, completed_cycle::float8 AS cycle, lease_token AS token, completed_at::float8 AS until`,
      values: [youngSlot, leaseMs],
    });
    return rows[0];
  }

  /** Renews the lease. Gives false when another scheduler has claimed the slot. */
  async renew({ slot, token }: ClaimedSlot, leaseMs: number): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'slots-renew',
      text: `UPDATE slots SET lease_until = now() + $3 * interval '1 ms' WHERE slot = $1 AND lease_token = $2`,
      values: [slot, token, leaseMs],
    });
    return rowCount === 1;
  }

  /**
   * Closes the slot after the last look of its cycle. Has no effect when the lease was lost, since its new holder
   * closes the slot.
   */
  async close({ slot, cycle, token }: ClaimedSlot, now: number): Promise<void> {
    await this.pool.query({
      name: 'slots-close',
      text: `
        UPDATE slots SET completed_cycle = $3, completed_at = $4, lease_token = NULL, lease_until = NULL
        WHERE slot = $1 AND lease_token = $2`,
      values: [slot, token, cycle, now],
    });
  }

  /** Leaves the slot open; any scheduler can claim it after `delayMs` (milliseconds). */
  async release({ slot, token }: ClaimedSlot, delayMs: number): Promise<void> {
    await this.pool.query({
      name: 'slots-release',
      text: `
        UPDATE slots SET lease_token = NULL, lease_until = now() + $3 * interval '1 ms'
        WHERE slot = $1 AND lease_token = $2`,
      values: [slot, token, delayMs],
    });
  }

  /** Gives the milliseconds since the oldest open slot was due; 0 when none is open. */
  async lagMs(now: number, intervalMs: number): Promise<number> {
    const { rows } = await this.pool.query<{ slot: number; cycle: number }>(
      'SELECT slot, completed_cycle::float8 AS cycle FROM slots',
    );
    const completed = new Map(rows.map(({ slot, cycle }) => [slot, cycle]));
    const open = dueSlots(now, intervalMs).find(({ slot, cycle }) => (completed.get(slot) ?? 0) < cycle);
    return open ? now - open.dueAt : 0;
  }
}
