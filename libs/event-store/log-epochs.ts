import type { Connection } from '@app/database';
import { timeOfId } from '@app/runtime';
import type { Pool } from 'pg';
import { Epochs, type Epoch } from './epochs';

/** Reads the epochs of a log, the first one first. */
export async function readEpochs(client: Pick<Connection, 'query'>): Promise<Epoch[]> {
  const { rows } = await client.query<Epoch>(
    `SELECT log_id AS log, epoch::float8 AS number, after_position::float8 AS after FROM log_epochs
     ORDER BY log_epochs.epoch`,
  );
  return rows;
}

/**
 * Knows the epochs of the log of a database. They are read once for a pool, since they change by `raiseEpoch` alone,
 * while no process runs that would use them.
 */
export class LogEpochs {
  private static readonly known = new WeakMap<Pool, LogEpochs>();
  private loaded: Promise<Epochs> | undefined;

  private constructor(private readonly pool: Pool) {}

  /** Gives what knows the epochs in the database of a pool. */
  static of(pool: Pool): LogEpochs {
    const known = this.known.get(pool) ?? new LogEpochs(pool);
    this.known.set(pool, known);
    return known;
  }

  /** @throws {Error} the error of the database; the next call asks again. */
  epochs(): Promise<Epochs> {
    this.loaded ??= readEpochs(this.pool).then((all) => new Epochs(all));
    this.loaded.catch(() => (this.loaded = undefined));
    return this.loaded;
  }

  /** Gives events of the log with their epochs. */
  async place<Event extends { readonly position: number }>(events: readonly Event[]): Promise<Event[]> {
    const epochs = await this.epochs();
    return events.map((event) => epochs.placed(event));
  }
}

/** Milliseconds by which the clocks of processes may differ. */
const disorderMs = 300_000;

/** Knows what was made in the histories that restores of a log have ended, by the time that its id has. */
export class LostHistory {
  private spans: Promise<readonly { readonly from: number; readonly to: number }[]> | undefined;

  constructor(private readonly pool: Pool) {}

  /**
   * Tells whether a domain or a mailbox that the log does not know may be one that it has lost. Of a log that was never
   * restored none is.
   */
  async has(id: string): Promise<boolean> {
    this.spans ??= this.read();
    this.spans.catch(() => (this.spans = undefined));
    const time = timeOfId(id);
    return time !== undefined && (await this.spans).some(({ from, to }) => time >= from && time <= to);
  }

  private async read() {
    const { rows } = await this.pool.query<{ from: Date | null; to: Date }>(
      'SELECT lost_from AS "from", restored_at AS "to" FROM log_epochs WHERE epoch > 1',
    );
    return rows.map(({ from, to }) => ({ from: from?.getTime() ?? 0, to: to.getTime() + disorderMs }));
  }
}

/** What a restore has done to a log. */
export interface Raised {
  readonly epoch: Epoch;
  /** The newest event that the log has, 0 for none. */
  readonly upTo: number;
  /** The position after which new events begin. */
  readonly goesOnAfter: number;
}

/** What is said of a restore that is to be declared. */
export interface Restore {
  readonly reason: string;
  /** Positions are not given a second time up to here, where the log has come to before it was restored. */
  readonly givenUpTo: number;
  /**
   * The moment up to which the log has all that it had, where apps have recorded events since it was taken back, as
   * after a fail-over. Where nothing was recorded since, the log itself says how far it goes.
   */
  readonly lostSince?: Date | undefined;
  /** The time of the restore. */
  readonly now: Date;
}

/**
 * Positions that are left out beyond the newest that is known to have been given: what was given in the seconds before
 * the log was lost may be known to nobody.
 */
const leftOut = 1_000_000;

/**
 * Gives the position up to which a restored log has all that it ever had: what any consumer, or the sealer, had done at
 * the moment to which it was restored. Each of them goes no further than the in-flight fence, so everything at or below
 * was committed before that row was written, and the write-ahead log has both in that order.
 *
 * Events above it may have been recorded by transactions that were committed later, under lower positions than the
 * newest one that is there.
 *
 * @param settled a further position up to which the log is known to have all that it had, such as that of a seal.
 * @param lostSince as of a restore: positions that were drawn from that moment on are above what is given, whatever
 * consumers have done since.
 */
