import { ApiError, errorCodes, type ErrorCode } from './http/api-error';
import { startGateway, type Body, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let key: string;

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  ({ key } = await gateway.key());
});

afterAll(async () => {
  await gateway.close();
  await database.drop();
});

const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  gateway.call(method, `/api/v1${path}`, { key, body, headers });

describe('a field that was sent is not called missing', () => {
  const domain = 'faults.acme.com';
  const address = `ada@${domain}`;
  const permissions = ['domain.read'];

  it.each([
    ['/domains', { domain, mode: null }, 'mode', 'null is not allowed: "mode" must be one of send_receive, send_only.'],
    ['/domains/preflight', { domain, mode: null }, 'mode', 'null is not allowed: "mode" must be one of '],
    ['/domains/preflight', { domain: null }, 'domain', 'null is not allowed: "domain" must be a string'],
    ['/keys', { name: null, permissions }, 'name', 'null is not allowed: "name" must be a string.'],
    ['/keys', { name: 'x', role: null }, 'role', 'null is not allowed: "role" must be one of '],
    ['/keys', { name: 'x', permissions: null }, 'permissions', 'null is not allowed: "permissions" must be a list.'],
    ['/mailboxes', { address: null }, 'address', 'null is not allowed: "address" must be a string'],
    ['/mailboxes', { email: null }, 'email', 'null is not allowed: "email" must be a string'],
    [
      '/mailboxes',
      { address, send_scope: { type: null } },
      'send_scope.type',
      'null is not allowed: "send_scope.type" must',
    ],
    ['/mailboxes', { address, send_scope: { type: 'some' } }, 'send_scope.type', '"send_scope.type" must be all or'],
    ['/owners/invitations', { email: null }, 'email', 'null is not allowed: "email" must be one address.'],
    ['/invitations/accept', { token: null }, 'token', 'null is not allowed: "token" must be a string.'],
  ])('POST %s %j', async (path, sent, param, message) => {
    const { status, body } = await call('POST', path, sent);
    expect([status, body.error.code, body.error.param]).toEqual([400, 'invalid_parameter', param]);
    expect(body.error.message.slice(0, message.length)).toBe(message);
    expect(body.error.errors).toMatchObject([{ code: 'invalid_parameter', field: param }]);
  });

  it('an absent one is', async () => {
    expect((await call('POST', '/keys', { permissions })).body.error).toMatchObject({
      code: 'missing_parameter',
      message: '"name" is missing.',
    });
  });
});

it('a cursor is refused with octets around it', async () => {
  const cursor = Buffer.from(`mdom_cl${'0'.repeat(25)}`).toString('base64url');
  expect((await call('GET', `/domains?cursor=${cursor}`)).status).toBe(200);
  for (const more of ['%3D%3D', '%00', '%0A', '.', '%20'])
    for (const wrong of [`${cursor}${more}`, `${more}${cursor}`]) {
      const { status, body } = await call('GET', `/domains?cursor=${wrong}`);
      expect([status, body.error?.param]).toEqual([400, 'cursor']);
    }
});

it.each(['gzip', 'br', 'identity, gzip', 'x'])('a body with Content-Encoding: %s is 415', async (encoding) => {
  for (const path of ['/domains/preflight', '/mailboxes']) {
    const answer = await call('POST', path, { domain: 'coded.acme.com' }, { 'content-encoding': encoding });
    expect([answer.status, answer.body.error.param]).toEqual([415, 'Content-Encoding']);
    expect(answer.headers.get('accept-encoding')).toBe('identity');
  }
});

it('a body with Content-Encoding: identity is read, and none needs no coding', async () => {
  expect((await call('POST', '/domains', {}, { 'content-encoding': 'Identity' })).status).toBe(400);
  expect((await call('POST', '/domains', undefined, { 'content-encoding': 'gzip' })).status).toBe(400);
});

