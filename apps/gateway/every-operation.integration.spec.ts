import { permissions, roles, type Permission } from '@app/accounts';
import { Pool } from 'pg';
import { pathsOf, type OpenApi, type Operation } from '../../test/support/api-contract';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

/** What a key has to be allowed for each operation; `null` is any key. */
const needed: Readonly<Record<string, Permission | null>> = {
  'post /domains': 'domain.create',
  'get /domains': 'domain.read',
  'post /domains/preflight': 'domain.create',
  'get /domains/{id}': 'domain.read',
  'patch /domains/{id}': 'domain.create',
  'delete /domains/{id}': 'domain.delete',
  'post /domains/{id}/verify': 'domain.verify',
  'put /domains/{id}/outbound-provider': 'domain.update',
  'get /domains/{id}/dns-plan': 'domain.read',
  'get /domains/{id}/zone-file': 'domain.read',
  'get /domains/{id}/history': 'domain.read',
  'post /domains/{id}/setup-link': 'domain.verify',
  'post /domains/{id}/setup-instructions': 'domain.verify',
  'get /domains/{id}/setup-links': 'domain.verify',
  'delete /domains/{id}/setup-links/{link}': 'domain.verify',
  'get /domains/{id}/filters': 'mailbox.read',
  'put /domains/{id}/filters': 'mailbox.update',
  'post /domains/claims': 'domain.create',
  'get /domains/claims': 'domain.read',
  'get /domains/claims/{id}': 'domain.read',
  'delete /domains/claims/{id}': 'domain.create',
  'post /domains/claims/{id}/verify': 'domain.create',
  'post /mailboxes': 'mailbox.create',
  'get /mailboxes': 'mailbox.read',
  'get /mailboxes/availability': 'mailbox.read',
  'get /mailboxes/{id}': 'mailbox.read',
  'patch /mailboxes/{id}': 'mailbox.update',
  'delete /mailboxes/{id}': 'mailbox.delete',
  'post /mailboxes/{id}/suspend': 'mailbox.update',
  'post /mailboxes/{id}/resume': 'mailbox.update',
  'put /mailboxes/{id}/outbound-provider': 'mailbox.update',
  'post /keys': 'key.create',
  'get /keys': 'key.read',
  'get /keys/{id}': 'key.read',
  'delete /keys/{id}': 'key.delete',
  'post /keys/{id}/rotate': 'key.update',
  'get /owners': 'owner.read',
  'post /owners/invitations': 'owner.create',
  'delete /owners/invitations/{email}': 'owner.delete',
  'delete /owners/{email}': 'owner.delete',
  'post /webhooks': 'webhook.create',
  'get /webhooks': 'webhook.read',
  'get /webhooks/{id}': 'webhook.read',
  'patch /webhooks/{id}': 'webhook.update',
  'delete /webhooks/{id}': 'webhook.delete',
  'post /webhooks/{id}/rotate-secret': 'webhook.update',
  'post /webhooks/{id}/test': 'webhook.update',
  'get /webhooks/{id}/deliveries': 'webhook.read',
  'get /webhooks/{id}/deliveries/{delivery_id}': 'webhook.read',
  'get /webhooks/{id}/deliveries/{delivery_id}/payload': 'webhook.read',
  'post /webhooks/{id}/deliveries/{delivery_id}/redeliver': 'webhook.update',
  'post /webhooks/{id}/replay': 'webhook.update',
  'get /webhooks/{id}/replays': 'webhook.read',
  'get /webhooks/{id}/replays/{replay_id}': 'webhook.read',
  'post /webhooks/{id}/replays/{replay_id}/stop': 'webhook.update',
  'get /me': null,
};

/** What needs another secret than a key, or none. */
const others: Readonly<Record<string, 'setup link' | 'session' | 'nothing'>> = {
  'get /setup': 'setup link',
  'post /setup/verify': 'setup link',
  'get /setup/zone-file': 'setup link',
  'get /session': 'session',
  'delete /session': 'session',
  'post /session': 'nothing',
  'post /invitations/accept': 'nothing',
};

