import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { tasksMigrations } from './migrations';
import { TaskList, type Task } from './task-list';
import { TaskWorker, type TaskWorkerOptions } from './task-worker';

const list = 'provisioning';
let database: TestDatabase;
let pool: Pool;
let tasks: TaskList;
let workers: TaskWorker[];

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith(tasksMigrations);
  pool = openPool(database.url);
});

afterAll(async () => {
  await pool.end();
  await database.drop();
});

beforeEach(async () => {
  await pool.query('TRUNCATE tasks');
  tasks = new TaskList(pool);
  workers = [];
});

afterEach(() => Promise.all(workers.map((worker) => worker.stop(0))));

/**
 * Makes a worker over a `TaskList` of its own, as another process has. It sees tasks that are put elsewhere by its poll
 * only.
 */
function worker(options: Partial<TaskWorkerOptions> & Pick<TaskWorkerOptions, 'handle'>, over = new TaskList(pool)) {
  const made = new TaskWorker(over, { list, pollMs: 50, backOff: { baseMs: 20, capMs: 100 }, ...options });
  workers.push(made);
  made.run();
  return made;
}

const rows = async () => (await pool.query<Record<string, unknown>>('SELECT * FROM tasks ORDER BY key')).rows;

async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(5);
  }
}

const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));

