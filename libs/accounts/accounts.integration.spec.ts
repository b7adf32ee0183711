import type { Pool } from 'pg';
import { migrate, openPool } from '@app/database';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { accountsMigrations } from './accounts.migration';
import { Accounts } from './accounts.service';

let database: TestDatabase;
let pool: Pool;
let accounts: Accounts;

beforeAll(async () => {
  database = await testDatabase();
  await migrate(database.url, accountsMigrations);
  pool = openPool(database.url);
  accounts = new Accounts(pool);
});

afterAll(async () => {
  await pool.end();
  await database.drop();
});

describe('teams and owners', () => {
  it('keeps addresses once, in lower case', async () => {
    const team = await accounts.createTeam(' Acme ', ['Ada@Acme.com', 'ada@acme.com ', 'bob@acme.com']);
    expect(team).toMatchObject({ id: expect.stringMatching(/^team_[0-9a-z]{10}$/) as string, name: 'Acme' });
    expect(await accounts.owners(team.id)).toEqual(['ada@acme.com', 'bob@acme.com']);
    expect(await accounts.addOwners(team.id, ['ADA@acme.com', 'cyd@acme.com'])).toHaveLength(3);
    expect(await accounts.removeOwner(team.id, 'Bob@acme.com')).toEqual(['ada@acme.com', 'cyd@acme.com']);
    expect(await accounts.listTeams()).toContainEqual(team);
  });

  it.each([
    ['no owner', 'Acme', [], 'invalid_email', 'at least one owner'],
    ['no address', 'Acme', ['ada'], 'invalid_email', '"ada"'],
    ['an injected header', 'Acme', ['ada@acme.com\r\nBcc: x@y.com'], 'invalid_email', 'Not an e-mail address'],
    ['no name', ' ', ['ada@acme.com'], 'invalid_name', '1 to 200'],
    ['a name of two lines', 'a\nb', ['ada@acme.com'], 'invalid_name', 'one line'],
  ])('refuses %s and creates nothing', async (_what, name, owners, code, message) => {
    const before = await accounts.listTeams();
    await expect(accounts.createTeam(name, owners)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message) as string,
    });
    expect(await accounts.listTeams()).toEqual(before);
  });

  it('never loses the last owner, not even to two removals at once', async () => {
    const { id } = await accounts.createTeam('Acme', ['a@acme.com', 'b@acme.com']);
    const removals = await Promise.allSettled(['a@acme.com', 'b@acme.com'].map((o) => accounts.removeOwner(id, o)));
    expect(removals.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(removals.find((r) => r.status === 'rejected')).toMatchObject({ reason: { code: 'last_owner' } });
    expect(await accounts.owners(id)).toHaveLength(1);
    await expect(accounts.removeOwner(id, 'c@acme.com')).rejects.toMatchObject({ code: 'owner_not_found' });
  });

  it('says that a team is not there', async () => {
    const absent = { code: 'team_not_found', message: 'There is no team team_x.' };
    await expect(accounts.owners('team_x')).rejects.toMatchObject(absent);
    await expect(accounts.addOwners('team_x', ['a@acme.com'])).rejects.toMatchObject(absent);
    await expect(accounts.removeOwner('team_x', 'a@acme.com')).rejects.toMatchObject(absent);
    await expect(accounts.createKey('team_x', { role: 'root:full' })).rejects.toMatchObject(absent);
    await expect(accounts.listKeys('team_x')).rejects.toMatchObject(absent);
  });
});

describe('API keys', () => {
  it('opens until it is revoked, and is kept as a hash only', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const { key, ...shown } = await accounts.createKey(team, { role: 'root:full' }, 'deploy');
    expect(key).toMatch(/^smx_root_[0-9a-z]{42}$/);
    expect(shown).toMatchObject({ team, name: 'deploy', hint: key.slice(-4), role: 'root:full', revokedAt: null });
    expect(await accounts.authenticate(key)).toEqual({ keyId: shown.id, team, permissions: ['domain.*'] });
    expect(await accounts.authenticate(`${key} `)).toBeUndefined();
    expect(await accounts.authenticate('')).toBeUndefined();

    const { rows } = await pool.query<{ all: string }>('SELECT string_agg(k::text, $1) AS all FROM api_keys k', [' ']);
    expect(rows[0]!.all).not.toContain(key.slice(9, -4));

    const revoked = await accounts.revokeKey(shown.id);
    expect(await accounts.authenticate(key)).toBeUndefined();
    expect(await accounts.revokeKey(shown.id)).toEqual(revoked);
    expect(await accounts.listKeys(team)).toEqual([revoked]);
    await expect(accounts.revokeKey('key_x')).rejects.toMatchObject({ code: 'key_not_found' });
  });

  it('carries single permissions', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const { key } = await accounts.createKey(team, { permissions: ['domain.read', 'domain.verify', 'domain.read'] });
    expect((await accounts.authenticate(key))!.permissions).toEqual(['domain.read', 'domain.verify']);
  });

  it.each([
    ['a role that is none', { role: 'toString' }, 'root:full, root:readonly'],
    ['a permission that is none', { permissions: ['domain.read', 'domain.write'] }, '"domain.write"'],
    ['nothing at all', { permissions: [] }, 'at least one permission'],
  ])('refuses %s', async (_what, grant, message) => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    await expect(accounts.createKey(team, grant)).rejects.toMatchObject({
      code: 'invalid_grant',
      message: expect.stringContaining(message) as string,
    });
    expect(await accounts.listKeys(team)).toEqual([]);
  });
});
