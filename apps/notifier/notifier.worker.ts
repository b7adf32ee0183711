import { Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { TaskList, TaskWorker } from '@app/tasks';
import { notifierTasks, type FailureTask, type NewRecordsTask, type NewsTask, type RecoveryTask } from './notices';
import { Notifier } from './notifier';

@Injectable()
export class NotifierWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly worker: TaskWorker;

  constructor(tasks: TaskList, notifier: Notifier) {
    this.worker = new TaskWorker(tasks, {
      list: notifierTasks,
      backOff: { baseMs: 2_000, capMs: 900_000 },
      handle: ({ kind, payload }, signal) =>
        kind === 'TellOfRecovery'
          ? notifier.tellOfRecovery(payload as RecoveryTask, signal)
          : kind === 'TellOfNewRecords'
            ? notifier.tellOfNewRecords(payload as NewRecordsTask, signal)
            : kind === 'TellNews'
              ? notifier.tellNews(payload as NewsTask, signal)
              : notifier.tell(payload as FailureTask, signal),
    });
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }
}
