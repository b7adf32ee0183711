import { Sessions, sessionsOfKeyLimit } from '@app/accounts';
import { Pool } from 'pg';
import { publicUrl, startGateway, type Call, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
let owner: { key: string; team: string; id: string };

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = new Pool({ connectionString: database.url });
  gateway = await startGateway(database.url);
});
beforeEach(async () => (owner = await gateway.key()));
afterAll(async () => {
  await gateway.close();
  await pool.end();
  await database.drop();
});

const call = (method: string, path: string, given: Call = {}) => gateway.call(method, `/api/v1${path}`, given);
const signIn = async (key = owner.key, headers: Record<string, string> = {}) => {
  const answer = await call('POST', '/session', { body: { api_key: key }, headers });
  return { answer, cookie: answer.headers.get('set-cookie')?.split(';', 1)[0] ?? '' };
};
const ours = { 'sec-fetch-site': 'same-origin' };
const by = (cookie: string, headers: Record<string, string> = {}): Call => ({ headers: { cookie, ...headers } });
/** Sets how long ago a session began and was last used, as far as its ends say. */
const age = (began: string, left: string) =>
  pool.query(`UPDATE console_sessions SET created_at = now() - $1::interval, expires_at = now() + $2::interval`, [
    began,
    left,
  ]);
const left = async (cookie: string) => {
  const { body } = await call('GET', '/session', by(cookie));
  return (Date.parse((body.data as unknown as { expires_at: string }).expires_at) - Date.now()) / 60_000;
};

it('is begun with a key, stands for it on every operation, and is ended', async () => {
  const { answer, cookie } = await signIn();
  expect(answer.status).toBe(201);
  expect(answer.headers.get('set-cookie')).toMatch(
    /^__Host-sendmux_session=smx_session_[0-9a-z]{42}; Path=\/; HttpOnly; SameSite=Strict; Secure$/,
  );
  expect(answer.text).not.toMatch(/smx_(session|root)/);
  const { expires_at: expiresAt, ...me } = answer.body.data as unknown as { expires_at: string };
  expect(me).toEqual((await call('GET', '/me', { key: owner.key })).body.data);
  expect(Math.abs(Date.parse(expiresAt) - Date.now() - 1_800_000)).toBeLessThan(60_000);
  expect((await call('GET', '/session', by(cookie))).body.data).toMatchObject(me);

  const added = await call('POST', '/domains', { ...by(cookie, ours), body: { domain: 'console.acme.com' } });
  expect(added.status).toBe(201);
  expect((await call('GET', `/domains/${added.body.data.id}`, by(cookie))).status).toBe(200);

  const ended = await call('DELETE', '/session', by(cookie, ours));
  expect([ended.status, ended.headers.get('set-cookie')]).toEqual([200, expect.stringContaining('Max-Age=0')]);
  for (const path of ['/session', '/domains', '/me']) expect((await call('GET', path, by(cookie))).status).toBe(401);
  expect((await call('DELETE', '/session', by(cookie, ours))).status).toBe(401);
});

it('is kept as a hash, and is not begun with anything but a key that is valid', async () => {
  const { cookie } = await signIn();
  const { rows } = await pool.query<{ row: string }>('SELECT console_sessions::text AS row FROM console_sessions');
  expect(rows.map(({ row }) => row).join()).not.toContain(cookie.slice(-42));
  await gateway.accounts.revokeKey(owner.id);
  for (const key of [owner.key, cookie.split('=')[1]!, 'x']) expect((await signIn(key)).answer.status).toBe(401);
  expect((await call('GET', '/session', { key: owner.key })).status).toBe(401);
});

it('has the permissions of its key, and ends with it', async () => {
  const { key, id } = await gateway.accounts.createKey(owner.team, { permissions: ['domain.read'] });
  const { cookie } = await signIn(key);
  expect((await call('GET', '/domains', by(cookie))).status).toBe(200);
  expect((await call('GET', '/keys', by(cookie))).status).toBe(403);
  await pool.query(`UPDATE api_keys SET permissions = '{key.read}' WHERE id = $1`, [id]);
  expect((await call('GET', '/domains', by(cookie))).status).toBe(403);
  expect((await call('GET', '/keys', by(cookie))).status).toBe(200);
  await gateway.accounts.rotateKey(id, 3_600_000);
  expect((await call('GET', '/keys', by(cookie))).status).toBe(200);
  await gateway.accounts.rotateKey(id, 0);
  expect((await call('GET', '/keys', by(cookie))).status).toBe(401);

  const { cookie: other } = await signIn();
  await gateway.accounts.revokeKey(owner.id);
  for (const path of ['/session', '/domains']) expect((await call('GET', path, by(other))).status).toBe(401);
  const sessions = gateway.app.get(Sessions, { strict: false });
  await sessions.purge();
  const { rows } = await pool.query('SELECT FROM console_sessions WHERE key_id = ANY($1)', [[id, owner.id]]);
  expect(rows).toEqual([]);
});

