import { Gauge } from 'prom-client';
import { Counter, metricsOfApp } from './metrics';
import { within } from './within';

export interface Measurement {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

const failures = new Counter({
  name: 'sendmux_metric_failures_total',
  help: 'Scrapes that left a metric out because its source did not answer',
  labelNames: ['metric'],
});

/** Milliseconds that a scrape waits for one source, well below the ten seconds of Prometheus. */
const answerMs = 3_000;

/**
 * Registers a gauge whose values are queried at each scrape. While its source is away the gauge is left out and the
 * failure counted: an old value would hide the outage, and a rejection would remove all other metrics of the process
 * from the scrape.
 */
export function queriedGauge(
  { name, help, labelNames = [] }: { readonly name: string; readonly help: string; readonly labelNames?: string[] },
  query: () => Promise<readonly Measurement[]>,
): void {
  const metrics = metricsOfApp();
  metrics.removeSingleMetric(name);
  failures.inc({ metric: name }, 0);
  let shown: readonly Measurement[] = [];
  new Gauge({
    name,
    help,
    labelNames,
    registers: [metrics],
    async collect() {
      const measured = await within(answerMs, query()).catch(() => undefined);
      if (!measured) failures.inc({ metric: name });
      for (const { labels = {} } of shown) this.remove(labels);
      shown = measured ?? [];
      if (shown.length === 0) this.remove({});
      for (const { labels = {}, value } of shown) this.set(labels, value);
    },
  });
}