describe('a task', () => {
  it('is given to the handler as it was put, and removed when done', async () => {
    const seen: Task[] = [];
    await tasks.put(list, 'mdom_1', 'provision', { name: 'mail.acme.com' });
    await tasks.put('notifier', 'mdom_1', 'tell', {});
    worker({ handle: (task) => Promise.resolve(seen.push(task)).then(() => 'done' as const) });
    await until(async () => (await rows()).length === 1);
    expect(seen).toMatchObject([
      { list, key: 'mdom_1', kind: 'provision', payload: { name: 'mail.acme.com' }, attempts: 1, lastError: null },
    ]);
    expect(await rows()).toMatchObject([{ list: 'notifier', attempts: 0 }]);
  });

  it('waits until it is due, and starts then', async () => {
    const due = new Date(Date.now() + 300);
    let started = 0;
    await tasks.put(list, 'later', 'check', {}, due);
    worker({ pollMs: 600_000, handle: () => Promise.resolve((started = Date.now())).then(() => 'done' as const) });
    await until(() => started > 0);
    expect(started).toBeGreaterThanOrEqual(due.getTime());
  });

  it('starts at once when the same process puts it', async () => {
    let started = false;
    worker({ pollMs: 600_000, handle: () => Promise.resolve((started = true)).then(() => 'done' as const) }, tasks);
    await sleep(50);
    await tasks.put(list, 'now', 'check', {});
    await until(() => started);
  });

  describe('that is put where a worker of the process has a place', () => {
    /** A list that no worker can claim from, so that what runs was claimed as it was put. */
    class UnreadList extends TaskList {
      override claim = () => Promise.resolve([]);
    }

    it('is claimed by the statement that puts it, and runs with what was put', async () => {
      const unread = new UnreadList(pool);
      const seen: Task[] = [];
      worker({ handle: (task) => Promise.resolve(seen.push(task)).then(() => 'done' as const) }, unread);
      await until(() => unread.places.has(list));
      await unread.put(list, 'mdom_1', 'provision', { name: 'mail.acme.com' });
      await until(async () => (await rows()).length === 0);
      expect(seen).toMatchObject([
        { list, key: 'mdom_1', kind: 'provision', payload: { name: 'mail.acme.com' }, attempts: 1, lastError: null },
      ]);
    });

    it('waits for whoever holds its key, and for its time', async () => {
      const started: string[] = [];
      await tasks.put(list, 'held', 'provision', {});
      const [held] = await tasks.claim(list, 1, 60_000);
      worker(
        { handle: ({ key, kind }) => Promise.resolve(started.push(`${kind} ${key}`)).then(() => 'done' as const) },
        tasks,
      );
      await tasks.put(list, 'held', 'rollBack', {});
      await tasks.put(list, 'later', 'check', {}, new Date(Date.now() + 60_000));
      await tasks.put(list, 'free', 'provision', {});
      await until(() => started.length > 0);
      await sleep(100);
      expect(started).toEqual(['provision free']);
      expect(await tasks.renew(held!, 60_000)).toBe(false);
      await tasks.complete(held!);
      await until(() => started.length > 1);
      expect(started).toEqual(['provision free', 'rollBack held']);
    });

    it('that is there already is not claimed by putting it again', async () => {
      await tasks.put(list, 'k', 'provision', { a: 1 });
      const [claimed] = await tasks.claim(list, 1, 10_000);
      await tasks.postpone(claimed!, 60_000, 'away');
      const runs: string[] = [];
      worker({ handle: ({ key }) => Promise.resolve(runs.push(key)).then(() => 'done' as const) }, tasks);
      await tasks.put(list, 'k', 'provision', { a: 1 });
      await tasks.put(list, 'other', 'provision', {});
      await until(async () => (await rows()).length === 1);
      expect(runs).toEqual(['other']);
      expect(await rows()).toMatchObject([{ id: claimed!.id, attempts: 1, last_error: 'away', lease_until: null }]);
    });

    it('takes no more places than the worker has', async () => {
      let [running, most, done] = [0, 0, 0];
      worker(
        {
          concurrency: 3,
          handle: async () => {
            most = Math.max(most, (running += 1));
            await sleep(20);
            running -= 1;
            done += 1;
            return 'done';
          },
        },
        tasks,
      );
      await Promise.all(Array.from({ length: 30 }, (_, i) => tasks.put(list, `k${i}`, 'work', {})));
      await until(async () => (await rows()).length === 0);
      expect([done, most]).toEqual([30, 3]);
    });

    /** Puts a task in a transaction, so that whoever puts one of its key waits until it is given up. */
    async function hold(key: string): Promise<() => Promise<void>> {
      const client = await pool.connect();
      await client.query('BEGIN');
      await new TaskList(pool).put(list, key, 'other', {}, undefined, client);
      return async () => {
        await client.query('ROLLBACK');
        client.release();
      };
    }

    it('does not begin where its lease is over when it is put, as another worker may have it by then', async () => {
      let [running, most, done] = [0, 0, 0];
      const handle = async () => {
        most = Math.max(most, (running += 1));
        await sleep(150);
        running -= 1;
        done += 1;
        return 'done' as const;
      };
      worker({ leaseMs: 300, pollMs: 600_000, handle }, tasks);
      worker({ pollMs: 5, handle });
      await until(() => tasks.places.has(list));
      await sleep(200);
      const letGo = await hold('k');
      const put = tasks.put(list, 'k', 'work', {});
      await sleep(600);
      await letGo();
      await put;
      await until(async () => (await rows()).length === 0 && running === 0);
      expect([done, most]).toEqual([1, 1]);
    });

    it('gives its place to a task that waits where it cannot be put', async () => {
      const impatient = openPool(database.url, 4, 300);
      const few = new TaskList(impatient);
      const ran: string[] = [];
      const handle = ({ key }: Task) => Promise.resolve(ran.push(key)).then(() => 'done' as const);
      const made = worker({ concurrency: 1, pollMs: 600_000, handle }, few);
      await until(() => few.places.has(list));
      await sleep(200);
      const letGo = await hold('stuck');
      const stuck = few.put(list, 'stuck', 'work', {});
      await few.put(list, 'waits', 'work', {});
      await expect(stuck).rejects.toMatchObject({ code: '57014' });
      await until(() => ran.length > 0, 3_000).finally(async () => {
        await letGo();
        await made.stop();
        await impatient.end();
      });
      expect(ran).toEqual(['waits']);
    });

    it('is given back where the worker stops meanwhile', async () => {
      const stopped = worker({ handle: () => Promise.resolve('done' as const) }, tasks);
      await until(() => tasks.places.has(list));
      // Its first claim, which could find the task, is over by then.
      await sleep(200);
      const put = tasks.put(list, 'k', 'work', {});
      await stopped.stop();
      await put;
      await until(async () => (await rows()).every(({ lease_token: token }) => token === null));
      expect(await rows()).toMatchObject([{ key: 'k', attempts: 0, lease_until: null }]);
    });
  });

  it('is retried after each failure, thrown or returned, and keeps its last error', async () => {
    const tries: number[] = [];
    await tasks.put(list, 'mdom_1', 'provision', {});
    worker({
      handle: async (task) => {
        tries.push(task.attempts);
        if (tries.length === 1) throw new Error('SES is away');
        if (tries.length === 2) return { error: 'SES is still away' };
        if (tries.length === 3) return { error: 'throttled', retryInMs: 1 };
        await until(async () => (await rows())[0]?.last_error === 'throttled');
        return 'done';
      },
    });
    await until(async () => (await rows()).length === 0);
    expect(tries).toEqual([1, 2, 3, 3]);
  });

  it('N2: comes again after its back-off, whatever octets and length its error has', async () => {
    let tries = 0;
    await tasks.put(list, 'mdom_1', 'provision', {});
    worker({
      leaseMs: 600_000,
      handle: () => Promise.resolve((tries += 1) === 3 ? 'done' : { error: `550 \0${'x'.repeat(100_000)}` }),
    });
    await until(async () => (await rows()).length === 0);
    expect(tries).toBe(3);
  });

  it('that waits on purpose does not lengthen the back-off of a failure', async () => {
    let turns = 0;
    await tasks.put(list, 'mdom_1', 'provision', {});
    worker({
      backOff: { baseMs: 10_000, capMs: 3_600_000 },
      handle: () => Promise.resolve({ error: 'waits', ...((turns += 1) < 10 && { retryInMs: 1 }) }),
    });
    await until(async () => turns === 10 && (await rows())[0]!.lease_token === null);
    const [row] = (await rows()) as [{ attempts: number; due: Date }];
    expect(row.attempts).toBe(1);
    expect(row.due.getTime() - Date.now()).toBeLessThan(60_000);
  });

  it('put again unchanged stays as it is; put with another payload starts from the beginning', async () => {
    await tasks.put(list, 'k', 'provision', { a: 1 });
    const [claimed] = await tasks.claim(list, 1, 10_000);
    await tasks.postpone(claimed!, 60_000, 'away');
    await tasks.put(list, 'k', 'provision', { a: 1 });
    expect(await rows()).toMatchObject([{ id: claimed!.id, attempts: 1, last_error: 'away' }]);
    await tasks.put(list, 'k', 'provision', { a: 2 });
    expect(await rows()).toMatchObject([{ payload: { a: 2 }, attempts: 0, last_error: null }]);
    expect((await rows())[0]!.id).not.toBe(claimed!.id);
  });
});