export async function keptUpTo(client: Connection, settled: number, lostSince?: Date): Promise<number> {
  if (lostSince) {
    const { rows } = await client.query<{ position: number }>(
      `SELECT position::float8 AS position FROM events WHERE time < $1::timestamptz - $2 * interval '1 ms'
       ORDER BY events.position DESC LIMIT 1`,
      [lostSince, disorderMs],
    );
    return rows[0]?.position ?? 0;
  }
  // The checkpoint of seals is the number of a seal, which is never above the positions that are sealed.
  const { rows } = await client.query<{ kept: number }>(
    `SELECT greatest(
       (SELECT coalesce(max(position), 0) FROM checkpoints),
       (SELECT coalesce(max(after_position), 0) FROM log_epochs)
     )::float8 AS kept`,
  );
  return Math.max(rows[0]!.kept, settled);
}

/**
 * Begins a new epoch of a restored log, in the open transaction, which holds `log_epochs` to its end. New events begin
 * above all positions that may have been given before.
 *
 * @param settled a further position up to which the log is known to have all that it had, such as that of a seal.
 */
export async function raiseEpoch(
  client: Connection,
  { reason, givenUpTo, lostSince, now }: Restore,
  settled = 0,
): Promise<Raised> {
  await client.query('LOCK TABLE log_epochs IN ACCESS EXCLUSIVE MODE');
  const epochs = await readEpochs(client);
  const newest = epochs.at(-1);
  if (!newest) throw new Error('The log has no identity. Run `sendmux migrate` first.');
  const kept = await keptUpTo(client, settled, lostSince);
  const { rows } = await client.query<{ upTo: number; drawn: number }>(
    `SELECT coalesce((SELECT max(position) FROM events), 0)::float8 AS "upTo",
       (last_value - (NOT is_called)::int)::float8 AS drawn FROM event_positions`,
  );
  const { upTo, drawn } = rows[0]!;
  // The newest event belongs to the epoch in any case, so that it is published again and whoever follows the log learns
  // of the epoch, also where nothing else happens.
  const after = Math.max(0, Math.min(kept, upTo - 1));
  const goesOnAfter = Math.max(upTo, drawn, givenUpTo) + leftOut;
  const number = Math.max(Math.floor(now.getTime() / 1_000), newest.number + 1);
  const epoch = { log: newest.log, number, after };
  await client.query(
    `INSERT INTO log_epochs (epoch, log_id, after_position, up_to, goes_on_after, restored_at, reason, lost_from)
     VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($10, (SELECT max(time) FROM events WHERE position > $8)) - $9 * interval '1 ms')`,
    [number, newest.log, after, upTo, goesOnAfter, now, reason, after, disorderMs, lostSince],
  );
  await client.query(`SELECT setval('event_positions', $1)`, [goesOnAfter]);
  return { epoch, upTo, goesOnAfter };
}

/** What a log keeps of a restore. Times are ISO 8601, UTC. */
export interface KeptRestore {
  /** The number of the epoch that begins with it. */
  readonly epoch: number;
  /** Events of earlier epochs above this position are void. */
  readonly after: number;
  /** The newest event that the log had, 0 for none. */
  readonly upTo: number;
  /** The position after which it went on. */
  readonly goesOnAfter: number;
  /** When the lost history begins; null where the restored log was empty. */
  readonly lostFrom: string | null;
  readonly restoredAt: string;
  readonly reason: string;
}

