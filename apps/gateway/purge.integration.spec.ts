import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { Purge } from './purge.service';

let database: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
let team: Awaited<ReturnType<TestGateway['key']>>;
beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  pool = openPool(database.url, 1);
  team = await gateway.key();
});
afterAll(async () => {
  await pool?.end();
  await gateway?.close();
  await database?.drop();
});

const call = (method: string, path: string, body?: object) =>
  gateway.call(method, `/api/v1${path}`, { key: team.key, ...(body && { body }) });
const purge = () => gateway.app.get(Purge).run();

it('removes invitations that have expired, with their addresses, and no other', async () => {
  for (const email of ['late@acme.com', 'in-time@acme.com'])
    expect((await call('POST', '/owners/invitations', { email })).status).toBe(201);
  await pool.query(`UPDATE invitations SET expires_at = now() - interval '1 second' WHERE email = 'late@acme.com'`);
  await purge();
  expect((await pool.query('SELECT email FROM invitations')).rows).toEqual([{ email: 'in-time@acme.com' }]);
});

it('removes when domains were looked at by request that are gone, and of no other', async () => {
  const ids: string[] = [];
  for (const domain of ['stays.example.com', 'goes.example.com']) {
    const { id } = (await call('POST', '/domains', { domain })).body.data;
    ids.push(id);
    // The second look finds what the first one has found, so that its time alone is kept.
    for (let looks = 0; looks < 2; looks++) expect((await call('POST', `/domains/${id}/verify`)).status).toBe(200);
  }
  const looks = async () =>
    (await pool.query<{ domain: string }>('SELECT domain FROM requested_looks ORDER BY domain')).rows;
  expect(await looks()).toEqual([...ids].sort().map((domain) => ({ domain })));
  expect((await call('DELETE', `/domains/${ids[1]}`)).status).toBe(200);
  await purge();
  expect(await looks()).toEqual([{ domain: ids[0] }]);
});
