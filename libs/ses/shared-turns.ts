import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { isPassingFault, unwaited, withClient } from '@app/database';
import { backOffMs, Counter, Histogram, type SesShard } from '@app/runtime';
import type { Pool } from 'pg';
import {
  goesBefore,
  graceMs,
  leasesByPriority,
  rankOf,
  spacingMs,
  turnsALease,
  windowMs,
  type Turns,
  type WaitingCall,
} from './turns';

const waits = new Histogram({
  name: 'sendmux_ses_wait_seconds',
  help: 'How long calls of SES waited for their turn, by shard and priority',
  labelNames: ['shard', 'priority'],
  buckets: [0.1, 0.5, 1, 2, 5, 10, 30, 60, 300],
});
const throttles = new Counter({
  name: 'sendmux_ses_throttles_total',
  help: 'Calls that SES has throttled, by shard',
  labelNames: ['shard'],
});
const missed = new Counter({
  name: 'sendmux_ses_missed_turns_total',
  help: 'Turns that this process has leased and was too late for, by shard',
  labelNames: ['shard'],
});

/** Milliseconds before its beginning at which a turn is leased at the earliest: until then others may overtake. */
const aheadMs = 100;
/** Milliseconds of turns in one lease, and by which a call may be late, up to which it does not wait for the disk. */
const longestUnwaitedMs = 250;
/** Shortest and longest wait until a process that waits asks again, in milliseconds. */
const [leastPollMs, pollMs] = [10, 1_000];
/** Milliseconds after which a process that has not asked again waits no more. It must be longer than `pollMs`. */
const waitsMs = 2_000;
/** Back-off after a throttle, for all processes; it doubles while throttles come within some windows of its end. */
const throttleBackOff = { baseMs: 500, capMs: 8_000 };
/**
 * Windows in which SES counts calls, without a throttle, after which the next throttle begins anew. Calls that are
 * still too many are throttled in each window; one that comes later than that has another cause.
 */
const calmWindows = 10;
/** Back-off while the database is away. */
const absenceBackOff = { baseMs: 100, capMs: 2_000 };
/** The most by which a process that is slow may be late for its turn, in milliseconds. */
const longestSlackMs = 2_000;

/**
 * When the next turn begins that nobody has. A time that is further away than any lease or back-off was written before
 * the clock of the database was set back.
 */
const nextTurn = `greatest(now(), CASE WHEN next_at < now() + interval '2 minutes' THEN next_at ELSE now() END)`;

/** Milliseconds before now, as a time. */
const sinceMs = (ms: string): string => `now() - ${ms} * interval '1 ms'`;

/** Whether a lease with that number goes to the call that has waited longest. */
const isOldestsTurn = (number: string): string => `(${number}) % ${leasesByPriority} = 0`;

/** The other processes whose call goes first, of those that wait for the turns `t`. */
const othersFirst = `FROM ses_waits w
  WHERE w.shard = $1 AND w.process <> $2 AND w.until BETWEEN now() AND now() + interval '1 minute'
    AND CASE WHEN ${isOldestsTurn('t.leases')} THEN w.oldest < ${sinceMs('$5')}
      ELSE (w.priority, w.since) < ($3::smallint, ${sinceMs('$4')}) END`;

/** When a call may begin, by `performance.now()`. */
interface Turn {
  readonly from: number;
  readonly until: number;
  /** Whether it is for the call that has waited longest, whatever its priority. */
  readonly isForOldest: boolean;
}

/** What a process asks for, beside its calls that wait: the priority, and waits in milliseconds. */
type Claim = readonly [priority: number, waitedMs: number, oldestWaitedMs: number];

