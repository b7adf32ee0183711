import { Pool } from 'pg';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
let key: string;

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  pool = new Pool({ connectionString: database.url });
  ({ key } = await gateway.key());
});
afterAll(async () => {
  await gateway.close();
  await pool.end();
  await database.drop();
});

const path = '/api/v1/domains';
const eventsOf = async (id: string) => {
  const { rows } = await pool.query<{ type: string }>('SELECT type FROM events WHERE stream = $1 ORDER BY version', [
    id,
  ]);
  return rows.map(({ type }) => type);
};
/** Makes the last look of a domain an hour older, so that a later one can be told from it. */
const anHourAgo = (id: string) =>
  pool.query(
    `WITH looks AS (UPDATE requested_looks SET at = at - interval '1 hour' WHERE domain = $1)
     UPDATE domains SET checked_at = checked_at - interval '1 hour' WHERE id = $1`,
    [id],
  );

it('N6: a requested look that finds what the last one found appends nothing, and is known all the same', async () => {
  const { id } = (await gateway.call('POST', path, { key, body: { domain: 'again.acme.com' } })).body.data;
  const verify = () => gateway.call('POST', `${path}/${id}/verify`, { key });
  const read = () => gateway.call('GET', `${path}/${id}`, { key });
  const added = ['DomainAdded', 'DomainProvisioned'];

  gateway.verifier.findings = { mx: { outcome: 'fail', code: 'mx_missing' } };
  await verify();
  const failing = [...added, 'DnsChecked'];
  expect(await eventsOf(id)).toEqual(failing);
  for (let i = 0; i < 3; i++) {
    await anHourAgo(id);
    const before = await read();
    const { status, body } = await verify();
    expect([status, body.data.status, body.data.checks.mx]).toEqual([200, 'pending', false]);
    const after = await read();
    expect(Date.parse(after.body.data.last_checked_at!)).toBeGreaterThan(Date.parse(before.body.data.last_checked_at!));
    expect(after.body.data.last_checked_at).toBe(body.data.checked_at);
    expect(after.headers.get('etag')).toBe(before.headers.get('etag'));
    const page = (await gateway.call('GET', path, { key })).body.data as unknown as { last_checked_at: string }[];
    expect(page[0]!.last_checked_at).toBe(body.data.checked_at);
  }
  expect(await eventsOf(id)).toEqual(failing);

  gateway.verifier.findings = {};
  for (let i = 0; i < 3; i++) expect((await verify()).body.data.status).toBe('verified');
  expect(await eventsOf(id)).toEqual([...failing, 'DnsChecked', 'DomainVerified']);
});