describe('several workers', () => {
  it('share the tasks, never two of them on the same one at once', async () => {
    const keys = Array.from({ length: 150 }, (_, index) => `k${index}`);
    const active = new Set<string>();
    const collisions: string[] = [];
    const handled = [0, 0, 0];
    const failedOnce = new Set<string>();
    await Promise.all(keys.map((key) => tasks.put(list, key, 'work', {})));
    for (const [index] of handled.entries())
      worker({
        concurrency: 5,
        leaseMs: 300,
        handle: async ({ key }) => {
          if (active.has(key)) collisions.push(key);
          active.add(key);
          handled[index]! += 1;
          // Some tasks outlast their first lease, which must be renewed.
          await sleep(key.endsWith('7') ? 500 : 5);
          active.delete(key);
          if (!key.endsWith('3') || failedOnce.has(key)) return 'done';
          failedOnce.add(key);
          return { error: 'once more' };
        },
      });
    await until(async () => (await rows()).length === 0);
    expect(collisions).toEqual([]);
    expect(handled.reduce((sum, count) => sum + count)).toBe(keys.length + 15);
    expect(Math.min(...handled)).toBeGreaterThan(0);
  });

  it('take over the tasks of a killed worker when its lease ends and not before', async () => {
    await tasks.put(list, 'mdom_1', 'provision', {});
    const claimedAt = Date.now();
    const [dead] = await tasks.claim(list, 1, 600);
    let takenAt = 0;
    let attempts = 0;
    const heir = worker({
      handle: (task) => {
        takenAt = Date.now();
        attempts = task.attempts;
        return Promise.resolve('done');
      },
    });
    await until(async () => (await rows()).length === 0);
    expect(takenAt - claimedAt).toBeGreaterThanOrEqual(590);
    expect(attempts).toBe(2);
    await heir.stop();
    await tasks.put(list, 'mdom_1', 'provision', {});
    // A worker that lost its lease changes nothing when it completes the task.
    await tasks.complete(dead!);
    await tasks.postpone(dead!, 0, 'late');
    expect(await tasks.renew(dead!, 1_000)).toBe(false);
    expect(await rows()).toMatchObject([{ attempts: 0, last_error: null, lease_until: null }]);
  });
});