interface Waiting extends WaitingCall {
  readonly begin: () => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Gives the calls of one shard their turns, one after the other over all processes, by a row in PostgreSQL that says
 * when the next turn begins. A process leases turns only for calls that wait, shortly before they begin, and a few at
 * once where the rate is high. A leased turn is a moment: it cannot be used earlier, and is lost when nobody uses it
 * then, so a process that dies holds up nobody.
 *
 * Processes whose calls have to wait are in a table, and a lease goes to the call of the highest priority, one in
 * `leasesByPriority` to the call that has waited longest. All times are by the clock of the database. While the
 * database is away calls wait: no two processes could know otherwise that they do not call at the same time.
 */
export class SharedTurns implements Turns {
  private readonly logger = new Logger(SharedTurns.name);
  /** Tells this process from others, for as long as it runs. */
  private readonly id = randomUUID();
  private readonly waiting = new Set<Waiting>();
  private readonly shard: string;
  /** Calls a second. */
  private readonly rate: number;
  private readonly turnsALease: number;
  /** The number of turns that were leased and have not begun. */
  private leased = 0;
  /** Milliseconds by which this process was recently late for a turn: it asks for turns that bear it. */
  private slackMs = 0;
  private isRegistered = false;
  private isKnown = false;
  private isLeasing = false;
  private wake: () => void = () => undefined;

  /** @param shard whose calls these are, with the number that all processes together make in a second. */
  constructor(
    private readonly pool: Pool,
    { name, callsPerSecond }: Pick<SesShard, 'name' | 'callsPerSecond'>,
  ) {
    this.shard = name;
    this.rate = callsPerSecond;
    this.turnsALease = turnsALease(callsPerSecond);
  }

  async take(call: WaitingCall): Promise<void> {
    const { shard, waiting } = this;
    const { priority, signal, since } = call;
    signal?.throwIfAborted();
    const first = this.first();
    let giveUp: () => void;
    const turn = new Promise<void>((begin, reject) => {
      const own = { ...call, begin, reject };
      giveUp = () => {
        waiting.delete(own);
        reject(signal!.reason as Error);
      };
      signal?.addEventListener('abort', giveUp);
      waiting.add(own);
    });
    if (!first || goesBefore(call, first)) this.wake();
    void this.lease();
    try {
      await turn;
      waits.observe({ shard, priority }, (performance.now() - since) / 1_000);
    } finally {
      signal?.removeEventListener('abort', giveUp!);
    }
  }

  async slowDown(beganAt: number): Promise<void> {
    throttles.inc({ shard: this.shard });
    const { baseMs, capMs } = throttleBackOff;
    try {
      const { rowCount } = await withClient(this.pool, (client) =>
        client.query({
          name: 'ses-turns-slow-down',
          // A call that began before the last back-off was written is one of those that it was written for.
          text: `
            UPDATE ses_turns SET (back_off_ms, slowed_at, next_at) = (
              SELECT ms, now(), ${nextTurn} + ms * interval '1 ms'
              FROM (SELECT CASE WHEN slowed_at + (back_off_ms + $3) * interval '1 ms' > now()
                THEN least($5::integer, back_off_ms * 2) ELSE $4::integer END AS ms) AS longer)
            WHERE shard = $1 AND slowed_at < now() - $2 * interval '1 ms'`,
          values: [this.shard, performance.now() - beganAt, calmWindows * windowMs(this.rate), baseMs, capMs],
        }),
      );
      if (rowCount) this.logger.warn(`SES throttles shard ${this.shard}: the calls of all processes wait for a while`);
    } catch (error) {
      this.logger.warn(`The other processes cannot be told that SES throttles: ${(error as Error).message}`);
      await delay(baseMs);
    }
  }

  /** Leases turns until there is one for each call that waits. */
  private async lease(): Promise<void> {
    if (this.isLeasing) return;
    this.isLeasing = true;
    for (let failures = 0; this.waiting.size > this.leased;) {
      try {
        await this.pause(await this.ask());
        failures = 0;
      } catch (error) {
        if (!isPassingFault(error)) this.rejectAll(error);
        failures += 1;
        if (failures === 1)
          this.logger.warn(`Calls of SES wait for their turns until the database is back: ${(error as Error).message}`);
        await this.pause(backOffMs(absenceBackOff, failures));
      }
    }
    this.isLeasing = false;
    if (this.isRegistered) await this.withdraw();
  }