let database: TestDatabase;
let pool: Pool;
let gateway: TestGateway;
let document: OpenApi;
let operations: (readonly [name: string, operation: Operation])[];

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = new Pool({ connectionString: database.url });
  gateway = await startGateway(database.url);
  document = JSON.parse((await gateway.call('GET', '/api/v1/openapi.json')).text) as OpenApi;
  operations = Object.entries(pathsOf(document)).flatMap(([path, methods]) =>
    Object.entries(methods).map(
      ([method, operation]) => [`${method} ${path.replace('/api/v1', '')}`, operation] as const,
    ),
  );
});
afterAll(async () => {
  await gateway.close();
  await pool.end();
  await database.drop();
});

/** Gives a body of examples; undefined where the operation takes none. */
function bodyOf({ requestBody }: Operation): Record<string, unknown> | undefined {
  const reference = requestBody?.content['application/json']?.schema.$ref;
  if (reference === undefined) return undefined;
  const { properties } = document.components.schemas[reference.split('/').at(-1)!] as {
    properties: Record<string, { example?: unknown }>;
  };
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, { example }]) => (example === undefined ? [] : [[name, example]])),
  );
}

const lacks = (permission: string) => `This API key lacks the permission ${permission}.`;
/** Whether the guard has let a request pass; a key may still not give another one what it does not have itself. */
const isLetIn = ({ status, body }: Answer) => status !== 401 && !body.error?.message.startsWith(lacks('').slice(0, -1));

/** The headers of each answer of each operation, whatever its status. */
const headersOfAll = {
  'cache-control': expect.stringContaining('no-store') as string,
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'x-request-id': expect.stringMatching(/^req_cl/) as string,
};
/** Headers that let a page of another origin in, or tell what we are made of. */
const never = /^access-control-|^server$|^x-powered-by$|^via$/;

function expectHeaders(name: string, { status, headers }: Answer): void {
  const fields = Object.fromEntries(headers);
  expect([name, status, fields]).toMatchObject([name, status, headersOfAll]);
  expect(Object.keys(fields).filter((field) => never.test(field))).toEqual([]);
}

/** Sends an operation with these ids in its path, by their names, as a page of another origin would. */
async function send(name: string, ids: Readonly<Record<string, string>>, key?: string): Promise<Answer> {
  const [method, path] = name.split(' ') as [string, string];
  const filled = path.replace(/\{(\w+)\}/g, (_, parameter: string) => encodeURIComponent(ids[parameter] ?? 'x'));
  const body = bodyOf(operations.find(([each]) => each === name)![1]);
  const query = name === 'get /mailboxes/availability' ? '?email=ada@acme.com' : '';
  const answer = await gateway.call(method.toUpperCase(), `/api/v1${filled}${query}`, {
    ...(key !== undefined && { key }),
    ...(body && { body }),
    headers: { origin: 'https://other.example' },
  });
  expectHeaders(name, answer);
  return answer;
}

it('every operation is in the table of what it needs, and the document says the same kind of secret', () => {
  expect(operations.map(([name]) => name).sort()).toEqual([...Object.keys(needed), ...Object.keys(others)].sort());
  const schemes = { 'setup link': 'setupLink', session: 'session', nothing: undefined } as const;
  for (const [name, { security = [] }] of operations)
    expect([name, security.flatMap(Object.keys)]).toEqual([
      name,
      name in needed ? ['apiKey'] : [schemes[others[name]!]].filter((each) => each !== undefined),
    ]);
});

