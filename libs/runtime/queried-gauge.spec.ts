import { Gauge, register } from 'prom-client';
import { queriedGauge, type Measurement } from './queried-gauge';

const away = () => Promise.reject(new Error('the database is away'));

describe('a gauge that is queried', () => {
  beforeAll(() => new Gauge({ name: 'test_other', help: 'Another metric' }).set(7));

  it.each([
    ['with labels', 'test_labelled', ['list'], 'test_labelled{list="a"} 3'],
    ['without labels', 'test_plain', [], 'test_plain 3'],
  ])('%s is left out while its source is away, and the others are not', async (_, name, labelNames, line) => {
    const present: Measurement = labelNames.length > 0 ? { labels: { list: 'a' }, value: 3 } : { value: 3 };
    let query: () => Promise<readonly Measurement[]> = () => Promise.resolve([present]);
    queriedGauge({ name, help: 'A test', labelNames }, () => query());
    expect(await register.metrics()).toContain(`${line}\n`);
    query = away;
    const text = await register.metrics();
    expect(text).not.toMatch(new RegExp(`^${name}[ {]`, 'm'));
    expect(text).toContain('test_other 7');
    query = () => Promise.resolve([present]);
    const again = await register.metrics();
    expect(again).toContain(`${line}\n`);
    expect(again).toContain(`sendmux_metric_failures_total{metric="${name}"} 1`);
  });
});
