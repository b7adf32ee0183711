import { grantable } from '@app/accounts';
import { newId } from '@app/runtime';
import { Pool } from 'pg';
import type { HistoryEntrySchema } from './domains/history.dto';
import { pathsOf, type OpenApi } from '../../test/support/api-contract';
import type { NewMailboxSchema } from './mailboxes/mailbox.dto';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let acme: { key: string; team: string; id: string };
let other: { key: string; team: string; id: string };

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  acme = await gateway.key();
  other = await gateway.key();
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
});

const call = (method: string, path: string, body?: unknown, key = acme.key, headers?: Record<string, string>) =>
  gateway.call(method, `/api/v1${path}`, { key, body, headers });
const create = (address: unknown, more: object = {}, key?: string, headers?: Record<string, string>) =>
  call('POST', '/mailboxes', { address, ...more }, key, headers);
const idOf = ({ body }: Answer): string => body.data.id;
const suffixOf = (team: string) => team.replace('team_', '-');

let count = 0;
async function domain(key = acme.key): Promise<{ id: string; name: string }> {
  const name = `m${(count += 1)}.acme.com`;
  return { id: idOf(await call('POST', '/domains', { domain: name }, key)), name };
}
async function verified(key = acme.key): Promise<{ id: string; name: string }> {
  const added = await domain(key);
  expect((await call('POST', `/domains/${added.id}/verify`, undefined, key)).body.data.status).toBe('verified');
  return added;
}
async function lapse(id: string): Promise<void> {
  gateway.verifier.findings = { mx: { outcome: 'fail', code: 'mx_missing' } };
  await call('POST', `/domains/${id}/verify`);
  gateway.verifier.findings = {};
}

