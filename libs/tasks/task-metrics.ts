import { Gauge } from 'prom-client';
import type { TaskList } from './task-list';

/** The lists that this process works on. */
const lists = new Map<string, TaskList>();

const oldest = new Gauge({
  name: 'sendmux_tasks_oldest_seconds',
  help: 'How long the task that waits longest is overdue',
  labelNames: ['list'],
});

new Gauge({
  name: 'sendmux_tasks',
  help: 'Tasks that are not done, those that are due later included',
  labelNames: ['list'],
  async collect() {
    for (const [list, tasks] of lists) {
      const { total, oldestDueSeconds } = await tasks.statistics(list);
      this.set({ list }, total);
      oldest.set({ list }, oldestDueSeconds);
    }
  },
});

export const measure = (list: string, tasks: TaskList): void => void lists.set(list, tasks);
export const measureNoMore = (list: string): void => void lists.delete(list);
