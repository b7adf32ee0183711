import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { sample } from '../../test/support/sample';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { accountsMigrations } from './accounts.migration';
import { Accounts } from './accounts.service';
import { Invitations } from './invitations.service';
import { SetupLinks } from './setup-links.service';

let database: TestDatabase;
let pool: Pool;
let accounts: Accounts;
let invitations: Invitations;

beforeAll(async () => {
  database = await databaseWith(accountsMigrations);
  pool = openPool(database.url, 12);
  accounts = new Accounts(pool);
  invitations = new Invitations(pool);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const free = () => Promise.resolve();
const newTeam = async () => (await accounts.createTeam('Acme', ['Ada@acme.com', 'ops@acme.com'])).id;
/** Counts what is left of a team that could act, or be told something. */
async function left(team: string): Promise<object> {
  const { rows } = await pool.query<object>(
    `SELECT (SELECT count(*)::int FROM api_keys WHERE team = $1 AND revoked_at IS NULL) AS keys,
      (SELECT count(*)::int FROM owners WHERE team = $1) AS owners,
      (SELECT count(*)::int FROM invitations WHERE team = $1) AS invitations,
      (SELECT count(*)::int FROM setup_links WHERE team = $1) AS "setupLinks"`,
    [team],
  );
  return rows[0]!;
}
const nothing = { keys: 0, owners: 0, invitations: 0, setupLinks: 0 };

it('ends keys, owners and invitations, and keeps the team and its keys with the time', async () => {
  const team = await newTeam();
  const key = await accounts.createKey(team, { role: 'root:full' });
  const revoked = await accounts.revokeKey((await accounts.createKey(team, { role: 'root:full' })).id);
  const { token } = await invitations.invite(team, 'grace@acme.com');
  const link = await new SetupLinks(pool).create(team, 'mdom_1');
  const gone = await accounts.deleteTeam(team, free);
  expect(await new SetupLinks(pool).find(link.token)).toBeUndefined();
  expect(gone).toMatchObject({
    id: team,
    name: 'Acme',
    keys: [key.id],
    owners: ['Ada@acme.com', 'ops@acme.com'],
    invited: ['grace@acme.com'],
  });
  expect(await left(team)).toEqual(nothing);
  expect(await accounts.authenticate(key.key)).toBeUndefined();
  await expect(invitations.accept(token)).rejects.toMatchObject({ code: 'invitation_not_found' });
  expect((await accounts.listTeams()).map(({ id }) => id)).not.toContain(team);
  expect((await accounts.deletedTeams())[0]).toMatchObject({ id: team, name: 'Acme', deletedAt: gone.deletedAt });
  const keys = await accounts.listKeys(team);
  expect(keys.map(({ revokedAt }) => revokedAt)).toEqual([gone.deletedAt, revoked.revokedAt]);

  // Again, nothing changes.
  const { deletedAt } = gone;
  expect(await accounts.deleteTeam(team, () => Promise.reject(new Error('not asked')))).toMatchObject({
    deletedAt,
    keys: [],
    owners: [],
    invited: [],
  });
  expect(await accounts.listKeys(team)).toEqual(keys);
});

it('nothing can be given to a team that is deleted', async () => {
  const team = await newTeam();
  const key = await accounts.createKey(team, { role: 'root:full' });
  await accounts.deleteTeam(team, free);
  const absent = { code: 'team_not_found', message: `There is no team ${team}.` };
  await expect(accounts.team(team)).rejects.toMatchObject(absent);
  await expect(accounts.owners(team)).rejects.toMatchObject(absent);
  await expect(accounts.createKey(team, { role: 'root:full' })).rejects.toMatchObject(absent);
  await expect(accounts.addOwners(team, ['b@acme.com'])).rejects.toMatchObject(absent);
  await expect(invitations.invite(team, 'b@acme.com')).rejects.toMatchObject(absent);
  await expect(accounts.rotateKey(key.id, 0)).rejects.toMatchObject({ code: 'key_ended' });
  await expect(accounts.deleteTeam('team_x', free)).rejects.toMatchObject({ code: 'team_not_found' });
  expect(await left(team)).toEqual(nothing);
});

it('a deletion that is refused, or whose connection ends, changes nothing', async () => {
  const team = await newTeam();
  await accounts.createKey(team, { role: 'root:full' });
  await invitations.invite(team, 'grace@acme.com');
  const all = { keys: 1, owners: 2, invitations: 1, setupLinks: 0 };
  await expect(accounts.deleteTeam(team, () => Promise.reject(new Error('in use')))).rejects.toThrow('in use');
  expect(await left(team)).toEqual(all);
  // Another transaction holds one of the rows, so the deletion waits at each of its steps in turn, and is ended there.
  for (const table of ['api_keys', 'invitations', 'owners']) {
    const held = await pool.connect();
    await held.query('BEGIN');
    await held.query(`SELECT FROM ${table} WHERE team = $1 FOR UPDATE`, [team]);
    const deletion = accounts.deleteTeam(team, free).then(
      () => 'deleted',
      () => 'ended',
    );
    const waiting = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE wait_event_type = 'Lock' AND datname = current_database()`;
    while ((await pool.query(waiting)).rowCount === 0);
    expect(await deletion).toBe('ended');
    await held.query('ROLLBACK');
    held.release();
    expect(await left(team)).toEqual(all);
    expect(await accounts.team(team)).toMatchObject({ id: team });
  }
  await accounts.deleteTeam(team, free);
  expect(await left(team)).toEqual(nothing);
});

it('whatever is done to the team meanwhile, nothing of it is left', async () => {
  for (let i = 0; i < sample(30, 1_000); i++) {
    const team = await newTeam();
    const key = await accounts.createKey(team, { role: 'root:full' });
    const { token } = await invitations.invite(team, 'grace@acme.com');
    const outcomes = await Promise.allSettled([
      accounts.createKey(team, { role: 'root:full' }),
      accounts.rotateKey(key.id, 60_000),
      invitations.accept(token),
      accounts.deleteTeam(team, free),
      accounts.deleteTeam(team, free),
      invitations.invite(team, 'joan@acme.com'),
      accounts.addOwners(team, ['linus@acme.com']),
      accounts.removeOwner(team, 'ops@acme.com'),
    ]);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ name: 'AccountRuleBroken' });
    expect(outcomes.slice(3, 5).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(await left(team)).toEqual(nothing);
  }
});
