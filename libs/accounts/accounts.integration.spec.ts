import type { Pool } from 'pg';
import { openPool } from '@app/database';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { accountsMigrations } from './accounts.migration';
import { Accounts, hashOf } from './accounts.service';
import { Invitations } from './invitations.service';
import { KeyUses } from './key-uses';

let database: TestDatabase;
let pool: Pool;
let accounts: Accounts;

beforeAll(async () => {
  database = await databaseWith(accountsMigrations);
  pool = openPool(database.url);
  accounts = new Accounts(pool);
});

afterAll(async () => {
  await pool.end();
  await database.drop();
});

describe('teams and owners', () => {
  it('R9: keeps addresses once, as they were written first', async () => {
    const team = await accounts.createTeam(' Acme ', ['Ada@Acme.com', 'ada@acme.com ', 'bob@acme.com']);
    expect(team).toMatchObject({ id: expect.stringMatching(/^team_[0-9a-z]{10}$/) as string, name: 'Acme' });
    expect(await accounts.owners(team.id)).toEqual(['Ada@Acme.com', 'bob@acme.com']);
    expect(await accounts.addOwners(team.id, ['ADA@acme.com', 'Cyd@acme.com'])).toHaveLength(3);
    expect(await accounts.removeOwner(team.id, 'Bob@acme.com')).toEqual(['Ada@Acme.com', 'Cyd@acme.com']);
    const invitations = new Invitations(pool);
    expect((await accounts.ownersOfTeams()).get(team.id)).toEqual(['Ada@Acme.com', 'Cyd@acme.com']);
    const invited = await invitations.invite(team.id, 'Grace.Hopper@acme.com');
    expect(invited.email).toBe('Grace.Hopper@acme.com');
    await expect(invitations.invite(team.id, 'ada@acme.com')).rejects.toMatchObject({ code: 'already_owner' });
    const again = await invitations.invite(team.id, 'GRACE.Hopper@acme.com');
    expect((await invitations.list(team.id)).map(({ email }) => email)).toEqual(['GRACE.Hopper@acme.com']);
    await accounts.addOwners(team.id, ['grace.hopper@acme.com']);
    await expect(invitations.accept(again.token)).rejects.toMatchObject({ code: 'invitation_not_found' });
    const last = await invitations.invite(team.id, 'Zoe@acme.com');
    expect(await invitations.accept(last.token)).toMatchObject({ email: 'Zoe@acme.com' });
    expect(await accounts.owners(team.id)).toEqual([
      'Ada@Acme.com',
      'Cyd@acme.com',
      'grace.hopper@acme.com',
      'Zoe@acme.com',
    ]);
    expect(await accounts.listTeams()).toContainEqual(team);
  });

  it.each([
    ['no owner', 'Acme', [], 'invalid_email', 'at least one owner'],
    ['no address', 'Acme', ['ada'], 'invalid_email', '"ada"'],
    ['an injected header', 'Acme', ['ada@acme.com\r\nBcc: x@y.com'], 'invalid_email', 'Not an e-mail address'],
    ['one in quotes', 'Acme', ['"a\r\nBcc: x@y.com\r\n"@acme.com'], 'invalid_email', 'Not an e-mail address'],
    ['no name', ' ', ['ada@acme.com'], 'invalid_name', '1 to 200'],
    ['what no reader sees', 'Acme', ['ada\u202ecba@acme.com'], 'invalid_email', 'Not an e-mail address'],
    ['a line that only some readers end', 'Acme', ['ada\u2028@acme.com'], 'invalid_email', 'Not an e-mail address'],
    ['a name of two lines', 'a\nb', ['ada@acme.com'], 'invalid_name', 'one line'],
    ['a name of two lines of Unicode', 'a\u0085b', ['ada@acme.com'], 'invalid_name', 'one line'],
    ['a name of two paragraphs', 'a\u2029b', ['ada@acme.com'], 'invalid_name', 'one line'],
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

  it('reports a missing team', async () => {
    const absent = { code: 'team_not_found', message: 'There is no team team_x.' };
    await expect(accounts.owners('team_x')).rejects.toMatchObject(absent);
    await expect(accounts.addOwners('team_x', ['a@acme.com'])).rejects.toMatchObject(absent);
    await expect(accounts.removeOwner('team_x', 'a@acme.com')).rejects.toMatchObject(absent);
    await expect(accounts.createKey('team_x', { role: 'root:full' })).rejects.toMatchObject(absent);
    await expect(accounts.listKeys('team_x')).rejects.toMatchObject(absent);
  });
});

describe('API keys', () => {
  it('is valid until it is revoked, and stored as a hash only', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const { key, ...shown } = await accounts.createKey(team, { role: 'root:full' }, 'deploy');
    expect(key).toMatch(/^smx_root_[0-9a-z]{42}$/);
    expect(shown).toMatchObject({ team, name: 'deploy', hint: key.slice(-4), role: 'root:full', revokedAt: null });
    const { role, permissions } = shown;
    expect(permissions).toEqual(['domain.*', 'mailbox.*', 'key.*', 'owner.*', 'webhook.*']);
    expect(await accounts.authenticate(key)).toEqual({ keyId: shown.id, team, role, permissions });
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

  it('is rotated into one with the same grant, and stays valid beside it for a while', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const old = await accounts.createKey(team, { permissions: ['domain.read'] }, 'deploy');
    const made = await accounts.rotateKey(old.id, 86_400_000);
    expect(made).toMatchObject({ team, name: 'deploy', permissions: ['domain.read'], expiresAt: null });
    const { expiresAt } = made.rotated;
    expect(Math.abs(expiresAt.getTime() - Date.now() - 86_400_000)).toBeLessThan(60_000);
    for (const { key } of [old, made]) expect(await accounts.authenticate(key)).toMatchObject({ team });

    // A second rotation never extends the life of the old key.
    expect((await accounts.rotateKey(old.id, 10 * 86_400_000)).rotated.expiresAt).toEqual(expiresAt);
    const last = await accounts.rotateKey(old.id, 0);
    expect(await accounts.authenticate(old.key)).toBeUndefined();
    expect(await accounts.authenticate(last.key)).toMatchObject({ keyId: last.id });
    await expect(accounts.rotateKey(old.id, 0)).rejects.toMatchObject({ code: 'key_ended' });
    await accounts.revokeKey(made.id);
    await expect(accounts.rotateKey(made.id, 0)).rejects.toMatchObject({ code: 'key_ended' });
    await expect(accounts.rotateKey('key_x', 0)).rejects.toMatchObject({ code: 'key_not_found' });
    expect(await accounts.listKeys(team)).toHaveLength(4);
  });

  it('has a time of its last use, at the cost of one statement for all keys, which may fail', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const [one, two] = [
      await accounts.createKey(team, { role: 'root:full' }),
      await accounts.createKey(team, { role: 'root:full' }),
    ];
    const used = async () => (await accounts.listKeys(team)).map(({ lastUsedAt }) => lastUsedAt?.getTime() ?? null);
    const statements: string[] = [];
    let isAway = true;
    const watched = {
      query: (text: string, values: unknown[]) => {
        statements.push(text);
        return isAway ? Promise.reject(new Error('away')) : pool.query(text, values);
      },
    } as unknown as Pool;
    const uses = new KeyUses(watched);
    await uses.flush();
    expect(statements).toEqual([]);
    const at = Date.now();
    for (let i = 0; i < 1_000; i++) uses.note(i % 2 ? one.id : two.id, at + i);
    expect(await used()).toEqual([null, null]);
    await uses.flush();
    isAway = false;
    uses.note(two.id, at + 2_000);
    await uses.flush();
    expect(await used()).toEqual([at + 999, at + 2_000]);
    expect(statements).toHaveLength(2);
    // Another process writes its uses late.
    const late = new KeyUses(pool);
    late.note(one.id, at);
    await late.beforeApplicationShutdown();
    expect(await used()).toEqual([at + 999, at + 2_000]);
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

describe('an invitation', () => {
  const invitations = () => new Invitations(pool);

  it('makes an owner of whoever accepts it, once', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const { token, ...invited } = await invitations().invite(team, ' Grace@Acme.com ');
    expect(token).toMatch(/^smx_invite_[0-9a-z]{42}$/);
    expect(invited).toMatchObject({ team, email: 'Grace@Acme.com', teamName: 'Acme' });
    expect(Math.abs(invited.expiresAt.getTime() - Date.now() - 7 * 86_400_000)).toBeLessThan(60_000);
    expect(await accounts.owners(team)).toEqual(['a@acme.com']);
    expect(await invitations().list(team)).toMatchObject([{ email: 'Grace@Acme.com' }]);
    const { rows } = await pool.query<{ all: string }>('SELECT string_agg(i::text, $1) AS all FROM invitations i', [
      ' ',
    ]);
    expect(rows[0]!.all).not.toContain(token.slice(11));

    const accepted = await Promise.allSettled([1, 2, 3].map(() => invitations().accept(token)));
    expect(accepted.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await accounts.owners(team)).toEqual(['a@acme.com', 'Grace@Acme.com']);
    expect(await invitations().list(team)).toEqual([]);
    await expect(invitations().invite(team, 'grace@acme.com')).rejects.toMatchObject({ code: 'already_owner' });
  });

  it('ends when the address becomes an owner without it, and never restores a removed owner', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const { token } = await invitations().invite(team, 'b@acme.com');
    await accounts.addOwners(team, ['B@acme.com']);
    expect(await invitations().list(team)).toEqual([]);
    // Another process has written a later use meanwhile.
    await pool.query(
      `INSERT INTO invitations (team, email, hash, expires_at) VALUES ($1, 'b@acme.com', $2, now() + interval '1 day')`,
      [team, hashOf(token)],
    );
    await accounts.removeOwner(team, 'b@acme.com');
    await expect(invitations().accept(token)).rejects.toMatchObject({ code: 'invitation_not_found' });
    expect(await accounts.owners(team)).toEqual(['a@acme.com']);
  });

  it('that is replaced, withdrawn, expired or unknown is refused alike', async () => {
    const { id: team } = await accounts.createTeam('Acme', ['a@acme.com']);
    const replaced = await invitations().invite(team, 'b@acme.com');
    const newest = await invitations().invite(team, 'b@acme.com');
    const withdrawn = await invitations().invite(team, 'c@acme.com');
    await invitations().withdraw(team, 'C@acme.com');
    const old = await invitations().invite(team, 'd@acme.com');
    await pool.query(`UPDATE invitations SET expires_at = now() WHERE email = 'd@acme.com'`);
    const messages = await Promise.all(
      [replaced, withdrawn, old, { token: 'smx_invite_x' }].map(({ token }) =>
        invitations()
          .accept(token)
          .catch((error: Error) => error.message),
      ),
    );
    expect(new Set(messages)).toEqual(
      new Set(['There is no such invitation, or no more. Ask the team to invite you again.']),
    );
    expect(await accounts.owners(team)).toEqual(['a@acme.com']);
    expect(await invitations().accept(newest.token)).toEqual({ team, email: 'b@acme.com' });
    await expect(invitations().withdraw(team, 'c@acme.com')).rejects.toMatchObject({ code: 'invitation_not_found' });
    await expect(invitations().invite('team_0', 'b@acme.com')).rejects.toMatchObject({ code: 'team_not_found' });
    await expect(invitations().invite(team, 'b')).rejects.toMatchObject({ code: 'invalid_email' });
  });
});
