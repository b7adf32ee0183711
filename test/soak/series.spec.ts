import type { Sample } from './samples';
import { growingTables, judged, ruleOf } from './series';

/** Samples of 20 minutes, each of ten seconds. */
const samples = (
  values: (second: number, event: number) => Record<string, number>,
  pidAt = (_: number) => 1,
): Sample[] =>
  Array.from({ length: 120 }, (_, i) => ({
    at: 10 * i,
    pids: { gateway: pidAt(10 * i) },
    values: { 'service table events: rows': 3 * i, ...values(10 * i, 3 * i) },
  }));
const verdicts = (found: readonly Sample[]) => Object.fromEntries(judged(found, 60).map(({ name, is }) => [name, is]));

it('has a table stay that nothing is said of, and those grow that are meant to, by the same for each event', () => {
  const found = samples((second, event) => ({
    'service table domains: rows': 10 + event / 4,
    'service table deliveries: rows': event ** 2,
    'service table news: rows': event / 2,
    'mail table mail_domains: rows': 7,
  }));
  expect(verdicts(found)).toEqual({
    'service table domains: rows': 'flat',
    'service table deliveries: rows': 'grows',
    'service table news: rows': 'grows',
    'mail table mail_domains: rows': 'flat',
  });
});

it('judges each process by itself, and a table over all of them', () => {
  const restarted = (second: number) => Math.floor(second / 200);
  const heap = (second: number) => 50 + 20 * restarted(second);
  expect(verdicts(samples((second) => ({ 'gateway: heap MiB': heap(second) }), restarted))).toEqual({
    'gateway: heap MiB': 'flat',
  });
  expect(verdicts(samples((second) => ({ 'gateway: heap MiB': heap(second) })))).toEqual({
    'gateway: heap MiB': 'grows',
  });
  expect(verdicts(samples((second) => ({ 'postgres: tasks': heap(second) }), restarted))).toEqual({
    'postgres: tasks': 'grows',
  });
});

it('shows the soak itself and the sandbox, which are no part of the product, and judges them not', () => {
  expect(verdicts(samples((second) => ({ 'sandbox: heap MiB': second, 'the soak: rss MiB': second })))).toEqual({});
});

it('refuses a series that nobody has said anything about', () => {
  expect(() => ruleOf('gateway: threads')).toThrow('Nothing is said of the series "gateway: threads".');
});

it('says of each table that is meant to grow why', () => {
  for (const [table, why] of Object.entries(growingTables)) {
    expect(why).toMatch(/\w+ \w+/);
    expect(ruleOf(`service table ${table}: KiB`)).toMatchObject({ is: 'cost' });
    // Of the mail server, no table is.
    expect(ruleOf(`mail table ${table}: KiB`)).toMatchObject({ is: 'level' });
  }
});