describe('a task that is replaced while it runs', () => {
  it('cannot complete the new one, which starts only when the old one is released', async () => {
    const log: string[] = [];
    let finishOld = (): void => undefined;
    const oldRuns = new Promise<void>((resolve) => (finishOld = resolve));
    await tasks.put(list, 'mdom_1', 'provision', {});
    const options: Partial<TaskWorkerOptions> & Pick<TaskWorkerOptions, 'handle'> = {
      handle: async ({ kind, attempts }) => {
        log.push(`${kind} ${attempts}`);
        if (kind === 'provision') await oldRuns;
        log.push(`${kind} ends`);
        return 'done';
      },
    };
    worker(options);
    worker(options);
    await until(() => log.length === 1);
    await tasks.put(list, 'mdom_1', 'rollBack', {});
    await sleep(200);
    expect(log).toEqual(['provision 1']);
    finishOld();
    await until(async () => (await rows()).length === 0);
    expect(log).toEqual(['provision 1', 'provision ends', 'rollBack 1', 'rollBack ends']);
  });

  it('is aborted by its signal', async () => {
    const log: string[] = [];
    worker(
      {
        handle: async ({ kind }, signal) => {
          if (kind === 'rollBack') return 'done';
          await aborted(signal);
          log.push(String(signal.reason));
          throw signal.reason;
        },
      },
      tasks,
    );
    await tasks.put(list, 'mdom_1', 'provision', {});
    await until(async () => (await rows())[0]?.lease_token !== null);
    await tasks.put(list, 'mdom_1', 'rollBack', {});
    await until(async () => (await rows()).length === 0);
    expect(log).toEqual(['TaskAborted: the task was replaced, removed or taken over']);
  });

  it('is aborted when it is removed', async () => {
    let told = false;
    worker({ leaseMs: 300, handle: (_, signal) => aborted(signal).then(() => ((told = true), 'done')) });
    await tasks.put(list, 'mdom_1', 'provision', {});
    await until(async () => (await rows())[0]?.lease_token != null);
    await tasks.remove(list, 'mdom_1');
    await until(() => told);
  });
});

describe('stop', () => {
  it('lets a running task finish and takes no other', async () => {
    let started = 0;
    await tasks.put(list, 'a', 'work', {});
    await tasks.put(list, 'b', 'work', {});
    const stopped = worker({
      concurrency: 1,
      handle: async () => {
        started += 1;
        await sleep(200);
        return 'done';
      },
    });
    await until(() => started === 1);
    await stopped.stop(5_000);
    expect(await rows()).toMatchObject([{ key: 'b', attempts: 0, lease_token: null }]);
  });

  it('aborts a task that takes too long; another worker gets it at once, as if never attempted', async () => {
    let running = false;
    let attempts = 0;
    await tasks.put(list, 'long', 'work', {});
    const stopped = worker({
      handle: async (_, signal) => {
        running = true;
        await aborted(signal);
        throw signal.reason;
      },
    });
    await until(() => running);
    await stopped.stop(50);
    expect(await rows()).toMatchObject([{ key: 'long', attempts: 0, lease_token: null, lease_until: null }]);
    worker({ handle: (task) => Promise.resolve((attempts = task.attempts)).then(() => 'done' as const) });
    await until(() => attempts === 1);
  });
});

it('continues after the database was away', async () => {
  const seen: string[] = [];
  worker({ handle: ({ key }) => Promise.resolve(seen.push(key)).then(() => 'done' as const) });
  await sleep(60);
  await pool.query(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
  );
  await tasks.put(list, 'after', 'work', {});
  await until(() => seen.includes('after'));
});

it('counts', async () => {
  expect(await tasks.statistics(list)).toEqual({ total: 0, due: 0, oldestDueSeconds: 0, maxAttempts: 0 });
  await tasks.put(list, 'old', 'work', {}, new Date(Date.now() - 90_000));
  await tasks.put(list, 'later', 'work', {}, new Date(Date.now() + 90_000));
  await tasks.claim(list, 5, 1_000);
  const counted = await tasks.statistics(list);
  expect(counted).toMatchObject({ total: 2, due: 1, maxAttempts: 1 });
  expect(counted.oldestDueSeconds).toBeGreaterThan(89);
  expect(counted.oldestDueSeconds).toBeLessThan(120);
});

it('a task waits from when it was ready, however often it fails, and anew after a wait of its own', async () => {
  const waits = async () => (await tasks.statistics(list)).oldestDueSeconds;
  const claimed = async () => (await tasks.claim(list, 1, 1_000))[0]!;
  const readyAt = new Date(Date.now() - 90_000);
  await tasks.put(list, 'a', 'work', {}, readyAt);
  await tasks.postpone(await claimed(), 0, 'refused');
  const again = await claimed();
  expect(again).toMatchObject({ attempts: 2, readyAt });
  await tasks.postpone(again, 600_000, 'refused again');
  expect(await waits()).toBeGreaterThan(89);
  expect((await tasks.statistics(list)).due).toBe(1);

  await pool.query('UPDATE tasks SET due = now()');
  await tasks.defer(await claimed(), 600_000, 'waits for another one');
  expect(await waits()).toBe(0);
  // An older release has written neither.
  await pool.query(`UPDATE tasks SET ready_at = NULL, due = now() - interval '30 s'`);
  expect(await waits()).toBeGreaterThan(29);
  await tasks.put(list, 'a', 'other work', {});
  expect(await waits()).toBeLessThan(20);
});