it('nobody gets through without the secret of an operation, nor with one of another kind', async () => {
  const { key, team } = await gateway.key();
  const { id } = (await gateway.call('POST', '/api/v1/domains', { key, body: { domain: 'open.acme.com' } })).body.data;
  const link = await gateway.call('POST', `/api/v1/domains/${id}/setup-link`, { key, body: {} });
  const setupToken = new URL((link.body.data as unknown as { url: string }).url).hash.slice(1);
  const signedIn = await gateway.call('POST', '/api/v1/session', { body: { api_key: key } });
  const sessionToken = /smx_session_\w+/.exec(signedIn.headers.get('set-cookie')!)![0];
  const { key: revoked, id: revokedId } = await gateway.accounts.createKey(team, { role: 'root:full' });
  await gateway.accounts.revokeKey(revokedId);
  for (const [name] of operations) {
    if (others[name] === 'nothing') continue;
    const refused = name.includes(' /setup') ? [401, 404] : [401];
    for (const secret of [
      undefined,
      'x',
      revoked,
      sessionToken,
      ...(others[name] === 'setup link' ? [] : [setupToken]),
    ])
      expect([name, secret?.slice(0, 9), refused.includes((await send(name, { id }, secret)).status)]).toEqual([
        name,
        secret?.slice(0, 9),
        true,
      ]);
    if (others[name] === 'setup link') expect([name, (await send(name, {}, key)).status]).toEqual([name, 404]);
  }
  expect((await gateway.call('GET', '/api/v1/setup', { key: setupToken })).status).toBe(200);
});

it('a key that lacks the one permission of an operation is refused by its name, and one that has no other is not', async () => {
  const { team } = await gateway.key();
  const keyOf = async (given: readonly string[]) =>
    (await gateway.accounts.createKey(team, { permissions: given })).key;
  const withOnly = new Map<string, string>();
  const without = new Map<string, string>();
  for (const each of permissions) {
    withOnly.set(each, await keyOf([each]));
    without.set(each, await keyOf(permissions.filter((other) => other !== each)));
  }
  for (const [name, permission] of Object.entries(needed)) {
    const all = permission === null ? [...withOnly.values()] : [withOnly.get(permission)!];
    for (const key of all) expect([name, isLetIn(await send(name, {}, key))]).toEqual([name, true]);
    if (permission === null) continue;
    const { status, body } = await send(name, {}, without.get(permission));
    expect([name, status, body.error?.message]).toEqual([name, 403, lacks(permission)]);
  }
});

it.each(Object.keys(roles))('the role %s may do what its permissions say', async (role) => {
  const { key } = await gateway.key({ role });
  for (const [name, permission] of Object.entries(needed)) {
    const may = role === 'root:full' || permission === null || permission.endsWith('.read');
    expect([name, isLetIn(await send(name, {}, key))]).toEqual([name, may]);
  }
});