it.each([
  ['the page of this origin', { 'sec-fetch-site': 'same-origin' }, true],
  ['a browser that names the origin only', { origin: publicUrl }, true],
  ['another origin', { origin: 'https://evil.example' }, false],
  ['another port', { origin: `${publicUrl}:8443` }, false],
  ['no origin', { origin: 'null' }, false],
  ['another host of the site', { 'sec-fetch-site': 'same-site', origin: publicUrl }, false],
  ['another site', { 'sec-fetch-site': 'cross-site' }, false],
  ['whatever the user has entered', { 'sec-fetch-site': 'none' }, false],
  ['nobody who says so', {}, false],
])('changes something for %s: %j', async (_who, headers, isOwn) => {
  const { cookie } = await signIn();
  const id = (await call('POST', '/keys', { key: owner.key, body: { name: 'x', role: 'root:full' } })).body.data.id;
  for (const [method, path] of [
    ['DELETE', `/keys/${id}`],
    ['DELETE', '/session'],
  ] as const) {
    const { status, body } = await call(method, path, by(cookie, headers));
    expect([status, body.error?.code]).toEqual(isOwn ? [200, undefined] : [403, 'insufficient_permissions']);
  }
  if (isOwn) return;
  // It was read all the same, and nothing has happened.
  expect((await call('GET', `/keys/${id}`, by(cookie, headers))).body.data).toMatchObject({ revoked_at: null });
  // A key that is sent is no cookie: no browser sends it on its own.
  expect((await call('DELETE', `/keys/${id}`, { ...by(cookie, headers), key: owner.key })).status).toBe(200);
});

it('is named by a cookie that no other host of the site can have set', async () => {
  const mine = (await call('GET', '/me', { key: owner.key })).body.data;
  const { cookie } = await signIn((await gateway.key()).key);
  const token = cookie.slice(cookie.indexOf('=') + 1);
  const names = [
    'sendmux_session',
    '__host-sendmux_session',
    '\u00a0__Host-sendmux_session',
    '\t__Host-sendmux_session',
  ];
  for (const name of names) {
    expect((await call('GET', '/session', by(`a=b; ${name}=${token}`))).status).toBe(401);
    const { cookie: own } = await signIn();
    const { body } = await call('GET', '/session', by(`a=b; ${name}=${token}; ${own}`));
    expect(body.data).toMatchObject(mine);
  }
});

it('is not begun by a page of another origin', async () => {
  for (const headers of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }] as Record<
    string,
    string
  >[]) {
    const { answer, cookie } = await signIn(owner.key, headers);
    expect([answer.status, cookie]).toEqual([403, '']);
  }
  expect((await signIn(owner.key, { origin: publicUrl })).answer.status).toBe(201);
});

it('is begun with a key that is valid whatever else comes from the same address', async () => {
  const limited = await startGateway(database.url, { RATE_LIMIT_PER_MINUTE: 3 });
  const begin = async (key: string) =>
    (await limited.call('POST', '/api/v1/session', { body: { api_key: key } })).status;
  const guesses: number[] = [];
  // The counts begin anew with each minute, which may be now.
  for (let i = 0; i < 7; i++) guesses.push(await begin(`smx_root_${i}`));
  expect([...new Set(guesses)].sort()).toEqual([401, 429]);
  expect(await begin(owner.key)).toBe(201);
  await limited.close();
});

it('ends half an hour after its last use, and after eight hours', async () => {
  const { cookie } = await signIn();
  await age('10 minutes', '20 minutes');
  expect(await left(cookie)).toBeGreaterThan(29);
  await age('7 hours 50 minutes', '3 minutes');
  expect(Math.round(await left(cookie))).toBe(10);
  await age('1 hour', '0 minutes');
  expect((await call('GET', '/session', by(cookie))).status).toBe(401);
});

it('is one of so many of a key: another one ends the oldest', async () => {
  const first = await signIn();
  for (let i = 1; i < sessionsOfKeyLimit; i++) await signIn();
  expect((await call('GET', '/session', by(first.cookie))).status).toBe(200);
  await Promise.all(Array.from({ length: 5 }, () => signIn()));
  const { rows } = await pool.query('SELECT FROM console_sessions WHERE key_id = $1', [owner.id]);
  expect(rows).toHaveLength(sessionsOfKeyLimit);
  const last = await signIn();
  expect((await call('GET', '/session', by(first.cookie))).status).toBe(401);
  expect((await call('GET', '/session', by(last.cookie))).status).toBe(200);
});
