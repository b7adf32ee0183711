import { allows } from './permissions';

it('knows a permission by its name, or by the wildcard of its kind', () => {
  expect(allows(['domain.read'], 'domain.read')).toBe(true);
  expect(allows(['domain.*'], 'domain.delete')).toBe(true);
  expect(allows(['domain.read', 'key.*'], 'domain.delete')).toBe(false);
  expect(allows([], 'domain.read')).toBe(false);
});