describe('what is another team’s', () => {
  /** The tables that have something of a team; rows of others may come and go. */
  const tables = [
    'domains',
    'mailboxes',
    'api_keys',
    'owners',
    'invitations',
    'setup_links',
    'webhooks',
    'domain_claims',
  ];
  const stateOf = async (team: string) => {
    const rows: string[] = [];
    for (const table of tables) {
      const { rows: found } = await pool.query<{ row: string }>(
        `SELECT to_jsonb(t) - 'last_used_at' AS row FROM ${table} t WHERE team = $1 ORDER BY 1`,
        [team],
      );
      expect([table, found.length > 0]).toEqual([table, true]);
      rows.push(...found.map(({ row }) => `${table} ${JSON.stringify(row)}`));
    }
    const { rows: events } = await pool.query<{ stream: string }>(
      `SELECT stream || '/' || version AS stream FROM events
        WHERE stream IN (SELECT id FROM domains WHERE team = $1 UNION SELECT id FROM mailboxes WHERE team = $1)`,
      [team],
    );
    return [...rows, ...events.map(({ stream }) => stream).sort()];
  };

  it('is no more there than what never was, for every operation with an id', async () => {
    const { key, team, id: keyId } = await gateway.key();
    // The first owner of both teams has one address.
    await gateway.accounts.addOwners(team, ['linus@acme.com']);
    const call = async (method: string, path: string, body?: object) => {
      const answer = await gateway.call(method, `/api/v1${path}`, { key, ...(body && { body }) });
      expect([path, answer.status < 300]).toEqual([path, true]);
      return answer.body.data as unknown as Record<string, string>;
    };
    const { id: domain } = await call('POST', '/domains', { domain: 'theirs.acme.com' });
    await call('POST', `/domains/${domain}/verify`);
    const { id: mailbox } = await call('POST', '/mailboxes', { email: 'ada@theirs.acme.com' });
    const { id: link } = await call('POST', `/domains/${domain}/setup-link`, {});
    await call('POST', '/owners/invitations', { email: 'grace@acme.com' });
    const { id: webhook } = await call('POST', '/webhooks', { url: 'https://hooks.acme.com' });
    await call('POST', `/webhooks/${webhook}/test`);
    const [{ id: delivery }] = (await call('GET', `/webhooks/${webhook}/deliveries`)) as unknown as [{ id: string }];
    const { id: replay } = await call('POST', `/webhooks/${webhook}/replay`, {
      from: new Date(Date.now() - 3_600_000),
    });
    const intruder = await gateway.key();
    await gateway.call('POST', '/api/v1/domains', { key: intruder.key, body: { domain: 'mine.acme.com' } });
    const { id: claim } = await call('POST', '/domains/claims', { domain: 'mine.acme.com' });
    const before = await stateOf(team);

    const idsOf = (name: string): Record<string, string> => {
      if (name.includes('/claims/')) return { id: claim! };
      if (name.includes('/mailboxes/')) return { id: mailbox! };
      if (name.includes('/keys/')) return { id: keyId };
      if (name.includes('/owners/'))
        return { email: name.includes('invitations') ? 'grace@acme.com' : 'linus@acme.com' };
      if (name.includes('/webhooks/')) return { id: webhook!, delivery_id: delivery, replay_id: replay! };
      return { id: domain!, link: link! };
    };
    let tried = 0;
    for (const name of Object.keys(needed).filter((each) => each.includes('{'))) {
      const ids = idsOf(name);
      const never = Object.fromEntries(
        Object.entries(ids).map(([parameter, id]) => [
          parameter,
          id.replace(/[0-9a-z]{16}$|^(grace|linus)/, 'zzzzzzzzzzzzzzzz'),
        ]),
      );
      const [theirs, none] = [await send(name, ids, intruder.key), await send(name, never, intruder.key)];
      const plain = ({ status, text }: Answer, names: Record<string, string>) => {
        let said = text.replace(/"req_\w+"/g, '"req"');
        for (const [parameter, id] of Object.entries(names)) said = said.replaceAll(id, `{${parameter}}`);
        return [name, status, said];
      };
      expect(plain(theirs, ids)).toEqual(plain(none, never));
      expect([name, theirs.status]).toEqual([name, 404]);
      tried++;
    }
    expect(tried).toBe(41);
    // Ids that are no part of a path.
    const mailboxes = await gateway.call('GET', `/api/v1/mailboxes?domain_id=${domain}`, { key: intruder.key });
    expect(mailboxes.text).not.toContain(mailbox);
    const body = { email: 'eve@theirs.acme.com' };
    expect(
      (await gateway.call('POST', '/api/v1/mailboxes', { key: intruder.key, body })).status,
    ).toBeGreaterThanOrEqual(400);
    const filtered = { url: 'https://hooks.acme.com', domains: ['theirs.acme.com'] };
    expect(
      (await gateway.call('POST', '/api/v1/webhooks', { key: intruder.key, body: filtered })).status,
    ).toBeGreaterThanOrEqual(400);
    expect(await stateOf(team)).toEqual(before);
  });
});

describe('headers', () => {
  it('are those of all answers, for each operation with and without a key', async () => {
    const { key } = await gateway.key();
    const statuses = new Set<number>();
    for (const [name] of operations)
      for (const given of [undefined, key]) statuses.add((await send(name, {}, given)).status);
    expect([...statuses].sort()).toEqual(expect.arrayContaining([200, 201, 401, 404]));
  });

  it('let no page of another origin ask before', async () => {
    const { key } = await gateway.key();
    for (const [name] of operations) {
      const path = name.split(' ')[1]!.replace(/\{\w+\}/g, 'x');
      const headers = { origin: 'https://other.example', 'access-control-request-method': 'POST' };
      for (const given of [{}, { key }]) {
        const answer = await gateway.call('OPTIONS', `/api/v1${path}`, { ...given, headers });
        expect([name, answer.status >= 400]).toEqual([name, true]);
        expectHeaders('options', answer);
      }
    }
  });
});