describe('a mailbox on a custom domain', () => {
  it('is created, read, listed, suspended, resumed and deleted', async () => {
    const { id: domainId, name } = await verified();
    const created = await create(`Ada.Lovelace@${name.toUpperCase()}`);
    expect(created.status).toBe(201);
    const id = idOf(created);
    expect(created.headers.get('location')).toBe(`/api/v1/mailboxes/${id}`);
    const { mailbox, credential, warning, ...shown } = created.body.data as unknown as NewMailboxSchema;
    expect(mailbox).toEqual(shown);
    expect([credential, warning]).toEqual([null, expect.stringContaining('no credential') as string]);
    expect(shown).toEqual({
      id: expect.stringMatching(/^mbx_cl[0-9a-z]{25}$/) as string,
      address: `ada.lovelace@${name}`,
      email: `ada.lovelace@${name}`,
      display_name: null,
      quota_bytes: null,
      send_scope: null,
      domain_id: domainId,
      status: 'active',
      outbound_provider: null,
      effective_outbound_provider: 'sendmux-ses',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string,
    });
    expect((await call('GET', `/mailboxes/${id}`)).body.data).toEqual(shown);
    expect((await call('GET', `/mailboxes?domain_id=${domainId}`)).body.data).toEqual([shown]);

    for (const [act, status] of [
      ['suspend', 'suspended'],
      ['suspend', 'suspended'],
      ['resume', 'active'],
    ] as const)
      expect(await call('POST', `/mailboxes/${id}/${act}`)).toMatchObject({ status: 200, body: { data: { status } } });

    expect((await call('DELETE', `/mailboxes/${id}`)).body.data).toEqual({ deleted: true, id });
    for (const method of ['GET', 'DELETE']) expect((await call(method, `/mailboxes/${id}`)).status).toBe(404);
    expect((await call('GET', `/mailboxes?domain_id=${domainId}`)).body.data).toEqual([]);
    expect((await call('GET', `/mailboxes?domain_id=${domainId}&include_deleted=true`)).body.data).toEqual([
      { ...shown, status: 'deleted' },
    ]);
    expect((await create(`ada.lovelace@${name}`)).status).toBe(201);
  });

  /** The error of a quota, which names the field. */
  const unlimited = {
    code: 'invalid_parameter',
    param: 'quota_bytes',
    message: '"quota_bytes" must be null or absent: storage is not limited here.',
  };

  it('is created by the names of the mail API too', async () => {
    const { name } = await verified();
    const scope = { type: 'providers', provider_public_ids: ['mailgun'] };
    const body = { email: `ada@${name}`, display_name: 'Ada Lovelace', send_scope: scope, quota_bytes: null };
    const created = await call('POST', '/mailboxes', body);
    expect(created.status).toBe(201);
    expect(created.body.data).toMatchObject({
      address: `ada@${name}`,
      display_name: 'Ada Lovelace',
      send_scope: scope,
      outbound_provider: 'mailgun',
    });
    for (const [wrong, param] of [
      [{}, 'address'],
      [{ email: 7 }, 'email'],
      [{ email: null }, 'email'],
      [{ email: 'no at sign' }, 'email'],
      [{ email: `a@${name}`, address: `b@${name}` }, 'email'],
      [{ email: `a@${name}`, send_scope: { type: 'group' } }, 'send_scope.type'],
      [
        { email: `a@${name}`, send_scope: { type: 'group', group_public_ids: ['grp_1'] } },
        'send_scope.group_public_ids',
      ],
      [{ email: `a@${name}`, send_scope: {} }, 'send_scope.type'],
      [{ email: `a@${name}`, send_scope: 'all' }, 'send_scope'],
      [{ email: `a@${name}`, send_scope: { type: 'providers' } }, 'send_scope'],
      [{ email: `a@${name}`, send_scope: [] }, 'send_scope'],
      [{ email: `a@${name}`, display_name: 'two\nlines' }, 'display_name'],
      [{ email: `a@${name}`, display_name: 'x'.repeat(255) }, 'display_name'],
      [{ email: `a@${name}`, display_name: '' }, 'display_name'],
    ] as const)
      expect(await call('POST', '/mailboxes', wrong)).toMatchObject({ status: 400, body: { error: { param } } });
    const group = await call('POST', '/mailboxes', { email: `a@${name}`, send_scope: { type: 'group' } });
    expect(group.body.error.message).toContain('there are no groups here');
    expect(await call('POST', '/mailboxes', { email: `a@${name}`, quota_bytes: 1_073_741_824 })).toMatchObject({
      status: 400,
      body: { error: unlimited },
    });
    const nobody = { type: 'providers', provider_public_ids: ['nobody'] };
    for (const [refused, status, param] of [
      [{ email: `ada@${name}` }, 409, 'email'],
      [{ email: 'ada@unknown-acme.com' }, 409, 'email'],
      [{ email: `a@${name}`, send_scope: nobody }, 422, 'send_scope'],
      [{ address: `a@${name}`, outbound_provider: 'nobody' }, 422, 'outbound_provider'],
    ] as const)
      expect(await call('POST', '/mailboxes', refused)).toMatchObject({ status, body: { error: { param } } });
  });

  it('is changed as a whole, or not at all, and only in the version that was seen', async () => {
    const { name } = await verified();
    const id = idOf(await create(`ada@${name}`));
    const patch = (body: object, headers?: Record<string, string>) =>
      gateway.call('PATCH', `/api/v1/mailboxes/${id}`, { key: acme.key, body, headers });
    const named = await patch({
      display_name: 'Ada 🙂',
      send_scope: { type: 'providers', provider_public_ids: ['mailgun'] },
    });
    expect(named).toMatchObject({
      status: 200,
      body: { data: { display_name: 'Ada 🙂', outbound_provider: 'mailgun' } },
    });
    const etag = named.headers.get('etag')!;
    expect((await patch({})).headers.get('etag')).toBe(etag);
    expect((await patch({ display_name: null }, { 'if-match': 'W/"1"' })).body.error.code).toBe('conflict');
    expect(
      (await patch({ display_name: null, send_scope: { type: 'all' } }, { 'if-match': etag })).body.data,
    ).toMatchObject({
      display_name: null,
      send_scope: null,
      outbound_provider: null,
    });
    expect((await patch({ send_scope: { type: 'providers', provider_public_ids: ['nobody'] } })).status).toBe(422);
    expect((await patch({ quota_bytes: null })).body.data).toMatchObject({ quota_bytes: null });
    for (const quota of [1, 1_073_741_824, 'none'])
      expect(await patch({ quota_bytes: quota })).toMatchObject({ status: 400, body: { error: unlimited } });
  });

  it.each([
    ['available', (name: string) => `new@${name}`],
    ['taken', (name: string) => `TAKEN@${name}`],
    ['invalid_email', (name: string) => `a b@${name}`],
    ['invalid_email', () => 'nothing'],
    ['domain_not_available', () => 'ada@nobody-has-this.acme.com'],
    ['reserved', () => 'ada@myagent.mx'],
    ['available', () => `ada${suffixOf(other.team)}@myagent.mx`],
  ])('is %s before it is created', async (reason, addressOn) => {
    const { name } = await verified(other.key);
    await create(`taken@${name}`, {}, other.key);
    const address = addressOn(name);
    const { body } = await call(
      'GET',
      `/mailboxes/availability?email=${encodeURIComponent(address)}`,
      undefined,
      other.key,
    );
    expect(body.data).toEqual({
      email: reason === 'invalid_email' ? address : address.toLowerCase(),
      available: reason === 'available',
      reason,
    });
    // Another team learns nothing of it.
    const foreign = await call('GET', `/mailboxes/availability?email=${encodeURIComponent(`taken@${name}`)}`);
    expect(foreign.body.data).toMatchObject({ reason: 'domain_not_available' });
  });

  it('needs the domain to be verified now, and the refusal says what to do', async () => {
    const pending = await domain();
    expect((await create(`ada@${pending.name}`)).body.error).toMatchObject({
      code: 'conflict',
      param: 'address',
      message: `${pending.name} is pending, not verified. Place its DNS records and verify it with POST /domains/${pending.id}/verify; then create the mailbox.`,
    });
    const lapsed = await verified();
    const kept = idOf(await create(`kept@${lapsed.name}`));
    await lapse(lapsed.id);
    expect(await create(`ada@${lapsed.name}`)).toMatchObject({ status: 409, body: { error: { code: 'conflict' } } });
    expect((await call('GET', `/mailboxes/${kept}`)).body.data.status).toBe('active');
    expect((await call('GET', `/domains/${lapsed.id}`)).body.data.verification_status).toBe('pending');
  });

  it('does not say whether another team has the domain', async () => {
    const foreign = await verified(other.key);
    const messages = await Promise.all(
      [foreign.name, 'nobody-has-this.acme.com'].map(async (name) => {
        const { status, body } = await create(`ada@${name}`);
        return { status, error: JSON.parse(JSON.stringify(body.error).replaceAll(name, 'it')) as object };
      }),
    );
    expect(messages[0]).toEqual(messages[1]);
    expect(messages[0]).toMatchObject({ status: 409, error: { code: 'conflict', param: 'address' } });
  });

  it('prevents the deletion of its domain; the refusal has the number of mailboxes and changes nothing', async () => {
    const { id, name } = await verified();
    const ids = [idOf(await create(`a@${name}`)), idOf(await create(`b@${name}`))];
    await call('POST', `/mailboxes/${ids[1]}/suspend`);
    const before = (await call('GET', `/domains/${id}`)).headers.get('etag');
    expect(await call('DELETE', `/domains/${id}`)).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict', retryable: false } },
    });
    expect((await call('DELETE', `/domains/${id}`)).body.error.message).toMatch(
      /^2 mailboxes still live on this domain/,
    );
    expect((await call('GET', `/domains/${id}`)).headers.get('etag')).toBe(before);
    for (const mailbox of ids) await call('DELETE', `/mailboxes/${mailbox}`);
    expect((await call('DELETE', `/domains/${id}`)).status).toBe(200);
  });

  it.each([
    [undefined, 400, 'missing_parameter', undefined],
    [7, 400, 'invalid_parameter', undefined],
    ['mail.acme.com', 400, 'invalid_parameter', 'at_sign_missing'],
    ['a b@mail.acme.com', 400, 'invalid_parameter', 'local_part_syntax'],
    [`${'a'.repeat(65)}@mail.acme.com`, 400, 'invalid_parameter', 'local_part_too_long'],
    ['ada@gmail.com', 422, 'validation_error', 'domain_reserved'],
  ])('is not created for the address %p', async (address, status, code, reason) => {
    const answer = await create(address);
    expect(answer).toMatchObject({ status, body: { error: { code, param: 'address' } } });
    if (reason) expect(answer.body.error.errors).toMatchObject([{ code: reason, param: 'address' }]);
  });

  it('is created once for an Idempotency-Key', async () => {
    const { name } = await verified();
    const again = () => create(`once@${name}`, {}, acme.key, { 'idempotency-key': `once ${name}` });
    const [first, second] = [await again(), await again()];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.body).toEqual({ ...first.body, meta: { request_id: second.headers.get('x-request-id') } });
    expect(second.headers.get('etag')).toBe(first.headers.get('etag'));
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(second.headers.get('location')).toBe(`/api/v1/mailboxes/${idOf(first)}`);
    expect(await create(`two@${name}`, {}, acme.key, { 'idempotency-key': `once ${name}` })).toMatchObject({
      status: 409,
      body: { error: { code: 'idempotency_conflict' } },
    });
    // A refused creation leaves the key unused.
    const key = { 'idempotency-key': `refused ${name}` };
    expect((await create(`once@${name}`, {}, acme.key, key)).status).toBe(409);
    await call('DELETE', `/mailboxes/${idOf(first)}`);
    expect((await create(`once@${name}`, {}, acme.key, key)).status).toBe(201);
  });

  it('that a process created before it died is found by the next request with the same key', async () => {
    const { name } = await verified();
    const key = `died ${name}`;
    const first = await create(`died@${name}`, {}, acme.key, { 'idempotency-key': key });
    const pool = new Pool({ connectionString: database.url });
    await pool.query(
      `UPDATE idempotency_keys SET status = NULL, response = NULL, claimed_until = now() - interval '1 s' WHERE key = 'createMailbox ' || $1`,
      [key],
    );
    await pool.end();
    const second = await create(`died@${name}`, {}, acme.key, { 'idempotency-key': key });
    expect(second.status).toBe(201);
    expect(second.headers.get('idempotent-replayed')).toBeNull();
    expect(idOf(second)).toBe(idOf(first));
  });

  it('is one of a list that comes in pages', async () => {
    const team = await gateway.key();
    const { name } = await verified(team.key);
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push(idOf(await create(`p${i}@${name}`, {}, team.key)));
    const found: string[] = [];
    for (let cursor: string | undefined = ''; cursor !== undefined;) {
      const { body } = await call('GET', `/mailboxes?limit=2${cursor && `&cursor=${cursor}`}`, undefined, team.key);
      found.push(...(body.data as unknown as { id: string }[]).map(({ id }) => id));
      cursor = body.pagination.next_cursor;
    }
    expect(found).toEqual(ids.reverse());
    for (const query of ['cursor=x', 'limit=0', 'domain_id=mdom_1', 'status=active'])
      expect(await call('GET', `/mailboxes?${query}`)).toMatchObject({
        status: 400,
        body: { error: { code: 'invalid_parameter', param: query.split('=', 1)[0] } },
      });
  });
});