  /** Asks for turns. Gives the milliseconds after which it is worth asking again; 0 when there were some. */
  private async ask(): Promise<number> {
    if (!this.isKnown) await this.makeKnown();
    const first = this.first();
    if (!first) return 0;
    const claim = this.claimOf(first);
    const count = Math.min(this.waiting.size - this.leased, this.turnsALease);
    const lease = await this.leaseTurns(claim, count, this.slackMs);
    if (!lease) return this.register(claim);
    const { spacing, from, until, isForOldest } = lease;
    for (let i = 0; i < count; i++)
      void this.use({ from: from + i * spacing, until: until + i * spacing, isForOldest });
    return 0;
  }

  private claimOf(first: WaitingCall): Claim {
    const now = performance.now();
    return [rankOf[first.priority], now - first.since, now - this.oldest()!.since];
  }

  /**
   * Leases the next turns, unless they begin later than shortly, or another call goes first. Gives the first of them by
   * the clock of this process, which differs from that of the database by a time that is known but for what the answer
   * took: it begins no earlier, and ends no later.
   *
   * Short leases do not wait for the disk: what a server forgets of them when it crashes is over when it is back.
   *
   * @param slackMs by which this process may be late. All turns bear it from then on, until no window has a late call.
   */
  private async leaseTurns(
    claim: Claim,
    count: number,
    slackMs: number,
  ): Promise<(Turn & { readonly spacing: number }) | undefined> {
    const lengthMs = count * spacingMs(this.rate);
    const lengthOfSlack = count * (spacingMs(this.rate, 1) - spacingMs(this.rate));
    return withClient(this.pool, async (client) => {
      const askedAt = performance.now();
      const { rows } = await client.query<{ inMs: number; slackMs: number; isForOldest: boolean }>({
        name: 'ses-turns-lease',
        text: `
          WITH leased AS (
            UPDATE ses_turns t SET (leases, slack_ms, slack_until, next_at) = (
              SELECT t.leases + 1, slack, CASE WHEN $9::float8 > 0 THEN until ELSE t.slack_until END, next
              FROM (SELECT greatest($9::float8, CASE WHEN t.slack_until > now() THEN t.slack_ms ELSE 0 END) AS slack) AS s,
              LATERAL (SELECT ${nextTurn} + ($6::float8 + $7::float8 * slack) * interval '1 ms' AS next) AS n,
              LATERAL (SELECT greatest(t.slack_until, next + ($10::float8 + $9::float8) * interval '1 ms') AS until) AS u)
            WHERE shard = $1 AND ${nextTurn} <= now() + $8 * interval '1 ms' AND NOT EXISTS (SELECT ${othersFirst})
            RETURNING extract(epoch FROM next_at - now())::float8 * 1000 - $6 - $7 * slack_ms AS "inMs",
              slack_ms AS "slackMs", ${isOldestsTurn('leases - 1')} AS "isForOldest"
          ), withdrawn AS (
            DELETE FROM ses_waits USING leased WHERE shard = $1 AND process = $2
          )
          SELECT *, CASE WHEN $6 + ($7 + 1) * "slackMs" <= $11::float8 THEN ${unwaited} END FROM leased`,
        values: [
          this.shard,
          this.id,
          ...claim,
          lengthMs,
          lengthOfSlack,
          aheadMs,
          slackMs,
          windowMs(this.rate),
          longestUnwaitedMs,
        ],
      });
      if (!rows[0]) return undefined;
      this.isRegistered = false;
      const { inMs, isForOldest, slackMs: slack } = rows[0];
      const until = askedAt + inMs + graceMs + slackMs;
      return { from: performance.now() + inMs, until, isForOldest, spacing: spacingMs(this.rate, slack) };
    });
  }

