import { startGateway, type TestGateway } from '../../test/support/gateway';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let key: string;

beforeAll(async () => {
  database = await testDatabase();
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
      'send_scope',
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