describe('the single faults of an error', () => {
  const domain = 'errors.acme.com';
  const name = 'x';
  const matching = (header: string, value: string) => ({ [header]: value });
  let id: string;
  beforeAll(async () => {
    id = (await call('POST', '/domains', { domain })).body.data.id;
  });

  type Row = [status: number, field: string, method: string, path: string, body?: unknown, headers?: object];
  const rows: Row[] = [
    [400, 'cursor', 'GET', '/domains?cursor=x'],
    [400, 'cursor', 'GET', '/mailboxes?cursor=bWRvbV9jbA'],
    [400, 'cursor', 'GET', '/keys?cursor=x'],
    [400, 'cursor', 'GET', '/domains/{id}/history?cursor=x'],
    [400, 'limit', 'GET', '/domains?limit=0'],
    [400, 'page', 'GET', '/domains?page=2'],
    [400, 'as_of', 'GET', '/domains/{id}?as_of=x'],
    [400, 'as_of', 'GET', '/domains/{id}?as_of=9999-01-01T00:00:00Z'],
    [400, 'email', 'GET', '/mailboxes/availability'],
    [400, 'domain', 'POST', '/domains', {}],
    [400, 'domain', 'POST', '/domains', { domain: '*.acme.com' }],
    [422, 'domain', 'POST', '/domains', { domain: 'com' }],
    [409, 'domain', 'POST', '/domains', { domain }],
    [400, 'Idempotency-Key', 'POST', '/domains', { domain }, { 'idempotency-key': '' }],
    [400, 'body', 'POST', '/domains', 'null'],
    [400, 'body', 'PATCH', '/domains/{id}', 'null'],
    [400, 'body', 'PATCH', '/mailboxes/mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx', 'null'],
    [400, 'body', 'POST', '/domains', '{'],
    [400, 'body', 'POST', '/domains', '[]'],
    [400, 'mode', 'PATCH', '/domains/{id}', { mode: 'send_only' }],
    [422, 'outbound_provider', 'PUT', '/domains/{id}/outbound-provider', { outbound_provider: 'x' }],
    [409, 'If-Match', 'PATCH', '/domains/{id}', { mode: 'send_receive' }, matching('if-match', '"9"')],
    [409, 'If-None-Match', 'PATCH', '/domains/{id}', { mode: 'send_receive' }, matching('if-none-match', '*')],
    [412, 'If-Match', 'DELETE', '/domains/{id}', undefined, matching('if-match', '"9"')],
    [412, 'If-None-Match', 'DELETE', '/domains/{id}', undefined, matching('if-none-match', '*')],
    [412, 'If-Match', 'GET', '/me', undefined, matching('if-match', '"9"')],
    [400, 'address', 'POST', '/mailboxes', { address: 'x' }],
    [400, 'email', 'POST', '/mailboxes', { email: 'x' }],
    [400, 'email', 'POST', '/mailboxes', { address: `a@${domain}`, email: `b@${domain}` }],
    [400, 'send_scope', 'POST', '/mailboxes', { address: `a@${domain}`, send_scope: { type: 'providers' } }],
    [422, 'send_scope', 'PATCH', '/mailboxes/x', { send_scope: { type: 'providers', provider_public_ids: ['x'] } }],
    [400, 'permissions', 'POST', '/keys', { name }],
    [422, 'permissions', 'POST', '/keys', { name, permissions: [] }],
    [422, 'name', 'POST', '/keys', { name: ' ', role: 'root:full' }],
    [422, 'email', 'POST', '/owners/invitations', { email: 'x' }],
    [404, 'token', 'POST', '/invitations/accept', { token: 'x' }],
  ];
  it.each(rows.map((row) => [JSON.stringify(row), row] as const))('are named: %s', async (_title, row) => {
    const [status, field, method, path, sent, headers = {}] = row;
    const answer = await call(method, path.replace('{id}', id), sent, headers as Record<string, string>);
    expect([answer.status, answer.body.error.param]).toEqual([status, field]);
    const { message, errors } = answer.body.error;
    expect(errors).toContainEqual({ code: expect.any(String) as string, field, param: field, message });
  });

  it('no status of 400 or 422 is without one, whoever throws it', () => {
    for (const code of Object.keys(errorCodes) as ErrorCode[]) {
      const { status } = errorCodes[code];
      const { error } = new ApiError(code, 'x').envelope('req_1', '') as Pick<Body, 'error'>;
      const fault = { code, field: 'request', param: 'request', message: 'x' };
      expect(error.errors).toEqual(status === 400 || status === 422 ? [fault] : undefined);
    }
  });

  it('one is added where the others are of something else', () => {
    const errors = [{ code: 'y', param: 'y', message: 'y' }];
    const { error } = new ApiError('conflict', 'x', { param: 'x', errors }).envelope('', '') as Pick<Body, 'error'>;
    expect(error.errors?.map(({ field }) => field)).toEqual(['x', 'y']);
  });
});
