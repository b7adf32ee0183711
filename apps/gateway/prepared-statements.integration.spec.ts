import { Pool, type PoolClient } from 'pg';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

/** PostgreSQL plans a statement anew the first five times. */
const plannedAnew = 5;

describe('the statements of requests', () => {
  let database: TestDatabase;
  let gateway: TestGateway;
  beforeAll(async () => {
    database = await migratedDatabase('service');
    gateway = await startGateway(database.url);
  });
  afterAll(async () => {
    await gateway?.close();
    await database?.drop();
  });

  it('are planned once, and not for each length of what they are given', async () => {
    const { key } = await gateway.key({ role: 'root:full' });
    const call = (method: string, path: string, body?: unknown) =>
      gateway.call(method, `/api/v1${path}`, { key, ...(body !== undefined && { body }) });
    const live = async (i: number) => {
      const { id } = (await call('POST', '/domains', { domain: `mail${i}.acme.com` })).body.data;
      await call('POST', `/domains/${id}/verify`);
      await call('POST', '/mailboxes', { address: `ada@mail${i}.acme.com` });
      for (const path of [`/domains/${id}`, '/domains?limit=2', '/mailboxes']) await call('GET', path);
      await call('DELETE', `/domains/${id}`);
    };
    for (let i = 0; i < 24; i++) await live(i);
    // Those of several requests at once are given longer arrays.
    for (let i = 24; i < 36; i += 6) await Promise.all(Array.from({ length: 6 }, (_, more) => live(i + more)));

    const pool = gateway.app.get(Pool);
    const clients: PoolClient[] = await Promise.all(Array.from({ length: pool.totalCount }, () => pool.connect()));
    const ofAll = await Promise.all(
      clients.map((client) =>
        client.query<{ name: string; custom: number; generic: number }>(
          'SELECT name, custom_plans::int AS custom, generic_plans::int AS generic FROM pg_prepared_statements',
        ),
      ),
    );
    for (const client of clients) client.release();
    const often = ofAll.flatMap(({ rows }) => rows).filter(({ custom, generic }) => custom + generic > 2 * plannedAnew);
    const names = new Set(often.map(({ name }) => name));
    expect([...names]).toEqual(expect.arrayContaining(['api-keys-authenticate', 'domains-find', 'requested-looks']));
    expect(often.filter(({ custom }) => custom > plannedAnew)).toEqual([]);
  });
});
