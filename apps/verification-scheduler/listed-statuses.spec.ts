import { ListedStatuses } from './listed-statuses';

it('gives each status, and none for a name that was not listed', () => {
  const statuses = new ListedStatuses();
  const names = Array.from({ length: 5_000 }, (_, i) => `d${i}.acme.com`);
  const of = (i: number) => (i % 100 === 0 ? 'pending' : i % 101 === 0 ? 'failed' : 'success');
  names.forEach((name, i) => statuses.add(name, of(i)));
  expect(names.map((name) => statuses.get(name))).toEqual(names.map((_, i) => of(i)));
  for (const name of ['x.acme.com', 'd5000.acme.com', 'D1.acme.com', '']) expect(statuses.get(name)).toBeUndefined();
});
it('accepts more statuses after a query', () => {
  const statuses = new ListedStatuses();
  expect(statuses.get('a.com')).toBeUndefined();
  statuses.add('b.com', 'success');
  expect(statuses.get('b.com')).toBe('success');
  statuses.add('a.com', 'success');
  expect([statuses.get('a.com'), statuses.get('b.com'), statuses.get('c.com')]).toEqual([
    'success',
    'success',
    undefined,
  ]);
});
