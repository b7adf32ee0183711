import type { Pool } from 'pg';
import { Commands } from '@app/commands';
import { openPool } from '@app/database';
import { DomainRuleBroken } from '@app/mail-domain';
import { rulesDigest } from '@app/mailbox';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let key: string;
let pool: Pool;

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = openPool(database.url, 1);
  gateway = await startGateway(database.url);
  ({ key } = await gateway.key());
});
afterAll(async () => {
  await gateway.close();
  await pool.end();
  await database.drop();
});

const call = (method: string, path: string, body?: unknown, headers?: Record<string, string>, as = key) =>
  gateway.call(method, `/api/v1/domains${path}`, {
    key: as,
    ...(body !== undefined && { body }),
    ...(headers && { headers }),
  });
const add = async (host: string, more: object = {}): Promise<string> =>
  (await call('POST', '', { domain: `${host}.filters-acme.com`, ...more })).body.data.id;
const put = (id: string, mode: string, rules: unknown, headers?: Record<string, string>) =>
  call('PUT', `/${id}/filters`, { mode, rules }, headers);
const storedRules = async (id: string): Promise<string[]> =>
  (await pool.query<{ digest: string }>('SELECT digest FROM sender_rules WHERE domain = $1', [id])).rows.map(
    ({ digest }) => digest,
  );

describe('the rules about senders of a domain', () => {
  it('are none at first, and are replaced as a whole, in their canonical form', async () => {
    const id = await add('whole');
    const first = await call('GET', `/${id}/filters`);
    expect([first.status, first.body.data]).toEqual([200, { mode: 'off', rules: [] }]);

    const rules = [
      { type: 'allow', pattern: '*@Partner.com', note: 'billing' },
      { type: 'deny', pattern: 'Robot@partner.com' },
    ];
    const replaced = await put(id, 'allowlist', rules, { 'if-match': first.headers.get('etag')! });
    const canonical = [
      { type: 'allow', pattern: 'partner.com', note: 'billing' },
      { type: 'deny', pattern: 'robot@partner.com', note: null },
    ];
    expect([replaced.status, replaced.body.data]).toEqual([200, { mode: 'allowlist', rules: canonical }]);
    const read = await call('GET', `/${id}/filters`);
    expect(read.body.data).toEqual({ mode: 'allowlist', rules: canonical });
    expect(read.headers.get('etag')).toBe(replaced.headers.get('etag'));
    const known = await call('GET', `/${id}/filters`, undefined, { 'if-none-match': read.headers.get('etag')! });
    expect(known.status).toBe(304);

    const stale = await put(id, 'off', [], { 'if-match': first.headers.get('etag')! });
    expect([stale.status, stale.body.error.code]).toEqual([409, 'conflict']);
    const same = await put(id, 'allowlist', rules.toReversed());
    expect(same.headers.get('etag')).toBe(read.headers.get('etag'));
    expect((await put(id, 'off', [])).body.data).toEqual({ mode: 'off', rules: [] });
  });

  it('are not in the events, and are erased once they are replaced', async () => {
    const id = await add('erased');
    const rule = { type: 'allow', pattern: 'ada@partner.com', note: 'a friend' } as const;
    await put(id, 'allowlist', [rule]);
    const { rows } = await pool.query<{ data: string }>(
      `SELECT data::text FROM events WHERE stream = $1 AND type = 'SenderFiltersChanged'`,
      [id],
    );
    expect(rows.map(({ data }) => JSON.parse(data) as object)).toEqual([
      { mode: 'allowlist', rules: 1, digest: rulesDigest([rule]) },
    ]);
    // What was replaced a moment ago may be what a command that is under way names.
    await put(id, 'denylist', []);
    expect(await storedRules(id)).toHaveLength(2);
    await pool.query(`UPDATE sender_rules SET stored_at = now() - interval '2 hours' WHERE domain = $1`, [id]);
    await put(id, 'off', []);
    expect(await storedRules(id)).toEqual([rulesDigest([])]);
  });

  it('are erased in time without another change, and where the change was refused', async () => {
    const id = await add('later');
    const minutes = async () => {
      const { rows } = await pool.query<{ minutes: number }>(
        `SELECT extract(epoch FROM due - stored_at)::float8 / 60 AS minutes FROM tasks JOIN sender_rules ON domain = key
          WHERE list = 'sender-rules' AND key = $1 ORDER BY stored_at DESC`,
        [id],
      );
      return rows.map((row) => Math.round(row.minutes));
    };
    await put(id, 'allowlist', [{ type: 'allow', pattern: 'ada@partner.com' }]);
    expect(await minutes()).toEqual([90]);
    const command = jest.spyOn(gateway.app.get(Commands, { strict: false }), 'execute');
    command.mockRejectedValueOnce(new DomainRuleBroken('conflict', 'It is being deleted.'));
    expect((await put(id, 'denylist', [{ type: 'deny', pattern: 'eve@evil.com' }])).status).toBe(409);
    command.mockRestore();
    expect(await minutes()).toEqual([90, 90]);
  });

  it('are refused with the place of the fault', async () => {
    const id = await add('refused');
    const refusal = async (mode: string, rules: unknown) => {
      const { status, body } = await put(id, mode, rules);
      return [status, body.error.code, body.error.param];
    };
    const good = { type: 'allow', pattern: 'a.com' };
    expect(await refusal('some', [])).toEqual([400, 'invalid_parameter', 'mode']);
    expect(await refusal('off', 'none')).toEqual([400, 'invalid_parameter', 'rules']);
    for (const none of [null, 'a.com', [], [good]])
      expect(await refusal('off', [good, none])).toEqual([400, 'invalid_parameter', 'rules']);
    expect(await refusal('off', [good, { type: 'maybe', pattern: 'b.com' }])).toEqual([
      400,
      'invalid_parameter',
      'rules.1.type',
    ]);
    expect(await refusal('off', [good, { type: 'deny', pattern: 'no sender' }])).toEqual([
      422,
      'validation_error',
      'rules.1.pattern',
    ]);
    expect(await refusal('off', [good, good])).toEqual([422, 'validation_error', 'rules.1.pattern']);
    expect(await refusal('off', [{ ...good, note: 'x'.repeat(256) }])).toEqual([
      400,
      'invalid_parameter',
      'rules.0.note',
    ]);
    expect(await refusal('off', [{ ...good, more: 1 }])).toEqual([400, 'invalid_parameter', 'rules.0.more']);
    const tooMany = Array.from({ length: 1_001 }, (_, i) => ({ type: 'deny', pattern: `a${i}.com` }));
    expect(await refusal('off', tooMany)).toEqual([400, 'invalid_parameter', 'rules']);
    expect((await put(id, 'denylist', tooMany.slice(1))).body.data).toMatchObject({ rules: { length: 1_000 } });
  });

  it('are none of a domain that only sends, is not there, or is of another team', async () => {
    const sendOnly = await add('sends', { mode: 'send_only' });
    const { key: other } = await gateway.key();
    const id = await add('mine');
    for (const [method, body] of [
      ['GET', undefined],
      ['PUT', { mode: 'off', rules: [] }],
    ] as const) {
      const refused = await call(method, `/${sendOnly}/filters`, body);
      expect([refused.status, refused.body.error.code]).toEqual([409, 'conflict']);
      expect(refused.body.error.message).toContain('only sends');
      expect((await call(method, '/mdom_cl0mx000000000000000000000/filters', body)).status).toBe(404);
      expect((await call(method, `/${id}/filters`, body, {}, other)).status).toBe(404);
    }
  });
});
