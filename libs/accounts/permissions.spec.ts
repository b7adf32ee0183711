import fc from 'fast-check';
import { allows, grantable, isRole, mayGive, permissions, roles, type Rights } from './permissions';

describe('permissions', () => {
  it.each(permissions)('root:full and the wildcard of its kind alone satisfy %s', (needed) => {
    const kind = needed.replace(/\..*/, '.*');
    expect(allows(roles['root:full'], needed)).toBe(true);
    expect(roles['root:full'].filter((granted) => allows([granted], needed))).toEqual([kind]);
  });

  it('root:readonly reads and does nothing else', () => {
    expect(permissions.filter((needed) => allows(roles['root:readonly'], needed))).toEqual([
      'domain.read',
      'mailbox.read',
      'key.read',
      'owner.read',
      'webhook.read',
    ]);
  });

  it('grants nothing by a similar name', () => {
    for (const granted of ['domain', '*', 'domain.', 'domains.*', 'mailboxes.*', 'DOMAIN.READ', 'domain.rea'])
      expect(permissions.some((needed) => allows([granted], needed))).toBe(false);
  });

  it('a key gives nothing that it may not do itself', () => {
    const rights = fc
      .oneof(fc.constantFrom(...Object.keys(roles)), fc.uniqueArray(fc.constantFrom(...grantable), { minLength: 1 }))
      .map((given): Rights => {
        if (typeof given !== 'string') return { role: null, permissions: given };
        return { role: given, permissions: isRole(given) ? roles[given] : [] };
      });
    fc.assert(
      fc.property(rights, rights, (own, wanted) => {
        const grant = wanted.role === null ? { permissions: wanted.permissions } : { role: wanted.role };
        if (!mayGive(own, grant)) return;
        for (const needed of permissions)
          if (allows(wanted.permissions, needed)) expect(allows(own.permissions, needed)).toBe(true);
      }),
      { seed: 18, numRuns: 2_000 },
    );
  });

  it('a role is given only by a key that has it, or the role of everything: it may gain permissions', () => {
    const everything: Rights = { role: null, permissions: grantable };
    expect(mayGive(everything, { role: 'root:readonly' })).toBe(false);
    expect(mayGive(everything, { permissions: grantable })).toBe(true);
    for (const role of Object.keys(roles))
      expect(Object.keys(roles).filter((own) => mayGive({ role: own, permissions: [] }, { role }))).toEqual(
        role === 'root:full' ? ['root:full'] : ['root:full', role],
      );
  });
});
