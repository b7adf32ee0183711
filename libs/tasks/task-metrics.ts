import { ofEachApp, queriedGauge } from '@app/runtime';
import type { TaskList, TaskStatistics } from './task-list';

/** The lists whose tasks an app handles. They are measured from the first one on. */
const listsOfApp = ofEachApp(() => {
  const lists = new Map<string, TaskList>();
  const measurements = (valueOf: (statistics: TaskStatistics) => number) => () =>
    Promise.all(
      [...lists].map(async ([list, tasks]) => ({ labels: { list }, value: valueOf(await tasks.statistics(list)) })),
    );
  queriedGauge(
    {
      name: 'sendmux_tasks_oldest_seconds',
      help: 'How long the task that is ready longest has been ready, whether it was tried or not',
      labelNames: ['list'],
    },
    measurements(({ oldestDueSeconds }) => oldestDueSeconds),
  );
  queriedGauge(
    {
      name: 'sendmux_tasks',
      help: 'Tasks that are not done, those that are due later included',
      labelNames: ['list'],
    },
    measurements(({ total }) => total),
  );
  return lists;
});

export const measure = (list: string, tasks: TaskList): void => void listsOfApp().set(list, tasks);
export const measureNoMore = (list: string): void => void listsOfApp().delete(list);