describe('a mailbox on myagent.mx', () => {
  it('needs no domain, ends with the suffix of its team, and is the only one', async () => {
    const { key, team } = await gateway.key();
    const refused = await create('ada@myagent.mx', {}, key);
    expect(refused).toMatchObject({ status: 422, body: { error: { code: 'validation_error', param: 'address' } } });
    const wished = /Send (\S+)\.$/.exec(refused.body.error.message)![1]!;
    expect(wished).toBe(`ada${suffixOf(team)}@myagent.mx`);
    const created = await create(wished, {}, key);
    expect(created).toMatchObject({ status: 201, body: { data: { domain_id: null, status: 'active' } } });
    expect((await create(`eve${suffixOf(team)}@myagent.mx`, {}, key)).status).toBe(409);
    await call('DELETE', `/mailboxes/${idOf(created)}`, undefined, key);
    expect((await create(`eve${suffixOf(team)}@myagent.mx`, {}, key)).status).toBe(201);
  });

  it('is locked to Sendmux SES', async () => {
    const { key, team } = await gateway.key();
    const address = `ada${suffixOf(team)}@myagent.mx`;
    const withChoice = await create(address, { outbound_provider: 'mailgun' }, key);
    expect(withChoice).toMatchObject({ status: 409, body: { error: { param: 'outbound_provider' } } });
    const id = idOf(await create(address, {}, key));
    const chosen = await call('PUT', `/mailboxes/${id}/outbound-provider`, { outbound_provider: 'mailgun' }, key);
    expect(chosen).toMatchObject({ status: 409, body: { error: { code: 'conflict', param: 'outbound_provider' } } });
    expect((await call('GET', `/mailboxes/${id}`, undefined, key)).body.data.effective_outbound_provider).toBe(
      'sendmux-ses',
    );
  });

  it('lives on a domain that nobody adds', async () => {
    for (const name of ['myagent.mx', 'MyAgent.MX.', 'mail.myagent.mx'])
      expect(await call('POST', '/domains', { domain: name })).toMatchObject({
        status: 422,
        body: { error: { errors: [{ code: 'domain_reserved' }] } },
      });
  });
});

