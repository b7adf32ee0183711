import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { openClient, openPool } from '@app/database';
import type { Pool } from 'pg';
import { DatabaseProxy } from '../../test/support/database-proxy';
import { sample } from '../../test/support/sample';
import { databaseWith, testDatabase, type TestDatabase } from '../../test/support/test-database';
import { sesMigrations } from './ses.migration';
import { SharedTurns } from './shared-turns';
import { spacingMs, type Priority } from './turns';

let database: TestDatabase;
let pools: Pool[];
let shards = 0;
let shard: string;

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith(sesMigrations);
});
afterAll(() => database.drop());
beforeEach(() => {
  pools = [];
  shard = `shard-${(shards += 1)}`;
});
afterEach(async () => {
  for (const pool of pools) if (!pool.ended) await pool.end();
});

/** What a process has: a pool, and the turns of a shard. */
function startProcess(callsPerSecond: number, url = database.url): { pool: Pool; turns: SharedTurns } {
  const pool = openPool(url, 4);
  pools.push(pool);
  return { pool, turns: new SharedTurns(pool, { name: shard, callsPerSecond }) };
}

const call = (priority: Priority, signal?: AbortSignal) => ({ priority, signal, since: performance.now() });

/** Gives the largest number of times within any second. */
function mostInASecond(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return Math.max(...sorted.map((at, i) => sorted.slice(i).filter((other) => other < at + 1_000).length));
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

/** Makes calls in a process, each of which waits for the one before it, until the signal aborts. */
async function callUntil(
  turns: SharedTurns,
  signal: AbortSignal,
  priority: Priority,
  begun: (waitedMs: number) => void,
) {
  while (!signal.aborted) {
    const since = performance.now();
    await turns.take({ priority, signal, since }).then(
      () => begun(performance.now() - since),
      (error: unknown) => {
        if (!signal.aborted) throw error;
      },
    );
  }
}

it.each([
  [1.7, sample(2_500, 20_000)],
  [100, sample(1_500, 20_000)],
])('six processes together make %d calls in any second at most, and most of them', async (rate, forMs) => {
  const times: number[] = [];
  const signal = AbortSignal.timeout(forMs);
  const callers = Array.from({ length: 6 }, () => startProcess(rate)).flatMap(({ turns }) =>
    Array.from({ length: 10 }, () => callUntil(turns, signal, 'check', () => times.push(performance.now()))),
  );
  await Promise.all(callers);
  expect(mostInASecond(times)).toBeLessThanOrEqual(Math.ceil(rate));
  expect(times.length).toBeGreaterThan((0.4 * forMs) / spacingMs(rate));
});

it('the calls of customers wait less than those of others', async () => {
  const waits: Record<Priority, number[]> = { change: [], check: [], background: [] };
  const signal = AbortSignal.timeout(3_000);
  const [busy, other] = [startProcess(10), startProcess(10)];
  // Two listings and a process that checks much take all turns that there are; a customer comes now and then.
  const priorities = Array.from({ length: 12 }, (_, i) => (i < 2 ? 'background' : 'check'));
  const callers = priorities.map((priority, i) =>
    callUntil([busy, other][i % 2]!.turns, signal, priority, (waitedMs) => waits[priority].push(waitedMs)),
  );
  const customer = startProcess(10);
  while (!signal.aborted) {
    const since = performance.now();
    await customer.turns.take({ priority: 'change', since });
    waits.change.push(performance.now() - since);
    await sleep(300);
  }
  await Promise.all(callers);
  expect(median(waits.change)).toBeLessThan(0.5 * median(waits.check));
  expect(waits.check.length).toBeGreaterThan(3 * waits.background.length);
});

it('a listing waits for a bounded number of turns, however many customers come', async () => {
  const [{ turns }, customers] = [startProcess(7), startProcess(7)];
  const crowd = Array.from({ length: 20 }, () => customers.turns.take(call('change')));
  const patient = { priority: 'background' as const, since: performance.now() - 1_000 };
  const order: string[] = [];
  await Promise.all([
    turns.take(patient).then(() => order.push('listing')),
    ...crowd.map((each) => each.then(() => order.push('customer'))),
  ]);
  expect(order.indexOf('listing')).toBeLessThan(12);
});

it('a throttled call slows all processes down, by more each time, and by one step for calls of one moment', async () => {
  const [first, second] = [startProcess(50), startProcess(50)];
  const backOff = async () =>
    (await first.pool.query<{ ms: number }>('SELECT back_off_ms AS ms FROM ses_turns WHERE shard = $1', [shard]))
      .rows[0]!.ms;
  await first.turns.take(call('check'));
  const began = performance.now();
  await sleep(400);
  const throttled = performance.now();
  await Promise.all([first.turns.slowDown(began), second.turns.slowDown(began), second.turns.slowDown(began)]);
  expect(await backOff()).toBe(500);
  await second.turns.take(call('change'));
  expect(performance.now() - throttled).toBeGreaterThanOrEqual(500);
  const again = performance.now();
  await second.turns.slowDown(again);
  expect(await backOff()).toBe(1_000);
  await first.turns.take(call('check'));
  expect(performance.now() - again).toBeGreaterThanOrEqual(1_000);
});

it.each([
  [50, 9, 1_000],
  [50, 12, 500],
  [0.2, 45, 1_000],
  [0.2, 52, 500],
])('at %d calls a second, a throttle that comes %d s after another one waits for %d ms', async (rate, seconds, ms) => {
  const { turns, pool } = startProcess(rate);
  await turns.take(call('check'));
  await turns.slowDown(performance.now());
  await pool.query('UPDATE ses_turns SET slowed_at = slowed_at - $2 * interval $$1 s$$ WHERE shard = $1', [
    shard,
    seconds,
  ]);
  await turns.slowDown(performance.now());
  const { rows } = await pool.query('SELECT back_off_ms AS ms FROM ses_turns WHERE shard = $1', [shard]);
  expect(rows).toEqual([{ ms }]);
});

it('a process that dies holds up the others for two seconds at most, whatever it had leased or waited for', async () => {
  const [dying, other] = [startProcess(2), startProcess(2)];
  await dying.turns.take(call('change'));
  const lost = [1, 2, 3].map(() => dying.turns.take(call('change')).catch(() => 'dead'));
  // It waits but for the moments in which it leases a turn, and dies while it does.
  const waits = async () => (await other.pool.query('SELECT FROM ses_waits WHERE shard = $1', [shard])).rowCount === 1;
  for (let tries = 0; tries < 500 && !(await waits()); tries++) await sleep(10);
  await dying.pool.end();
  const startedAt = performance.now();
  await other.turns.take(call('background'));
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  expect(await Promise.all(lost)).toContain('dead');
});

it('a caller that gives up is told at once, and leaves its turn to the next', async () => {
  const { turns, pool } = startProcess(2);
  await turns.take(call('check'));
  const impatient = new AbortController();
  const [given, next] = [turns.take(call('change', impatient.signal)), turns.take(call('background'))];
  impatient.abort(new Error('enough'));
  expect(await Promise.race([given.catch((error: Error) => error.message), next])).toBe('enough');
  await expect(turns.take(call('change', impatient.signal))).rejects.toThrow('enough');
  await next;
  // Nobody waits any more.
  await sleep(50);
  expect((await pool.query('SELECT FROM ses_waits WHERE shard = $1', [shard])).rowCount).toBe(0);
});

it('waits while the database is away, and goes on when it is back', async () => {
  const proxy = await DatabaseProxy.open(database.url);
  const { turns } = startProcess(100, proxy.url);
  await turns.take(call('check'));
  proxy.away();
  await expect(turns.take(call('change', AbortSignal.timeout(300)))).rejects.toThrow(/timeout|aborted/);
  const waits = turns.take(call('change'));
  await sleep(100);
  await proxy.back();
  await waits;
  proxy.away();
});

it('goes on when the clock of the database is set back', async () => {
  const { turns, pool } = startProcess(100);
  await turns.take(call('check'));
  await pool.query(`UPDATE ses_turns SET next_at = now() + interval '1 hour' WHERE shard = $1`, [shard]);
  await turns.take(call('check', AbortSignal.timeout(2_000)));
});

it('goes on when its row is gone', async () => {
  const { turns, pool } = startProcess(100);
  await turns.take(call('check'));
  await pool.query('TRUNCATE ses_turns');
  await turns.take(call('check', AbortSignal.timeout(10_000)));
});

it('tells callers at once of a fault that does not pass', async () => {
  const empty = await testDatabase();
  const { turns, pool } = startProcess(10, empty.url);
  await expect(Promise.all([turns.take(call('check')), turns.take(call('change'))])).rejects.toThrow(/ses_turns/);
  await pool.end();
  await empty.drop();
});

it('removes what dead processes have left', async () => {
  const client = await openClient({ connectionString: database.url });
  await client.query(
    `INSERT INTO ses_waits VALUES ($1, gen_random_uuid(), 0, now(), now(), now() - interval '1 hour')`,
    [shard],
  );
  await startProcess(10).turns.take(call('check'));
  expect((await client.query('SELECT FROM ses_waits WHERE shard = $1', [shard])).rowCount).toBe(0);
  await client.end();
});

it('waits for the disk where what a crash would take back of a lease is longer than a short lease', async () => {
  const { pool: admin } = startProcess(14);
  await admin.query(`
    CREATE TABLE lease_commits (setting text);
    CREATE FUNCTION note_lease_commit() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO lease_commits VALUES (current_setting('synchronous_commit'));
        RETURN NULL;
      END $$;
    CREATE TRIGGER note_lease_commit AFTER UPDATE OF leases ON ses_turns FOR EACH ROW EXECUTE FUNCTION note_lease_commit();
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = local', current_database()); END $$`);
  const commitOf = async (callsPerSecond: number, slackMs: number) => {
    shard = `shard-${(shards += 1)}`;
    const { turns } = startProcess(callsPerSecond);
    await admin.query(
      `INSERT INTO ses_turns (shard, slack_ms, slack_until) VALUES ($1, $2, now() + interval '1 minute')`,
      [shard, slackMs],
    );
    await turns.take(call('change'));
    const { rows } = await admin.query<{ setting: string }>('DELETE FROM lease_commits RETURNING setting');
    // A process that comes late for its turn leases another one.
    return rows[0]!.setting;
  };
  expect(await commitOf(14, 0)).toBe('off');
  expect(await commitOf(14, 10)).toBe('off');
  expect(await commitOf(1, 0)).toBe('local');
  // The turns of a process that may be late are longer, and its call begins later than its turn.
  expect(await commitOf(14, 1_000)).toBe('local');
  await admin.query('DROP TRIGGER note_lease_commit ON ses_turns');
});
