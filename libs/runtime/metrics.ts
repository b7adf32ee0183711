import * as prometheus from 'prom-client';
import { currentApp, ofEachApp } from './app-scope';

/**
 * Gives the metrics of the app for which the caller runs: those that were defined or first used by it. In a process
 * with one app they are the default ones of `prom-client`.
 */
export const metricsOfApp = ofEachApp(() =>
  currentApp() === undefined ? prometheus.register : new prometheus.Registry(),
);

/** Keeps a metric of each app, and defines it for the app that loads the module. */
function metricOfEachApp<Metric, Configuration>(
  Kind: new (configuration: Configuration) => Metric,
  configuration: Configuration,
): () => Metric {
  const metric = ofEachApp(() => new Kind({ ...configuration, registers: [metricsOfApp()] }));
  metric();
  return metric;
}

type Values<Label extends string> = Partial<Record<Label, string | number>>;

/** Counts, for each app of the process by itself. Otherwise it is the `Counter` of `prom-client`. */
export class Counter<Label extends string = string> {
  private readonly ofApp: () => prometheus.Counter<Label>;

  constructor(configuration: prometheus.CounterConfiguration<Label>) {
    this.ofApp = metricOfEachApp(prometheus.Counter<Label>, configuration);
  }

  inc(...[first, value]: [by?: number] | [labels: Values<Label>, by?: number]): void {
    if (typeof first === 'object') this.ofApp().inc(first, value);
    else this.ofApp().inc(first);
  }

  labels(...values: string[]): prometheus.Counter.Internal {
    return this.ofApp().labels(...values);
  }
}

/** Shows a value, for each app of the process by itself. Otherwise it is the `Gauge` of `prom-client`. */
export class Gauge<Label extends string = string> {
  private readonly ofApp: () => prometheus.Gauge<Label>;

  constructor(configuration: prometheus.GaugeConfiguration<Label>) {
    this.ofApp = metricOfEachApp(prometheus.Gauge<Label>, configuration);
  }

  set(...[first, value]: [value: number] | [labels: Values<Label>, value: number]): void {
    if (typeof first === 'object') this.ofApp().set(first, value!);
    else this.ofApp().set(first);
  }

  remove(labels: Values<Label>): void {
    this.ofApp().remove(labels);
  }
}

/** Counts by size, for each app of the process by itself. Otherwise it is the `Histogram` of `prom-client`. */
export class Histogram<Label extends string = string> {
  private readonly ofApp: () => prometheus.Histogram<Label>;

  constructor(configuration: prometheus.HistogramConfiguration<Label>) {
    this.ofApp = metricOfEachApp(prometheus.Histogram<Label>, configuration);
  }

  observe(...[first, value]: [value: number] | [labels: Values<Label>, value: number]): void {
    if (typeof first === 'object') this.ofApp().observe(first, value!);
    else this.ofApp().observe(first);
  }

  startTimer(labels?: Values<Label>): (labels?: Values<Label>) => number {
    return this.ofApp().startTimer(labels);
  }

  labels(...values: string[]): prometheus.Histogram.Internal<Label> {
    return this.ofApp().labels(...values);
  }
}