describe('the outbound provider', () => {
  const choose = (path: string, outbound_provider?: unknown) =>
    call('PUT', `${path}/outbound-provider`, { outbound_provider });
  const effective = async (id: string) => (await call('GET', `/mailboxes/${id}`)).body.data.effective_outbound_provider;

  it('is the choice of the mailbox, then of its domain, then Sendmux SES', async () => {
    const { id: domainId, name } = await verified();
    const id = idOf(await create(`a@${name}`));
    const own = idOf(await create(`b@${name}`, { outbound_provider: 'mailgun' }));
    expect([await effective(id), await effective(own)]).toEqual(['sendmux-ses', 'mailgun']);
    expect((await choose(`/domains/${domainId}`, 'mailgun')).body.data.outbound_provider).toBe('mailgun');
    expect(await effective(id)).toBe('mailgun');
    expect((await choose(`/mailboxes/${id}`, 'sendmux-ses')).body.data).toMatchObject({
      outbound_provider: 'sendmux-ses',
      effective_outbound_provider: 'sendmux-ses',
    });
    expect((await choose(`/mailboxes/${id}`, null)).body.data.outbound_provider).toBeNull();
    expect(await effective(id)).toBe('mailgun');
    expect((await choose(`/domains/${domainId}`, null)).body.data.outbound_provider).toBeNull();
    expect(await effective(id)).toBe('sendmux-ses');
  });

  it('is one that is known: another is refused with the list', async () => {
    const { id: domainId, name } = await verified();
    const id = idOf(await create(`a@${name}`));
    for (const attempt of [
      choose(`/domains/${domainId}`, 'sendgrid'),
      choose(`/mailboxes/${id}`, 'sendgrid'),
      create(`b@${name}`, { outbound_provider: 'sendgrid' }),
    ])
      expect(await attempt).toMatchObject({
        status: 422,
        body: {
          error: {
            code: 'validation_error',
            param: 'outbound_provider',
            message: 'There is no outbound provider "sendgrid". Send one of: sendmux-ses, mailgun.',
          },
        },
      });
    for (const [value, code] of [
      [undefined, 'missing_parameter'],
      [7, 'invalid_parameter'],
    ])
      expect((await choose(`/mailboxes/${id}`, value)).body.error).toMatchObject({ code, param: 'outbound_provider' });
  });
});

