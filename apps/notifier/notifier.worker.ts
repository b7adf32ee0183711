import { Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { TaskList, TaskWorker, type Task, type TaskOutcome } from '@app/tasks';
import { Histogram } from '@app/runtime';
import { notifierTasks, type FailureTask, type NewRecordsTask, type NewsTask, type RecoveryTask } from './notices';
import { Notifier } from './notifier';

const noticeSeconds = new Histogram({
  name: 'sendmux_notifier_notice_seconds',
  help: 'From an event that owners are mailed about to the end of its notice, but for what the notice waits for',
  buckets: [1, 10, 60, 300, 900, 1_800, 3_600, 7_200, 21_600],
});

/** Gives the seconds of a notice that are ours: until it was on the list, and since it was ready to be mailed. */
export const secondsOf = ({ payload, createdAt, readyAt }: Pick<Task, 'payload' | 'createdAt' | 'readyAt'>): number => {
  const happenedAt = Date.parse((payload as { readonly at: string }).at);
  const ownMs = createdAt.getTime() - happenedAt + Date.now() - readyAt.getTime();
  return Math.max(0, ownMs) / 1_000;
};

@Injectable()
export class NotifierWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly worker: TaskWorker;

  constructor(
    tasks: TaskList,
    private readonly notifier: Notifier,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: notifierTasks,
      backOff: { baseMs: 2_000, capMs: 900_000 },
      handle: async (task, signal) => {
        const outcome = await this.tell(task, signal);
        if (outcome === 'done') noticeSeconds.observe(secondsOf(task));
        return outcome;
      },
    });
  }

  private tell({ kind, payload }: Task, signal: AbortSignal): Promise<TaskOutcome> {
    switch (kind) {
      case 'TellOfRecovery':
        return this.notifier.tellOfRecovery(payload as RecoveryTask, signal);
      case 'TellOfNewRecords':
        return this.notifier.tellOfNewRecords(payload as NewRecordsTask, signal);
      case 'TellNews':
        return this.notifier.tellNews(payload as NewsTask, signal);
      default:
        return this.notifier.tell(payload as FailureTask, signal);
    }
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }
}
