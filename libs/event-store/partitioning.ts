import { setTimeout as sleep } from 'node:timers/promises';
import { assertReplaceable, copyRights, inSession, inTransaction, isLockTimeout, type Connection } from '@app/database';
import { DatabaseError, type Pool } from 'pg';
import { partitionSize, partitionTable, stepsToMake, triggersOf } from './partition-table';

/** Events with which a log is small: it is partitioned as it is migrated, within some tenths of a second. */
const smallLog = 100_000;
/** The bound of what is to be the first partition. It is there while the conversion runs, and never without it. */
const boundOfFirst = 'events_below_partitions';
/** Key of the advisory lock that a conversion holds for as long as it runs. */
const conversionLock = 0x5e4f;
/** Milliseconds for which a lock of the table is waited for, so that no queries queue behind the request for long. */
const lockWithinMs = 100;
const retryMs = 500;

/** Tells whether the events are one table, as releases before partitions made it. */
export async function isOneTable(client: Pick<Connection, 'query'>): Promise<boolean> {
  const { rows } = await client.query<{ is: boolean }>(
    `SELECT relkind = 'r' AS is FROM pg_class WHERE oid = to_regclass('events')`,
  );
  return rows[0]?.is === true;
}

export interface PartitionOptions {
  /** Positions in a partition, from the second one on. */
  readonly size?: number;
  /** Stops before the tables are exchanged, and leaves the log as it was. */
  readonly signal?: AbortSignal;
  /** Called before the table is read from end to end, which takes long and holds up nobody. */
  readonly onReading?: () => void;
  /** Milliseconds to wait for others that hold the table, before it gives up; 60,000 when absent. */
  readonly patienceMs?: number;
}

/** What a conversion has done. */
export interface Partitioned {
  /** The last position of the first partition, which is the table that was there. */
  readonly upTo: number;
  /** How long appends and readers waited while the tables were exchanged, at most, in milliseconds. */
  readonly lockedMs: number;
}

/**
 * Makes the table of a log the first partition of a new one. Appends and reads go on meanwhile. No row is copied or
 * changed: the table is read once, to prove its bound, and gets another name. A run that dies at any point leaves the
 * log as it was or partitioned.
 *
 * @returns undefined when the log is partitioned already.
 * @throws {Error} when another conversion runs, when something depends on the table itself, or when others hold the
 * table for too long.
 * @throws the reason of the signal, when it is aborted.
 */
export async function partitionEvents(
  pool: Pool,
  { size = partitionSize, signal, patienceMs = 60_000, onReading }: PartitionOptions = {},
): Promise<Partitioned | undefined> {
  try {
    return await inSession(pool, signal, async (session) => {
      const { rows } = await session.query<{ ours: boolean }>('SELECT pg_try_advisory_lock($1) AS ours', [
        conversionLock,
      ]);
      if (!rows[0]!.ours) throw new Error('Another conversion of the log is running.');
      if (!(await isOneTable(session))) return undefined;
      await assertReplaceable(session, 'events');
      const upTo = await boundFor(session, size);
      const deadline = Date.now() + patienceMs;
      const soon = (work: () => Promise<void>) => withShortLocks(session, work, deadline, signal);
      await soon(async () => {
        await session.query(dropBound);
        await session.query(
          `ALTER TABLE events ADD CONSTRAINT ${boundOfFirst} CHECK (position < ${upTo + 1n}) NOT VALID`,
        );
      });
      onReading?.();
      // Reads the table under a lock that holds up no append and no reader.
      await session.query(`ALTER TABLE events VALIDATE CONSTRAINT ${boundOfFirst}`);
      const lockedMs = await soon(() => exchange(session, upTo, BigInt(size)));
      return { upTo: Number(upTo), lockedMs };
    });
  } finally {
    await endUnfinished(pool);
  }
}

/** Takes back what a conversion that died has left: a bound that appends would meet one day. */
export async function endUnfinished(pool: Pool): Promise<void> {
  const { rowCount } = await pool.query(
    `SELECT FROM pg_constraint WHERE conname = '${boundOfFirst}' AND conrelid = to_regclass('events')`,
  );
  if (rowCount === 0) return;
  try {
    await inTransaction(pool, async (client) => {
      await client.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
      const { rows } = await client.query<{ ours: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS ours', [
        conversionLock,
      ]);
      if (rows[0]!.ours) await client.query(dropBound);
    });
  } catch (error) {
    // The next call tries again.
    if (!isLockTimeout(error)) throw error;
  }
}

const dropBound = `ALTER TABLE IF EXISTS events DROP CONSTRAINT IF EXISTS ${boundOfFirst}`;

/**
 * Partitions a log that is empty or small, in the open transaction. It leaves one that is large, or on which something
 * depends, as it is, and so one that others hold: `sendmux events partition` does those.
 */