/** The prefixes of ids by the kind of what they name, as it is in the path. */
const prefixes: Readonly<Record<string, 'mdom' | 'mbx' | 'key' | 'whk'>> = {
  domains: 'mdom',
  mailboxes: 'mbx',
  keys: 'key',
  webhooks: 'whk',
};

/** Reads the operations of the OpenAPI document, by their whole paths. */
const documented = async () =>
  pathsOf((await (await fetch(`${await gateway.app.getUrl()}/api/v1/openapi.json`)).json()) as OpenApi);

it('every operation of the OpenAPI document with a key needs one permission, its wildcard or its role', async () => {
  const operations = Object.entries(await documented()).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security }]) => ({ method: method.toUpperCase(), path, security })),
  );
  const takesKeys = ({ security }: { security?: object[] }) => security?.some((each) => 'apiKey' in each);
  expect(operations.filter((each) => !takesKeys(each)).map(({ method, path }) => `${method} ${path}`)).toEqual([
    'GET /api/v1/setup',
    'POST /api/v1/setup/verify',
    'GET /api/v1/setup/zone-file',
    'POST /api/v1/session',
    'GET /api/v1/session',
    'DELETE /api/v1/session',
    'POST /api/v1/invitations/accept',
  ]);
  const team = await gateway.key();
  const keys = new Map<string, string>([['root:full', team.key]]);
  const { accounts } = gateway;
  keys.set('root:readonly', (await accounts.createKey(team.team, { role: 'root:readonly' })).key);
  for (const permission of grantable)
    keys.set(permission, (await accounts.createKey(team.team, { permissions: [permission] })).key);
  const revoked = await accounts.createKey(team.team, { role: 'root:full' });
  await accounts.revokeKey(revoked.id);
  const opened: Record<string, string> = {};
  for (const { method, path } of operations.filter(takesKeys)) {
    // The body is missing or invalid and the id is unknown, so a caller with the permission gets the error for that.
    const id = newId(prefixes[path.split('/')[3]!] ?? 'mbx');
    const url = path
      .replace('{id}', id)
      .replace('{email}', 'x@acme.com')
      .replace('{link}', newId('slnk'))
      .replace('{delivery_id}', newId('wdlv'))
      .replace('{replay_id}', newId('rpl'));
    const send = async (key: string | undefined) =>
      (await gateway.call(method, url, { key, ...(method !== 'GET' && { body: {} }) })).status;
    expect(await Promise.all([undefined, `smx_root_${'0'.repeat(42)}`, revoked.key].map(send))).toEqual([
      401, 401, 401,
    ]);
    const answers = await Promise.all([...keys].map(async ([grant, key]) => ({ grant, status: await send(key) })));
    const by = answers.filter(({ status }) => status !== 403).map(({ grant }) => grant);
    opened[`${method} ${path.replace('/api/v1', '')}`] = by.sort().join(' ');
  }
  const by = (kind: string, act: string) =>
    [`${kind}.*`, `${kind}.${act}`, 'root:full', ...(act === 'read' ? ['root:readonly'] : [])].sort().join(' ');
  expect(opened).toEqual({
    'POST /domains': by('domain', 'create'),
    'GET /domains': by('domain', 'read'),
    'POST /domains/claims': by('domain', 'create'),
    'GET /domains/claims': by('domain', 'read'),
    'GET /domains/claims/{id}': by('domain', 'read'),
    'POST /domains/claims/{id}/verify': by('domain', 'create'),
    'DELETE /domains/claims/{id}': by('domain', 'create'),
    'PATCH /domains/{id}': by('domain', 'create'),
    'POST /domains/preflight': by('domain', 'create'),
    'GET /domains/{id}/history': by('domain', 'read'),
    'GET /domains/{id}': by('domain', 'read'),
    'GET /domains/{id}/dns-plan': by('domain', 'read'),
    'GET /domains/{id}/zone-file': by('domain', 'read'),
    'POST /domains/{id}/verify': by('domain', 'verify'),
    'POST /domains/{id}/setup-link': by('domain', 'verify'),
    'POST /domains/{id}/setup-instructions': by('domain', 'verify'),
    'GET /domains/{id}/setup-links': by('domain', 'verify'),
    'DELETE /domains/{id}/setup-links/{link}': by('domain', 'verify'),
    'PUT /domains/{id}/outbound-provider': by('domain', 'update'),
    'DELETE /domains/{id}': by('domain', 'delete'),
    'GET /domains/{id}/filters': by('mailbox', 'read'),
    'PUT /domains/{id}/filters': by('mailbox', 'update'),
    'POST /mailboxes': by('mailbox', 'create'),
    'GET /mailboxes': by('mailbox', 'read'),
    'GET /mailboxes/{id}': by('mailbox', 'read'),
    'POST /mailboxes/{id}/suspend': by('mailbox', 'update'),
    'POST /mailboxes/{id}/resume': by('mailbox', 'update'),
    'PUT /mailboxes/{id}/outbound-provider': by('mailbox', 'update'),
    'PATCH /mailboxes/{id}': by('mailbox', 'update'),
    'GET /mailboxes/availability': by('mailbox', 'read'),
    'DELETE /mailboxes/{id}': by('mailbox', 'delete'),
    'POST /keys': by('key', 'create'),
    'GET /keys': by('key', 'read'),
    'GET /keys/{id}': by('key', 'read'),
    'POST /keys/{id}/rotate': by('key', 'update'),
    'DELETE /keys/{id}': by('key', 'delete'),
    'GET /owners': by('owner', 'read'),
    'POST /owners/invitations': by('owner', 'create'),
    'DELETE /owners/invitations/{email}': by('owner', 'delete'),
    'DELETE /owners/{email}': by('owner', 'delete'),
    'POST /webhooks': by('webhook', 'create'),
    'GET /webhooks': by('webhook', 'read'),
    'GET /webhooks/{id}': by('webhook', 'read'),
    'PATCH /webhooks/{id}': by('webhook', 'update'),
    'DELETE /webhooks/{id}': by('webhook', 'delete'),
    'POST /webhooks/{id}/rotate-secret': by('webhook', 'update'),
    'POST /webhooks/{id}/test': by('webhook', 'update'),
    'GET /webhooks/{id}/deliveries': by('webhook', 'read'),
    'GET /webhooks/{id}/deliveries/{delivery_id}': by('webhook', 'read'),
    'GET /webhooks/{id}/deliveries/{delivery_id}/payload': by('webhook', 'read'),
    'POST /webhooks/{id}/deliveries/{delivery_id}/redeliver': by('webhook', 'update'),
    'POST /webhooks/{id}/replay': by('webhook', 'update'),
    'GET /webhooks/{id}/replays': by('webhook', 'read'),
    'GET /webhooks/{id}/replays/{replay_id}': by('webhook', 'read'),
    'POST /webhooks/{id}/replays/{replay_id}/stop': by('webhook', 'update'),
    'GET /me': [...keys.keys()].sort().join(' '),
  });
});

