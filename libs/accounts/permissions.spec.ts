import { allows, permissions, roles } from './permissions';

describe('permissions', () => {
  it.each(permissions)('root:full and the wildcard of its kind alone satisfy %s', (needed) => {
    const kind = needed.startsWith('domain.') ? 'domain.*' : 'mailbox.*';
    expect(allows(roles['root:full'], needed)).toBe(true);
    expect(['domain.*', 'mailbox.*'].filter((granted) => allows([granted], needed))).toEqual([kind]);
  });

  it('root:readonly reads and does nothing else', () => {
    expect(permissions.filter((needed) => allows(roles['root:readonly'], needed))).toEqual([
      'domain.read',
      'mailbox.read',
    ]);
  });

  it('grants nothing by likeness', () => {
    for (const granted of ['domain', '*', 'domain.', 'domains.*', 'mailboxes.*', 'DOMAIN.READ', 'domain.rea'])
      expect(permissions.some((needed) => allows([granted], needed))).toBe(false);
  });
});
