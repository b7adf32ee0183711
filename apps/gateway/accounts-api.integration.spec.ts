import { Invitations } from '@app/accounts';
import type { OwnersEnvelope } from './accounts/owners.dto';
import type { KeySchema, NewKeySchema } from './accounts/keys.dto';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
});

const call = (method: string, path: string, key: string, body?: object, headers?: Record<string, string>) =>
  gateway.call(method, `/api/v1${path}`, { key, body, headers });
const keyOf = ({ body }: Answer) => body.data as unknown as NewKeySchema;
const isValid = async (key: string) => (await call('GET', '/me', key)).status === 200;

describe('keys', () => {
  it('are created, used, listed without their secret, rotated and revoked', async () => {
    const { key: root } = await gateway.key();
    const made = await call('POST', '/keys', root, { name: 'Watch', permissions: ['domain.read'] });
    expect([made.status, made.headers.get('location')]).toEqual([201, `/api/v1/keys/${keyOf(made).id}`]);
    const { key, ...shown } = keyOf(made);
    expect(shown).toMatchObject({ name: 'Watch', role: null, permissions: ['domain.read'], hint: key.slice(-4) });
    expect((await call('GET', '/domains', key)).status).toBe(200);
    expect((await call('POST', '/domains', key, { domain: 'mail.acme.com' })).status).toBe(403);

    const list = await call('GET', '/keys', root);
    expect(list.text).not.toContain(key);
    expect((list.body.data as unknown as KeySchema[]).map(({ id }) => id)[0]).toBe(shown.id);
    expect((await call('GET', `/keys/${shown.id}`, root)).body.data).toMatchObject({ id: shown.id, revoked_at: null });

    const rotated = keyOf(await call('POST', `/keys/${shown.id}/rotate`, root, { overlap_seconds: 3600 }));
    expect(rotated).toMatchObject({ name: 'Watch', permissions: ['domain.read'] });
    expect([await isValid(key), await isValid(rotated.key)]).toEqual([true, true]);
    expect((await call('DELETE', `/keys/${rotated.id}`, root)).body.data).toMatchObject({
      revoked_at: expect.any(String) as string,
    });
    expect([await isValid(key), await isValid(rotated.key)]).toEqual([true, false]);
    expect(await call('POST', `/keys/${rotated.id}/rotate`, root)).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict' } },
    });
    // A key that ends is rotated once more, and never lives longer for it. Without a body the overlap is a day.
    const { expires_at: ends } = (await call('GET', `/keys/${shown.id}`, root)).body.data as unknown as KeySchema;
    await call('POST', `/keys/${shown.id}/rotate`, root);
    expect((await call('GET', `/keys/${shown.id}`, root)).body.data).toMatchObject({ expires_at: ends });
    await call('POST', `/keys/${shown.id}/rotate`, root, { overlap_seconds: 0 });
    expect(await isValid(key)).toBe(false);
  });

  it('come in pages, the newest first', async () => {
    const { key: root, id: first } = await gateway.key();
    const made = [first];
    for (let i = 0; i < 4; i++)
      made.push(keyOf(await call('POST', '/keys', root, { name: 'x', role: 'root:full' })).id);
    const seen: string[] = [];
    for (let cursor: string | undefined = ''; cursor !== undefined;) {
      const { body } = await call('GET', `/keys?limit=2${cursor && `&cursor=${cursor}`}`, root);
      seen.push(...(body.data as unknown as KeySchema[]).map(({ id }) => id));
      cursor = body.pagination.next_cursor;
    }
    expect(seen).toEqual(made.sort().reverse());
  });

  it.each([
    ['a role', { role: 'root:full' }],
    ['a lesser role', { role: 'root:readonly' }],
    ['a wildcard', { permissions: ['key.*'] }],
    ['another permission', { permissions: ['key.create', 'domain.read'] }],
  ])('cannot mint %s that they do not have', async (_what, grant) => {
    const { key: root } = await gateway.key();
    const minter = keyOf(await call('POST', '/keys', root, { name: 'm', permissions: ['key.create', 'key.update'] }));
    expect(await call('POST', '/keys', minter.key, { name: 'x', ...grant })).toMatchObject({
      status: 403,
      body: { error: { code: 'insufficient_permissions' } },
    });
    // Nor by the rotation of a key that has it.
    const { id } = keyOf(await call('POST', '/keys', root, { name: 'x', ...grant }));
    expect((await call('POST', `/keys/${id}/rotate`, minter.key)).status).toBe(403);
    expect((await call('GET', `/keys/${id}`, root)).body.data).toMatchObject({ expires_at: null });
    const same = { name: 'x', permissions: ['key.create'] };
    expect((await call('POST', '/keys', minter.key, same)).status).toBe(201);
  });

  it('give none that outlives them, by creation or rotation, of themselves or another', async () => {
    const { key: root, id } = await gateway.key();
    const create = (key: string) => call('POST', '/keys', key, { name: 'x', role: 'root:full' });
    const rotate = (key: string, which: string) => call('POST', `/keys/${which}/rotate`, key);
    // While it has no end, neither has what it gives, itself anew included.
    const other = keyOf(await create(root));
    const anew = keyOf(await rotate(root, id));
    expect([other.expires_at, anew.expires_at]).toEqual([null, null]);
    const end = keyOf(await call('GET', `/keys/${id}`, root)).expires_at;
    expect(end).not.toBeNull();

    const given = [await create(root), await rotate(root, id), await rotate(root, other.id)].map(keyOf);
    given.push(keyOf(await create(given[0]!.key)), keyOf(await rotate(given[1]!.key, given[1]!.id)));
    expect(given.map((each) => each.expires_at)).toEqual(given.map(() => end));
    // One without an end still gives keys without one, also in the place of a key that ends.
    expect(keyOf(await rotate(anew.key, given[0]!.id)).expires_at).toBeNull();
  });

  it.each([
    [{ role: 'root:full' }, 'missing_parameter', 'name'],
    [{ name: '', role: 'root:full' }, 'invalid_parameter', 'name'],
    [{ name: ' ', role: 'root:full' }, 'validation_error', 'name'],
    [{ name: 'x' }, 'invalid_parameter', 'permissions'],
    [{ name: 'x', role: 'root:full', permissions: ['domain.read'] }, 'invalid_parameter', 'permissions'],
    [{ name: 'x', role: 'root:all' }, 'invalid_parameter', 'role'],
    [{ name: 'x', permissions: ['domain.reed'] }, 'invalid_parameter', 'permissions'],
    [{ name: 'x', permissions: [] }, 'validation_error', 'permissions'],
    [{ name: 'x', permissions: 'domain.read' }, 'invalid_parameter', 'permissions'],
  ])('are not created from %j', async (body, code, param) => {
    const { key } = await gateway.key();
    expect((await call('POST', '/keys', key, body)).body.error).toMatchObject({ code, param });
  });

  it.each([-1, 1.5, '60', 1e9, null])('are not rotated with an overlap of %j seconds', async (seconds) => {
    const { key, id } = await gateway.key();
    const answer = await call('POST', `/keys/${id}/rotate`, key, { overlap_seconds: seconds });
    expect([answer.status, answer.body.error.param]).toEqual([400, 'overlap_seconds']);
    expect(await isValid(key)).toBe(true);
  });
});

