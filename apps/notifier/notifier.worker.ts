import { Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { TaskList, TaskWorker } from '@app/tasks';
import { Gauge, register } from 'prom-client';
import { Notifier, notifierTasks, type FailureTask } from './notifier';

@Injectable()
export class NotifierWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly worker: TaskWorker;

  constructor(tasks: TaskList, notifier: Notifier) {
    this.worker = new TaskWorker(tasks, {
      list: notifierTasks,
      backOff: { baseMs: 2_000, capMs: 900_000 },
      handle: ({ payload }, signal) => notifier.tell(payload as FailureTask, signal),
    });
    register.removeSingleMetric('sendmux_notifier_failures');
    register.removeSingleMetric('sendmux_notifier_oldest_seconds');
    const oldest = new Gauge({
      name: 'sendmux_notifier_oldest_seconds',
      help: 'How long the failure that waits longest to be told is overdue',
    });
    new Gauge({
      name: 'sendmux_notifier_failures',
      help: 'Failures that not every owner has been told of',
      async collect() {
        const statistics = await tasks.statistics(notifierTasks);
        this.set(statistics.total);
        oldest.set(statistics.oldestDueSeconds);
      },
    });
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }
}