export async function partitionSmall(client: Connection): Promise<void> {
  const { rows } = await client.query<{ events: number }>(
    `SELECT count(*)::int AS events FROM (SELECT FROM events LIMIT ${smallLog + 1}) AS counted`,
  );
  if (rows[0]!.events > smallLog || !(await isOneTable(client))) return;
  await client.query('SAVEPOINT before_partitions');
  try {
    await assertReplaceable(client, 'events');
    await client.query(`SET LOCAL lock_timeout = '5s'`);
    await exchange(client, await boundFor(client, partitionSize), BigInt(partitionSize));
  } catch {
    await client.query('ROLLBACK TO SAVEPOINT before_partitions');
  }
}

/**
 * Runs `work` in a transaction that waits for no lock for long, again and again until it has had its locks.
 *
 * @returns the milliseconds of the last time, for which others have waited at most.
 */
export async function withShortLocks(
  session: Connection,
  work: () => Promise<void>,
  deadline: number,
  signal?: AbortSignal,
): Promise<number> {
  for (;;) {
    signal?.throwIfAborted();
    const began = performance.now();
    try {
      await session.query('BEGIN');
      await session.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
      await work();
      await session.query('COMMIT');
      return performance.now() - began;
    } catch (error) {
      await session.query('ROLLBACK').catch(() => undefined);
      if (!isLockTimeout(error)) throw error;
      if (Date.now() >= deadline)
        throw new Error(
          error instanceof DatabaseError
            ? `Others hold the table events, without a pause: ${await holders(session)}.`
            : error.message,
          { cause: error },
        );
    }
    await sleep(retryMs);
  }
}

async function holders(session: Connection): Promise<string> {
  const { rows } = await session.query<{ pid: number; mode: string }>(
    `SELECT pid, mode FROM pg_locks WHERE relation = 'events'::regclass AND granted AND pid <> pg_backend_pid()
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  return rows.map(({ pid, mode }) => `server process ${pid} (${mode})`).join(', ') || 'now one, now another';
}

/** Gives the last position of the first partition: the end of a partition that has room for half of one still. */
async function boundFor(client: Connection, size: number): Promise<bigint> {
  const { drawn } = await sequence(client);
  const [each, used] = [BigInt(size), drawn + BigInt(size >> 1)];
  return ((used + each - 1n) / each) * each;
}

async function sequence(client: Connection): Promise<{ drawn: bigint }> {
  const { rows } = await client.query<{ drawn: string }>(
    'SELECT (last_value - (NOT is_called)::int)::text AS drawn FROM event_positions',
  );
  return { drawn: BigInt(rows[0]!.drawn) };
}

/** Puts a partitioned table in the place of the table of events, which becomes its first partition. */
async function exchange(client: Connection, upTo: bigint, size: bigint): Promise<void> {
  await client.query('LOCK TABLE events IN ACCESS EXCLUSIVE MODE');
  // No append is in flight now: each locks the table before it draws a position.
  const { drawn } = await sequence(client);
  const first = partitionTable(1);
  // An identity column cannot be in a partition, and takes its sequence with it. Another one goes on where it stands.
  const oldSequence = `${first}_positions`;
  await client.query(
    [
      `ALTER TABLE events RENAME TO ${first}`,
      `ALTER INDEX events_pkey RENAME TO ${first}_pkey`,
      `ALTER SEQUENCE event_positions RENAME TO ${oldSequence}`,
      `CREATE SEQUENCE event_positions AS bigint CACHE 1 START WITH ${drawn + 1n}`,
      `CREATE TABLE events (LIKE ${first} INCLUDING STORAGE, PRIMARY KEY (position)) PARTITION BY RANGE (position)`,
    ].join(';\n'),
  );
  await copyRights(client, oldSequence, 'event_positions');
  await copyRights(client, first, 'events');
  await client.query(
    [
      `ALTER TABLE ${first} ALTER COLUMN position DROP IDENTITY`,
      `ALTER TABLE events ALTER COLUMN position SET DEFAULT nextval('event_positions')`,
      'ALTER SEQUENCE event_positions OWNED BY events.position',
      ...triggersOf('events'),
      `ALTER TABLE events ATTACH PARTITION ${first} FOR VALUES FROM (MINVALUE) TO (${upTo + 1n})`,
      `ALTER TABLE ${first} DROP CONSTRAINT IF EXISTS ${boundOfFirst}`,
      `INSERT INTO event_partitions (number, lower, upper, is_open) VALUES (1, 0, ${upTo}, true)`,
      ...stepsToMake({ number: 2, lower: upTo, upper: upTo + size }),
    ].join(';\n'),
  );
  await copyRights(client, first, partitionTable(2));
}