describe('GET /me', () => {
  it('tells the team, the key, its permissions by both names, usage and limits', async () => {
    const { team, key: root } = await gateway.key();
    const { id, key } = keyOf(await call('POST', '/keys', root, { name: 'Agent', permissions: ['mailbox.read'] }));
    await call('POST', '/domains', root, { domain: 'mail.acme.org' });
    const me = await call('GET', '/me', key);
    expect(me.body.data).toEqual({
      team: { id: team, name: 'Acme' },
      credential: { id, type: 'api_key', name: 'Agent' },
      label: 'Agent',
      permissions: ['mailbox.read', 'mailbox.admin.read'],
      mailboxes: [],
      usage: { domains: 1, mailboxes: 0, webhooks: 0 },
      limits: { domains: 1_000_000, mailboxes: 1_000_000, webhooks: 1_000_000, requests_per_minute: 1_000_000 },
    });
    expect(me.headers.get('cache-control')).toBe('no-store');
  });

  it('is 304 while nothing has changed, and 401 once the key is revoked', async () => {
    const { key, id } = await gateway.key();
    const etag = (await call('GET', '/me', key)).headers.get('etag')!;
    expect(etag).toMatch(/^W\/"/);
    const again = () => call('GET', '/me', key, undefined, { 'if-none-match': etag });
    expect((await again()).status).toBe(304);
    await call('POST', '/domains', key, { domain: 'mail.acme.net' });
    expect((await again()).status).toBe(200);
    await gateway.accounts.revokeKey(id);
    expect((await again()).status).toBe(401);
  });
});

describe('owners', () => {
  const invite = (key: string, email: unknown) => call('POST', '/owners/invitations', key, { email });
  const shownOf = async (key: string) => {
    const { owners, invitations } = (await call('GET', '/owners', key)).body.data as unknown as OwnersEnvelope['data'];
    return [owners, invitations].map((each) => each.map(({ email }) => email));
  };

  it('are invited, become owners by accepting, and are removed', async () => {
    const { key, team } = await gateway.key();
    const invited = await invite(key, 'Grace@acme.com');
    expect([invited.status, invited.body.data]).toEqual([
      201,
      { email: 'Grace@acme.com', expires_at: expect.stringMatching(/Z$/) as string },
    ]);
    // The token is only in the mail, which the notifier sends.
    expect(invited.text).not.toContain('smx_invite_');
    expect(await shownOf(key)).toEqual([['ada@acme.com'], ['Grace@acme.com']]);
    const { token } = (await gateway.app
      .get(Invitations, { strict: false })
      .reissue({ team, email: 'grace@acme.com' }))!;
    await gateway.call('POST', '/api/v1/invitations/accept', { body: { token } });
    expect(await shownOf(key)).toEqual([['ada@acme.com', 'Grace@acme.com'], []]);
    expect((await invite(key, 'GRACE@acme.com')).body.error).toMatchObject({ code: 'conflict', param: 'email' });
    expect((await call('DELETE', '/owners/ADA%40acme.com', key)).body.data).toEqual({
      owners: [{ email: 'Grace@acme.com' }],
      invitations: [],
    });
    expect((await call('DELETE', '/owners/grace@acme.com', key)).body.error).toMatchObject({ code: 'conflict' });
    expect((await call('DELETE', '/owners/nobody@acme.com', key)).status).toBe(404);
  });

  it('are invited no more once the invitation is withdrawn', async () => {
    const { key, team } = await gateway.key();
    await invite(key, 'grace@acme.com');
    const invitations = gateway.app.get(Invitations, { strict: false });
    const { token } = (await invitations.reissue({ team, email: 'grace@acme.com' }))!;
    expect((await call('DELETE', '/owners/invitations/Grace%40acme.com', key)).status).toBe(200);
    expect((await gateway.call('POST', '/api/v1/invitations/accept', { body: { token } })).status).toBe(404);
    expect((await call('DELETE', '/owners/invitations/Grace%40acme.com', key)).status).toBe(404);
    expect(await invitations.reissue({ team, email: 'grace@acme.com' })).toBeUndefined();
  });

  it('have twenty open invitations at most, however many are sent at once', async () => {
    const { key } = await gateway.key();
    const statuses = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => (await invite(key, `o${i % 25}@acme.com`)).status),
    );
    expect(new Set(statuses)).toEqual(new Set([201, 409]));
    const [, open] = await shownOf(key);
    expect(open).toHaveLength(20);
    expect(await invite(key, 'one-more@acme.com')).toMatchObject({
      status: 409,
      body: { error: { code: 'limit_exceeded', current: 20, limit: 20, retryable: false } },
    });
    expect((await invite(key, open![7]!.toUpperCase())).status).toBe(201);
  });

  it.each([
    [undefined, 'missing_parameter'],
    [7, 'invalid_parameter'],
    ['nobody', 'validation_error'],
    ['a@acme.com, b@acme.com', 'validation_error'],
  ])('are not invited as %j', async (email, code) => {
    const { key } = await gateway.key();
    expect((await invite(key, email)).body.error).toMatchObject({ code, param: 'email' });
  });

  it('of another team are neither seen nor removed', async () => {
    const [acme, other] = [await gateway.key(), await gateway.key()];
    await gateway.accounts.addOwners(other.team, ['joan@other.example']);
    await invite(other.key, 'grace@other.example');
    expect((await call('DELETE', '/owners/joan@other.example', acme.key)).status).toBe(404);
    expect((await call('DELETE', '/owners/invitations/grace@other.example', acme.key)).status).toBe(404);
    expect((await call('DELETE', '/owners/%00', acme.key)).status).toBe(404);
    expect(await shownOf(other.key)).toEqual([['ada@acme.com', 'joan@other.example'], ['grace@other.example']]);
  });
});
