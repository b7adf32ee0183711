import { SeenNames } from './seen-names';

it('has the names that were added, and no others', () => {
  const seen = new SeenNames();
  const names = Array.from({ length: 5_000 }, (_, i) => `d${i}.acme.com`);
  for (const name of names) seen.add(name);
  expect(names.filter((name) => !seen.has(name))).toEqual([]);
  for (const name of ['x.acme.com', 'd5000.acme.com', 'D1.acme.com', '']) expect(seen.has(name)).toBe(false);
  expect(seen.size).toBe(5_000);
});

it('takes more names after a query', () => {
  const seen = new SeenNames();
  expect(seen.has('a.com')).toBe(false);
  seen.add('b.com');
  expect(seen.has('b.com')).toBe(true);
  seen.add('a.com');
  expect(['a.com', 'b.com', 'c.com'].map((name) => seen.has(name))).toEqual([true, true, false]);
});