  /** Has the call that goes first begin in a turn. */
  private async use({ from, until, isForOldest }: Turn): Promise<void> {
    this.leased += 1;
    const earlyMs = from - performance.now();
    // A timer cannot wait for less than a millisecond.
    if (earlyMs >= 1) await delay(earlyMs);
    this.leased -= 1;
    const lateMs = performance.now() - until;
    if (lateMs > 0) {
      missed.inc({ shard: this.shard });
      this.slackMs = Math.min(longestSlackMs, 2 * (this.slackMs + lateMs));
    } else {
      this.slackMs = this.slackMs > 1 ? this.slackMs * 0.9 : 0;
      const first = isForOldest ? this.oldest() : this.first();
      if (first) this.waiting.delete(first);
      first?.begin();
    }
    void this.lease();
  }

  /** Tells other processes that a call waits. Gives the milliseconds until its turn may be leased. */
  private async register(claim: Claim): Promise<number> {
    this.isRegistered = true;
    const { rows } = await this.pool.query<{ inMs: number }>({
      name: 'ses-turns-register',
      text: `
        WITH registered AS (
          INSERT INTO ses_waits (shard, process, priority, since, oldest, until)
          VALUES ($1, $2, $3, ${sinceMs('$4')}, ${sinceMs('$5')}, now() + $6 * interval '1 ms')
          ON CONFLICT (shard, process) DO UPDATE SET
            priority = excluded.priority, since = excluded.since, oldest = excluded.oldest, until = excluded.until
        )
        SELECT extract(epoch FROM ${nextTurn} - now())::float8 * 1000 + $7::float8 * (SELECT count(*) ${othersFirst}) AS "inMs"
        FROM ses_turns t WHERE shard = $1`,
      values: [this.shard, this.id, ...claim, waitsMs, spacingMs(this.rate)],
    });
    // Somebody has emptied the table.
    if (!rows[0]) this.isKnown = false;
    return Math.min(pollMs, Math.max(leastPollMs, (rows[0]?.inMs ?? 0) - aheadMs));
  }

  private async withdraw(): Promise<void> {
    this.isRegistered = false;
    await this.pool
      .query({
        name: 'ses-turns-withdraw',
        text: 'DELETE FROM ses_waits WHERE shard = $1 AND process = $2',
        values: [this.shard, this.id],
      })
      // It ends by itself.
      .catch(() => undefined);
  }

  /** Makes the row of the shard, and removes what processes have left that have died. */
  private async makeKnown(): Promise<void> {
    await this.pool.query('INSERT INTO ses_turns (shard) VALUES ($1) ON CONFLICT DO NOTHING', [this.shard]);
    await this.pool.query(`DELETE FROM ses_waits WHERE shard = $1 AND until < now() - interval '1 minute'`, [
      this.shard,
    ]);
    this.isKnown = true;
  }

  /** Waits, or until a call comes that goes before all others of this process. */
  private async pause(ms: number): Promise<void> {
    if (ms === 0) return;
    const woken = new AbortController();
    this.wake = () => woken.abort();
    await delay(ms, undefined, { signal: woken.signal }).catch(() => undefined);
    this.wake = () => undefined;
  }

  /** Gives the call of this process that goes first. */
  private first(): Waiting | undefined {
    let first: Waiting | undefined;
    for (const each of this.waiting) if (!first || goesBefore(each, first)) first = each;
    return first;
  }

  /** Gives the call of this process that has waited longest. */
  private oldest(): Waiting | undefined {
    let oldest: Waiting | undefined;
    for (const each of this.waiting) if (!oldest || each.since < oldest.since) oldest = each;
    return oldest;
  }

  private rejectAll(error: unknown): void {
    for (const { reject } of this.waiting) reject(error);
    this.waiting.clear();
  }
}
