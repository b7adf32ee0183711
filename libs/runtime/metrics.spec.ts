import { register } from 'prom-client';
import { AppScope } from './app-scope';
import { Counter, Gauge, Histogram, metricsOfApp } from './metrics';
import { queriedGauge } from './queried-gauge';

const [one, other] = [new AppScope('one'), new AppScope('other')];
const shownBy = (scope: AppScope) => scope.run(() => metricsOfApp().metrics());

it('counts for each app by itself, and for a process that runs a single app as prom-client does', async () => {
  const counter = new Counter({ name: 'planted_total', help: 'x', labelNames: ['kind'] });
  const gauge = new Gauge({ name: 'planted_gauge', help: 'x' });
  const histogram = new Histogram({ name: 'planted_seconds', help: 'x', buckets: [1] });
  one.run(() => {
    counter.inc({ kind: 'a' });
    gauge.set(7);
    histogram.observe(0.5);
  });
  other.run(() => counter.labels('a').inc(2));
  counter.inc({ kind: 'a' }, 5);
  expect(await shownBy(one)).toMatch(/planted_total\{kind="a"\} 1\n[^]*planted_gauge 7\n[^]*planted_seconds_count 1\n/);
  expect(await shownBy(other)).toMatch(/planted_total\{kind="a"\} 2\n/);
  expect(await shownBy(other)).not.toContain('planted_gauge');
  expect(await register.metrics()).toMatch(/planted_total\{kind="a"\} 5\n[^]*planted_gauge 0\n/);
});

it('defines a metric for the app that loads it, so that it shows before it is first counted', async () => {
  one.run(() => new Counter({ name: 'planted_first_total', help: 'x' }));
  expect(await shownBy(one)).toContain('planted_first_total 0\n');
  expect(await shownBy(other)).not.toContain('planted_first_total');
  expect(register.getSingleMetric('planted_first_total')).toBeUndefined();
});

it('queries a gauge of the app that asks for it, whoever else has one of that name', async () => {
  for (const [scope, value] of [
    [one, 1],
    [other, 2],
  ] as const)
    scope.run(() => queriedGauge({ name: 'planted_queried', help: 'x' }, () => Promise.resolve([{ value }])));
  expect(await shownBy(one)).toContain('planted_queried 1\n');
  expect(await shownBy(other)).toContain('planted_queried 2\n');
});

it('takes and removes labels as prom-client does', async () => {
  const gauge = new Gauge({ name: 'planted_labelled', help: 'x', labelNames: ['of'] });
  one.run(() => {
    gauge.set({ of: 'a' }, 1);
    gauge.set({ of: 'b' }, 2);
    gauge.remove({ of: 'a' });
  });
  expect(await shownBy(one)).toMatch(/planted_labelled\{of="b"\} 2\n/);
  expect(await shownBy(one)).not.toContain('of="a"');
});
