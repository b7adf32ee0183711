import { allows, permissions, roles } from './permissions';

describe('permissions', () => {
  it.each(permissions)('root:full and domain.* satisfy %s', (needed) => {
    expect(allows(roles['root:full'], needed)).toBe(true);
    expect(allows(['domain.*'], needed)).toBe(true);
  });

  it('root:readonly reads and does nothing else', () => {
    expect(permissions.filter((needed) => allows(roles['root:readonly'], needed))).toEqual(['domain.read']);
  });

  it('grants nothing by likeness', () => {
    for (const granted of ['domain', '*', 'domain.', 'domains.*', 'mailbox.*', 'DOMAIN.READ', 'domain.rea'])
      expect(permissions.some((needed) => allows([granted], needed))).toBe(false);
  });
});