interface Operation {
  readonly method: string;
  readonly path: string;
}

describe('every operation of the OpenAPI document that takes an id', () => {
  /** Bodies that are taken, by the method and the path. */
  const bodies: Record<string, object> = {
    'PATCH /api/v1/domains/{id}': { mode: 'send_receive' },
    'PUT /api/v1/domains/{id}/outbound-provider': { outbound_provider: 'mailgun' },
    'PUT /api/v1/domains/{id}/filters': { mode: 'denylist', rules: [{ type: 'deny', pattern: 'evil.example' }] },
    'PUT /api/v1/mailboxes/{id}/outbound-provider': { outbound_provider: 'mailgun' },
    'POST /api/v1/domains/{id}/setup-link': {},
    'PATCH /api/v1/webhooks/{id}': { description: 'CRM' },
    'POST /api/v1/webhooks/{id}/replay': { from: '-1d' },
    'POST /api/v1/domains/{id}/setup-instructions': { email: 'dns@acme.com' },
  };
  const deletionsLast = (a: Operation, b: Operation) => Number(a.method === 'DELETE') - Number(b.method === 'DELETE');
  let operations: Operation[];
  /** The ids by their kind: `domains`, `domains/claims`, `mailboxes`, `keys` and `webhooks`. */
  const ids: Record<string, Record<'own' | 'foreign' | 'deleted' | 'random' | 'malformed', string>> = {};
  const keys: Record<string, string | undefined> = {};
  /** Ids of what belongs to the own domain and the own webhook, by their names in paths. */
  const within: Record<'link' | 'delivery_id' | 'replay_id', string> = { link: '', delivery_id: '', replay_id: '' };
  /** The operations that also show a team what it has deleted. */
  const past: string[] = ['/api/v1/domains/{id}/history'];

  beforeAll(async () => {
    operations = Object.entries(await documented())
      .filter(([path]) => path.includes('{id}'))
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path })))
      .sort(deletionsLast);

    const [own, foreign, gone] = [await verified(), await verified(other.key), await verified()];
    const deletedMailbox = idOf(await create(`gone@${gone.name}`));
    await call('DELETE', `/mailboxes/${deletedMailbox}`);
    const history = await call('GET', `/domains/${gone.id}/history`);
    const [{ time: provisionedAt }] = (history.body.data as unknown as HistoryEntrySchema[]).slice(1) as [
      HistoryEntrySchema,
    ];
    await call('DELETE', `/domains/${gone.id}`);
    past.push(`/api/v1/domains/{id}?as_of=${provisionedAt}`);
    operations.unshift(
      ...['/api/v1/domains/{id}?as_of=now', ...past.slice(1)].map((path) => ({ method: 'GET', path })),
    );
    ids.domains = {
      own: own.id,
      foreign: foreign.id,
      deleted: gone.id,
      random: newId('mdom'),
      malformed: 'mdom_%00..',
    };
    within.link = idOf(await call('POST', `/domains/${own.id}/setup-link`, {}));
    const living = await verified();
    ids.mailboxes = {
      own: idOf(await create(`own@${living.name}`)),
      foreign: idOf(await create(`foreign@${foreign.name}`, {}, other.key)),
      deleted: deletedMailbox,
      random: newId('mbx'),
      malformed: 'mbx_%00..',
    };

    const claim = async (name: string, key?: string) =>
      idOf(await call('POST', '/domains/claims', { domain: name }, key));
    const withdrawn = await claim(foreign.name);
    await call('DELETE', `/domains/claims/${withdrawn}`);
    ids['domains/claims'] = {
      own: await claim(foreign.name),
      foreign: await claim(own.name, other.key),
      deleted: withdrawn,
      random: newId('claim'),
      malformed: 'claim_%00..',
    };

    const { accounts } = gateway;
    ids.keys = {
      own: (await accounts.createKey(acme.team, { permissions: ['domain.read'] })).id,
      foreign: other.id,
      // A revoked key stays in the list of its team, so that there is none that is gone.
      deleted: newId('key'),
      random: newId('key'),
      malformed: 'key_%00..',
    };
    const webhook = async (key?: string) =>
      idOf(await call('POST', '/webhooks', { url: 'https://hooks.acme.com' }, key));
    const removed = await webhook();
    await call('DELETE', `/webhooks/${removed}`);
    ids.webhooks = {
      own: await webhook(),
      foreign: await webhook(other.key),
      deleted: removed,
      random: newId('whk'),
      malformed: 'whk_%00..',
    };
    await call('POST', `/webhooks/${ids.webhooks.own}/test`);
    const deliveries = await call('GET', `/webhooks/${ids.webhooks.own}/deliveries`);
    within.delivery_id = (deliveries.body.data as unknown as [{ id: string }])[0].id;
    const replay = await call('POST', `/webhooks/${ids.webhooks.own}/replay`, { from: '-1d' });
    within.replay_id = idOf(replay);
    await call('POST', `/webhooks/${ids.webhooks.own}/replays/${within.replay_id}/stop`);

    const grant = async (given: Parameters<typeof accounts.createKey>[1]) =>
      (await accounts.createKey(acme.team, given)).key;
    const revoked = await accounts.createKey(acme.team, { role: 'root:full' });
    await accounts.revokeKey(revoked.id);
    Object.assign(keys, {
      none: undefined,
      unknown: `smx_root_${'0'.repeat(42)}`,
      revoked: revoked.key,
      domains: await grant({ permissions: ['domain.*'] }),
      mailboxes: await grant({ permissions: ['mailbox.*'] }),
      readonly: await grant({ role: 'root:readonly' }),
      full: acme.key,
    });
  });

  const send = ({ method, path }: Operation, id: string, key: string | undefined) =>
    gateway.call(
      method,
      path
        .replace('{id}', id)
        .replace(/\{(link|delivery_id|replay_id)\}/, (_, name: keyof typeof within) => within[name]) +
        (path.endsWith('zone-file') ? '?format=bind' : ''),
      {
        key,
        body: bodies[`${method} ${path}`],
      },
    );
  /** Gives what a caller can see, without what differs between any two requests. */
  const seen = ({ status, headers, text }: Answer, id: string) => ({
    status,
    headers: [...headers].filter(([name]) => !/^(date|x-request-id|content-length|(x-)?ratelimit-re)/.test(name)),
    text: text.replaceAll(decodeURIComponent(id), '{id}').replace(/req_cl[0-9a-z]{25}/g, 'req'),
  });
  const kindOf = ({ path }: Operation) => (path.includes('/claims/') ? 'domains/claims' : path.split('/')[3]!);

  it('is covered by this test', () => {
    expect(operations.map(({ method, path }) => `${method} ${path}`).length).toBeGreaterThanOrEqual(14);
    expect(new Set(operations.map(kindOf))).toEqual(
      new Set(['domains', 'domains/claims', 'mailboxes', 'keys', 'webhooks']),
    );
  });

  it('answers alike for a foreign, deleted, random or malformed id, except for a team’s own deleted ones', async () => {
    for (const operation of operations)
      for (const [kind, key] of Object.entries(keys)) {
        const of = ids[kindOf(operation)]!;
        const answers = await Promise.all(
          (['foreign', 'deleted', 'random'] as const).map(async (which) =>
            seen(await send(operation, of[which], key), of[which]),
          ),
        );
        const what = `${operation.method} ${operation.path} with the key ${kind}`;
        const isTold = past.includes(operation.path) && ['domains', 'readonly', 'full'].includes(kind);
        if (isTold) expect({ what, status: answers[1]!.status }).toEqual({ what, status: 200 });
        else expect({ what, answer: answers[1] }).toEqual({ what, answer: answers[0] });
        expect({ what, answer: answers[2] }).toEqual({ what, answer: answers[0] });
        const malformed = seen(await send(operation, of.malformed, key), of.malformed);
        const unauthorised = ['none', 'unknown', 'revoked'].includes(kind);
        const expected = unauthorised ? [401] : kind === 'full' ? [404] : [403, 404];
        expect({ what, status: expected.includes(answers[0]!.status) }).toEqual({ what, status: true });
        expect({ what, malformed: malformed.status }).toEqual({ what, malformed: answers[0]!.status });
      }
  });

  it('refuses a key without the permission before it looks up the id', async () => {
    for (const operation of operations) {
      const of = ids[kindOf(operation)]!;
      const isOfDomains = kindOf(operation).startsWith('domains') && !operation.path.endsWith('/filters');
      const wrong = isOfDomains ? keys.mailboxes : keys.domains;
      const answers = await Promise.all([of.own, of.foreign, of.random].map((id) => send(operation, id, wrong)));
      expect(answers.map(({ status }) => status)).toEqual([403, 403, 403]);
      expect(new Set(answers.map(({ body }) => body.error.message)).size).toBe(1);
      if (operation.method !== 'GET') expect((await send(operation, of.own, keys.readonly)).status).toBe(403);
    }
  });

  it('works with an id of the own team, and has not changed the foreign one', async () => {
    for (const operation of operations) {
      const what = `${operation.method} ${operation.path}`;
      const { status } = await send(operation, ids[kindOf(operation)]!.own, keys.full);
      // A plan queries resolvers, which this gateway does not have.
      const others: Record<string, number> = {
        'dns-plan': 503,
        rotate: 201,
        'setup-link': 201,
        'setup-instructions': 202,
        redeliver: 202,
        replay: 201,
      };
      const expected = others[operation.path.split('/').at(-1)!] ?? 200;
      expect({ what, status }).toEqual({ what, status: expected });
    }
    const unchanged: Record<string, object> = {
      domains: { outbound_provider: null, verification_status: 'verified' },
      mailboxes: { outbound_provider: null, status: 'active' },
      keys: { expires_at: null, revoked_at: null },
      webhooks: { description: null, enabled: true, old_secret_expires_at: null },
      'domains/claims': { status: 'pending' },
    };
    for (const [kind, { foreign }] of Object.entries(ids))
      expect((await call('GET', `/${kind}/${foreign}`, undefined, other.key)).body.data).toMatchObject({
        id: foreign,
        ...unchanged[kind],
      });
  });
});
