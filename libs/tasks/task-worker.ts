import { Logger } from '@nestjs/common';
import { backOffMs, type BackOff } from '@app/runtime';
import { originOf, trace } from '@app/tracing';
import type { ClaimedTask, Place, Task, TaskList } from './task-list';
import { measure, measureNoMore } from './task-metrics';

/**
 * The outcome of an attempt. With `retryInMs` the task waits for something, for that many milliseconds, and the attempt
 * does not count as failed. Without it the attempt has failed, and the next one follows after the worker's back-off.
 */
export type TaskOutcome = 'done' | { readonly retryInMs?: number; readonly error: string };

export interface TaskWorkerOptions {
  readonly list: string;
  /** Tasks at once; 8 when absent. */
  readonly concurrency?: number;
  /**
   * Milliseconds after which the task of a worker that died is taken over; 10,000 when absent. A worker renews its
   * lease at each third of it.
   */
  readonly leaseMs?: number;
  /** Wait after a failure; 500 ms to 60 s when absent. A task is retried until it succeeds. */
  readonly backOff?: BackOff;
  /** Longest wait until the list is read again, in milliseconds; 500 when absent. */
  readonly pollMs?: number;
  /**
   * Runs the task, and must tolerate being repeated. The signal aborts when this worker no longer holds the task
   * (replaced, removed, lease lost) and when the worker stops. The handler then has until the end of the lease to
   * return.
   */
  handle(task: Task, signal: AbortSignal): Promise<TaskOutcome>;
}

/** The reason of the signal with which a handler is aborted. */
export class TaskAborted extends Error {
  override readonly name = 'TaskAborted';
}

interface Run {
  readonly key: string;
  readonly finished: Promise<void>;
  readonly abort: (why: string) => void;
  readonly renew: () => Promise<void>;
}

/** Runs the due tasks of one list, from `run` to `stop`. */
export class TaskWorker {
  private readonly logger: Logger;
  private readonly running = new Set<Run>();
  private readonly options: Required<TaskWorkerOptions>;
  private loop: Promise<void> | undefined;
  private stopping = false;
  private awake = false;
  /** Places for which tasks are being claimed. */
  private promised = 0;
  private wakeUp = (): void => undefined;

  constructor(
    private readonly tasks: TaskList,
    options: TaskWorkerOptions,
  ) {
    const defaults = { concurrency: 8, leaseMs: 10_000, backOff: { baseMs: 500, capMs: 60_000 }, pollMs: 500 };
    this.options = { ...defaults, ...options };
    this.logger = new Logger(`tasks ${options.list}`);
  }

  run(): void {
    if (this.loop) throw new Error(`The worker of ${this.options.list} runs already.`);
    this.tasks.changed.on(this.options.list, this.onChanged);
    this.tasks.places.set(this.options.list, this.place);
    measure(this.options.list, this.tasks);
    this.loop = this.work();
  }

  /** Reads the list now. A `put` on the same `TaskList` does this by itself. */
  wake(): void {
    this.awake = true;
    this.wakeUp();
  }

  /**
   * Takes no more tasks and waits for the running ones. Those that need longer are aborted, and go back to the list as
   * if never attempted. A handler that does not return within a second of its abort keeps its lease until that ends by
   * itself.
   */
  async stop(withinMs = 7_000): Promise<void> {
    this.stopping = true;
    this.tasks.places.delete(this.options.list);
    measureNoMore(this.options.list);
    this.wake();
    await this.loop;
    this.tasks.changed.off(this.options.list, this.onChanged);
    const finished = Promise.all([...this.running].map((run) => run.finished));
    if (await settlesWithin(withinMs, finished)) return;
    for (const run of this.running) run.abort('the worker stops');
    if (!(await settlesWithin(1_000, finished)))
      this.logger.warn(`Stopped beside running tasks: ${[...this.running].map((run) => run.key).join(', ')}`);
  }

  private readonly onChanged = (key: string, isClaimed = false): void => {
    for (const run of this.running) if (run.key === key) void run.renew();
    if (!isClaimed) this.wake();
  };

  /** Gives a place for a task that is put by this process. */
  private readonly place = (): Place | undefined => {
    const { concurrency, leaseMs } = this.options;
    if (this.running.size + this.promised >= concurrency) return undefined;
    this.promised++;
    const asked = performance.now();
    return {
      leaseMs,
      run: (task) => {
        this.promised--;
        if (task && this.stopping) void this.tasks.giveUp(task).catch(() => undefined);
        else if (task) this.start(task, asked + leaseMs);
        // Others that were put meanwhile had no place.
        else this.wake();
      },
    };
  };