/** Reads what a log keeps of its restores, the oldest first. */
export async function keptRestores(client: Pick<Connection, 'query'>): Promise<KeptRestore[]> {
  const { rows } = await client.query<
    Omit<KeptRestore, 'lostFrom' | 'restoredAt'> & { lostFrom: Date | null; restoredAt: Date }
  >(
    `SELECT epoch::float8 AS epoch, after_position::float8 AS after, up_to::float8 AS "upTo",
       goes_on_after::float8 AS "goesOnAfter", lost_from AS "lostFrom", restored_at AS "restoredAt", reason
     FROM log_epochs WHERE epoch > 1 ORDER BY log_epochs.epoch`,
  );
  return rows.map((row) => ({
    ...row,
    lostFrom: row.lostFrom?.toISOString() ?? null,
    restoredAt: row.restoredAt.toISOString(),
  }));
}

/**
 * Gives a log the identity and the restores of the one that it was filled from, in the open transaction.
 *
 * @throws {Error} where the log has restores of its own.
 */
export async function importIdentity(
  client: Pick<Connection, 'query'>,
  log: string,
  restores: readonly KeptRestore[],
): Promise<void> {
  const { rows } = await client.query('UPDATE log_epochs SET log_id = $1 RETURNING epoch', [log]);
  if (rows.length !== 1) throw new Error('The log was restored before. Import into a new database.');
  for (const { epoch, after, upTo, goesOnAfter, lostFrom, restoredAt, reason } of restores)
    await client.query(
      `INSERT INTO log_epochs (epoch, log_id, after_position, up_to, goes_on_after, lost_from, restored_at, reason)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [epoch, log, after, upTo, goesOnAfter, lostFrom, restoredAt, reason],
    );
}

/** Gives the newest event of a log; undefined of an empty one. */
export async function newestEvent(
  client: Connection,
): Promise<
  { readonly stream: string; readonly version: number; readonly time: Date; readonly position: number } | undefined
> {
  const { rows } = await client.query<{ stream: string; version: number; time: Date; position: number }>(
    `SELECT stream, version, time, position::float8 AS position FROM events ORDER BY events.position DESC LIMIT 1`,
  );
  return rows[0];
}

/** Gives when the log was last restored, where nothing was recorded since; undefined otherwise. */
export async function restoredWithNothingSince(client: Connection): Promise<Date | undefined> {
  const { rows } = await client.query<{ at: Date }>(
    `SELECT restored_at AS at FROM log_epochs, event_positions
     WHERE epoch > 1 AND goes_on_after = last_value
       AND up_to >= coalesce((SELECT max(position) FROM events), 0)
     ORDER BY epoch DESC LIMIT 1`,
  );
  return rows[0]?.at;
}

/** Gives the names of the events above a position: streams and versions, side by side. */
export async function namesAbove(
  client: Connection,
  position: number,
): Promise<{ readonly streams: string[]; readonly versions: number[] }> {
  const { rows } = await client.query<{ stream: string; version: number }>(
    'SELECT stream, version FROM events WHERE position > $1 ORDER BY events.position',
    [position],
  );
  return { streams: rows.map(({ stream }) => stream), versions: rows.map(({ version }) => version) };
}

/** What says which event a message is of. */
export interface Told {
  readonly position: number;
  readonly stream: string;
  readonly version: number;
}

/**
 * Gives those of some events that were told of and that the log does not have where they were, the first one first:
 * the log was taken back, whether it has come further since or not. What archives cover is left out.
 */
export async function notInLog<T extends Told>(client: Pick<Connection, 'query'>, events: readonly T[]): Promise<T[]> {
  const { rows } = await client.query<{ at: number }>(
    `SELECT (at - 1)::int AS at
     FROM unnest($1::bigint[], $2::text[], $3::int[]) WITH ORDINALITY AS told (position, stream, version, at)
     WHERE told.position > (SELECT coalesce(max(upper), 0) FROM event_archives)
       AND NOT EXISTS (SELECT FROM events
         WHERE events.position = told.position AND events.stream = told.stream AND events.version = told.version)
     ORDER BY told.position, at`,
    [events.map(({ position }) => position), events.map(({ stream }) => stream), events.map(({ version }) => version)],
  );
  return rows.map(({ at }) => events[at]!);
}
