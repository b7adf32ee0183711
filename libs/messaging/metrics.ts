import { Counter, Gauge, ofEachApp, queriedGauge } from '@app/runtime';

interface Group {
  readonly behind: () => number | undefined;
  readonly parked: () => Promise<number>;
}

const counter = (name: string, help: string) => new Counter({ name, help, labelNames: ['group'] });
const handled = counter('sendmux_events_handled_total', 'Events whose handler has done its work');
const retried = counter('sendmux_events_retried_total', 'Failed calls of a handler that is called again');
const parked = counter('sendmux_events_parked_total', 'Messages that were parked');

/** The consumer groups of an app. They are measured from the first one on. */
const groupsOfApp = ofEachApp(() => {
  const groups = new Map<string, Group>();
  new Gauge({
    name: 'sendmux_events_behind',
    help: 'How far the consumer is behind the newest event that it knows of, in positions or offsets',
    labelNames: ['group'],
    collect() {
      for (const [group, { behind }] of groups) {
        const count = behind();
        // A stand-by does not know this value, even if it was the active reader before.
        if (count === undefined) this.remove({ group });
        else this.set({ group }, count);
      }
    },
  });
  queriedGauge(
    {
      name: 'sendmux_parked_messages',
      help: 'Messages that wait for an operator: sendmux parked list',
      labelNames: ['group'],
    },
    () => Promise.all([...groups].map(async ([group, each]) => ({ labels: { group }, value: await each.parked() }))),
  );
  return groups;
});

export function measure(group: string, what: Group): void {
  groupsOfApp().set(group, what);
  // The counters start at zero, since an alarm on a rate needs a first value.
  for (const each of [handled, retried, parked]) each.inc({ group }, 0);
}

export const measureNoMore = (group: string): void => void groupsOfApp().delete(group);

export const consumerMetrics = (group: string) => ({
  handled: () => handled.inc({ group }),
  retried: () => retried.inc({ group }),
  parked: () => parked.inc({ group }),
});