  private async work(): Promise<void> {
    const { list, concurrency, leaseMs, pollMs } = this.options;
    let failures = 0;
    while (!this.stopping) {
      this.awake = false;
      let waitMs = pollMs;
      try {
        const free = concurrency - this.running.size - this.promised;
        if (free > 0) {
          const asked = performance.now();
          this.promised += free;
          const claimed = await this.tasks.claim(list, free, leaseMs).finally(() => (this.promised -= free));
          for (const task of claimed) this.start(task, asked + leaseMs);
          if (claimed.length < free) waitMs = Math.min(pollMs, (await this.tasks.nextDueInMs(list)) ?? pollMs);
        }
        failures = 0;
      } catch (error) {
        failures += 1;
        waitMs = backOffMs({ baseMs: pollMs, capMs: 5_000 }, failures);
        this.logger.warn(`The list cannot be read, again in ${waitMs} ms: ${messageOf(error)}`);
      }
      await this.sleep(Math.ceil(waitMs));
    }
  }

  /**
   * @param leaseEnd the end of the lease by this process's monotonic clock, which is earlier than by the database's.
   */
  private start(task: ClaimedTask, leaseEnd: number): void {
    const { leaseMs } = this.options;
    // The answer may have waited for a lock of the key, or for a standby. Another worker may have the key by now.
    if (performance.now() >= leaseEnd) return void this.tasks.giveUp(task).catch(() => undefined);
    const abortion = new AbortController();
    const abort = (why: string) => {
      clearInterval(renewal);
      clearTimeout(expiry);
      abortion.abort(new TaskAborted(why));
    };
    const expire = (end: number) => setTimeout(() => abort('the lease ran out'), end - performance.now());
    let expiry = expire(leaseEnd);
    const renew = async () => {
      const asked = performance.now();
      try {
        const renewed = await this.tasks.renew(task, leaseMs);
        if (settled || abortion.signal.aborted) return;
        if (!renewed) return abort('the task was replaced, removed or taken over');
        clearTimeout(expiry);
        expiry = expire(asked + leaseMs);
      } catch (error) {
        this.logger.warn(`The lease of ${task.key} was not renewed: ${messageOf(error)}`);
      }
    };
    const renewal = setInterval(() => void renew(), leaseMs / 3);
    let settled = false;
    const finished = this.handle(task, abortion.signal, () => {
      settled = true;
      clearInterval(renewal);
      clearTimeout(expiry);
    }).finally(() => {
      this.running.delete(run);
      this.wake();
    });
    const run: Run = { key: task.key, finished, abort, renew };
    this.running.add(run);
  }

  /** Runs one attempt and stores its outcome. Never rejects. */
  private async handle(task: ClaimedTask, signal: AbortSignal, settled: () => void): Promise<void> {
    let outcome: TaskOutcome;
    try {
      outcome = await this.traced(task, signal);
    } catch (error) {
      outcome = { error: messageOf(error) };
    }
    settled();
    try {
      if (outcome === 'done') return await this.tasks.complete(task);
      if (signal.aborted) return await this.tasks.giveUp(task);
      const { retryInMs } = outcome;
      if (retryInMs !== undefined) return await this.tasks.defer(task, retryInMs, storable(outcome.error));
      const delayMs = backOffMs(this.options.backOff, task.attempts);
      this.logger.warn(
        `${task.kind} of ${task.key} failed (try ${task.attempts}), again in ${delayMs} ms: ${outcome.error}`,
      );
      await this.tasks.postpone(task, delayMs, storable(outcome.error));
    } catch (error) {
      this.logger.warn(`${task.kind} of ${task.key} will be repeated when its lease ends: ${messageOf(error)}`);
    }
  }

  /** Runs one attempt in the trace of what has put the task on. */
  private traced(task: ClaimedTask, signal: AbortSignal): Promise<TaskOutcome> {
    // A key may have an address behind an id.
    const of = /^[a-z]{2,5}_[a-z0-9]+/.exec(task.key)?.[0];
    const attributes = { 'sendmux.task.of': of, 'sendmux.task.attempts': task.attempts };
    const origin = originOf(task.traceparent, task.createdAt);
    return trace(`${task.list} ${task.kind}`, { kind: 'consumer', attributes, ...origin }, async (span) => {
      const outcome = await this.options.handle(task, signal);
      if (outcome !== 'done') {
        const isWaiting = outcome.retryInMs !== undefined;
        span.set({ 'sendmux.task.outcome': isWaiting ? 'waits' : 'failed' });
        if (!isWaiting) span.fail('failed');
      }
      return outcome;
    });
  }

  private async sleep(milliseconds: number): Promise<void> {
    if (this.awake) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * Gives a text that PostgreSQL can store: without NUL, which the words of a counterpart may have, and not of any
 * length.
 */
const storable = (text: string): string => text.replaceAll('\0', '').slice(0, 2_000);

async function settlesWithin(milliseconds: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
