import { Invitations } from '@app/accounts';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateways: TestGateway[];

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateways = [await startGateway(database.url), await startGateway(database.url)];
});
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.close()));
  await database.drop();
});

const statuses = (key: string) =>
  Promise.all(gateways.map(async (gateway) => (await gateway.call('GET', '/api/v1/domains', { key })).status));

it.each([
  ['revoked', (id: string) => gateways[0]!.accounts.revokeKey(id)],
  ['rotated without an overlap', (id: string) => gateways[0]!.accounts.rotateKey(id, 0)],
  ['over', (id: string) => gateways[0]!.accounts.rotateKey(id, 300)],
])('a key that is %s is refused by every gateway', async (_how, end) => {
  const { key, id } = await gateways[0]!.key();
  expect(await statuses(key)).toEqual([200, 200]);
  await end(id);
  while (!(await statuses(key)).every((status) => status === 401));
});

it('the last use of a key is stored when the gateway stops, if not earlier', async () => {
  const [stopping, other] = [await startGateway(database.url), gateways[0]!];
  const { key, team } = await stopping.key();
  const before = Date.now();
  for (let i = 0; i < 50; i++) await stopping.call('GET', '/api/v1/domains', { key });
  const lastUse = async () => (await other.accounts.listKeys(team))[0]!.lastUsedAt?.getTime();
  expect(await lastUse()).toBeUndefined();
  await stopping.close();
  expect(await lastUse()).toBeGreaterThanOrEqual(before);
});

describe('POST /api/v1/invitations/accept', () => {
  const accept = (body: unknown, gateway = gateways[0]!) =>
    gateway.call('POST', '/api/v1/invitations/accept', { body });

  it('needs only the token, which can be used once', async () => {
    const gateway = gateways[0]!;
    const { team } = await gateway.key();
    const { token } = await gateway.app.get(Invitations, { strict: false }).invite(team, 'grace@acme.com');
    expect(await accept({ token })).toMatchObject({ status: 200, body: { ok: true, data: { team } } });
    expect(await gateway.accounts.owners(team)).toContain('grace@acme.com');
    const [used, unknown] = [await accept({ token }), await accept({ token: 'smx_invite_x' })];
    expect(used).toMatchObject({ status: 404, body: { error: { code: 'not_found', param: 'token' } } });
    expect(unknown.body.error).toEqual(used.body.error);
    for (const [body, code] of [
      [{}, 'missing_parameter'],
      [{ token: 7 }, 'invalid_parameter'],
      [{ token, team }, 'invalid_parameter'],
    ])
      expect(await accept(body)).toMatchObject({ status: 400, body: { error: { code } } });
  });

  it('limits the number of attempts', async () => {
    const limited = await startGateway(database.url, { RATE_LIMIT_PER_MINUTE: 20 });
    const answers: Answer[] = [];
    // A new rate limit window may begin during the loop, which allows up to twenty more requests.
    while (answers.length <= 40 && answers.at(-1)?.status !== 429)
      answers.push(await accept({ token: `smx_invite_${answers.length}` }, limited));
    await limited.close();
    expect(answers.slice(0, -1).every(({ status }) => status === 404)).toBe(true);
    expect(answers.length).toBeGreaterThan(20);
    expect(answers.at(-1)!.status).toBe(429);
    expect(answers.at(-1)!.headers.get('retry-after')).toMatch(/^\d+$/);
  });
});
