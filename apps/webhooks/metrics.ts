import { Counter, Gauge, Histogram, metricsOfApp, queriedGauge } from '@app/runtime';
import { lanes as allLanes, type Lane, type WebhookLanes } from '@app/webhooks';
import type { TryResult } from './endpoint-client';

const tries = new Counter({
  name: 'sendmux_webhook_tries_total',
  help: 'Tries to deliver a message to an endpoint, by what came of them',
  labelNames: ['lane', 'outcome'],
});
const durations = new Histogram({
  name: 'sendmux_webhook_try_seconds',
  help: 'Duration of tries, from the look-up of the name to the end of the answer',
  labelNames: ['outcome'],
  buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 15],
});

const firstTries = new Histogram({
  name: 'sendmux_webhook_first_try_seconds',
  help: 'From an event on the queue to the first try of its live delivery, of endpoints that answer in time',
  buckets: [0.1, 0.5, 1, 5, 10, 30, 60, 300, 900],
});

/** The counters by their labels, since finding them by labels costs more than counting. */
const counters = new Map<string, ReturnType<typeof tries.labels>>();
const observers = { success: durations.labels('success'), failure: durations.labels('failure') };

/** Counts a try by the class of its answer, such as `2xx`; `none` where no answer came. */
export function countTry(lane: Lane, { isSuccess, status, durationMs }: TryResult): void {
  const outcome = status === null ? 'none' : `${Math.floor(status / 100)}xx`;
  const labels = `${lane} ${outcome}`;
  const counter = counters.get(labels) ?? tries.labels(lane, outcome);
  counters.set(labels, counter);
  counter.inc();
  observers[isSuccess ? 'success' : 'failure'].observe(durationMs / 1_000);
}

/** Notes that a delivery which is new is tried for the first time. */
export function noteFirstTry(createdAt: Date): void {
  firstTries.observe(Math.max(0, Date.now() - createdAt.getTime()) / 1_000);
}

type Waiting = Awaited<ReturnType<WebhookLanes['waiting']>>[number];

/** Registers what is read of the tables and of the process at each scrape. */
export function measureLanes(lanes: WebhookLanes, load: () => { lanes: number; tries: number }): void {
  // A lane on which nothing waits has a value too: what is absent tells alarms and autoscalers nothing.
  const ofEachLane = async (valueOf: (waiting: Waiting) => number) => {
    const waiting = new Map((await lanes.waiting()).map((each) => [each.lane, each]));
    return allLanes.map((lane) => {
      const found = waiting.get(lane);
      return { labels: { lane }, value: found ? valueOf(found) : 0 };
    });
  };
  queriedGauge(
    { name: 'sendmux_webhook_waiting_subjects', help: 'Subjects with waiting deliveries', labelNames: ['lane'] },
    () => ofEachLane(({ subjects }) => subjects),
  );
  queriedGauge(
    {
      name: 'sendmux_webhook_oldest_due_seconds',
      help: 'Seconds for which the subject that is due longest has been due',
      labelNames: ['lane'],
    },
    () => ofEachLane(({ oldestDueSeconds }) => oldestDueSeconds),
  );
  queriedGauge(
    { name: 'sendmux_webhooks_disabled', help: 'Endpoints that were disabled by us', labelNames: ['because'] },
    async () => (await lanes.disabled()).map(({ because, count }) => ({ labels: { because }, value: count })),
  );
  for (const [name, help, of] of [
    ['sendmux_webhook_held_lanes', 'Lanes that this process holds', () => load().lanes],
    ['sendmux_webhook_tries_under_way', 'Tries of this process that are under way', () => load().tries],
  ] as const) {
    metricsOfApp().removeSingleMetric(name);
    new Gauge({
      name,
      help,
      collect() {
        this.set(of());
      },
    });
  }
}
