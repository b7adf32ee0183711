import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { openSetupLinksLimit, setupMailsADay, setupMailsAnHour, setupMailTasks, SetupLinks } from '@app/accounts';
import type { DnsAnswer } from '@app/dns';
import { RequestDeletion } from '@app/mail-domain';
import { newId } from '@app/runtime';
import { TaskList } from '@app/tasks';
import type { Questions } from '@app/verification';
import { Pool } from 'pg';
import { startGateway, type Answer, type Call, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import type { SetupSchema } from './setup/setup.dto';

let database: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
let key: string;
let team: string;

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = new Pool({ connectionString: database.url });
  gateway = await startGateway(database.url);
});
beforeEach(async () => {
  ({ key, team } = await gateway.key());
  gateway.verifier.findings = {};
  gateway.resolvers.splice(0);
});
afterAll(async () => {
  await gateway.close();
  await pool.end();
  await database.drop();
});

let count = 0;
const add = async (name = `s${++count}.acme.com`) =>
  (await gateway.call('POST', '/api/v1/domains', { key, body: { domain: name } })).body.data;
const call = (method: string, path: string, given: Call = {}) =>
  gateway.call(method, `/api/v1${path}`, { key, ...given });
const dataOf = <Data>({ body }: Answer) => body.data as unknown as Data;
interface Link {
  readonly id: string;
  readonly url: string;
  readonly expires_at: string;
}
const link = async (id: string, body: object = {}) =>
  dataOf<Link>(await call('POST', `/domains/${id}/setup-link`, { body }));
const tokenOf = ({ url }: Link) => new URL(url).hash.slice(1);
const setup = (token: string | undefined, path = '', method = 'GET', headers = {}) =>
  gateway.call(method, `/api/v1/setup${path}`, { key: token, headers });
const read = async (token: string, path = '') => dataOf<SetupSchema>(await setup(token, path));

/** A resolver of a zone with these name servers and nothing else. */
const resolver = (nameservers: readonly string[]): Questions => {
  const none = () => Promise.resolve<DnsAnswer<never>>({ kind: 'nodata', aliases: [] });
  const given =
    <Rr>(zone: string, records: readonly Rr[]) =>
    (name: string): Promise<DnsAnswer<Rr>> =>
      name === zone ? Promise.resolve({ kind: 'records', records, aliases: [] }) : none();
  return {
    mx: none,
    txt: none,
    cname: none,
    a: none,
    aaaa: none,
    soa: given('acme.com', [{ primary: 'ns.acme.com', minimum: 60 }]),
    ns: given('acme.com', nameservers),
  };
};

describe('a setup link', () => {
  it('opens one domain, to read and to verify, and tells nothing else of its team', async () => {
    const { id, domain } = await add();
    const made = await call('POST', `/domains/${id}/setup-link`, { body: { expires_in_days: 30 } });
    expect(made.status).toBe(201);
    const { url, expires_at: expiresAt } = dataOf<Link>(made);
    expect(url).toMatch(/^https:\/\/app\.example\.com\/setup#smx_setup_[0-9a-z]{42}$/);
    expect(Date.parse(expiresAt)).toBeGreaterThan(Date.now() + 29 * 86_400_000);
    const token = tokenOf(dataOf<Link>(made));

    const records = (await call('GET', `/domains/${id}`)).body.data.records;
    const answer = await setup(token, '?plan=false');
    expect(answer.status).toBe(200);
    expect(answer.body.data).toMatchObject({ domain, verification_status: 'pending', records, retry_at: null });
    expect(answer.body.data).not.toHaveProperty('plan');
    // The ownership record names the team: it is one of the records to place.
    expect(answer.text.replaceAll(`sendmux-verify=${team}`, '')).not.toMatch(new RegExp(`${team}|${id}|key_|Acme`));

    const tag = answer.headers.get('etag')!;
    expect(tag).toMatch(/^W\//);
    const zoneFile = await setup(token, '/zone-file?format=bind');
    expect(zoneFile.text).toBe((await call('GET', `/domains/${id}/zone-file?format=bind`)).text);
    expect(zoneFile.headers.get('content-disposition')).toContain(`${domain}.zone`);

    const verified = await setup(token, '/verify', 'POST');
    expect([verified.status, verified.body.data.status]).toEqual([200, 'verified']);
    const changed = await setup(token, '?plan=false', 'GET', { 'if-none-match': tag });
    expect([changed.status, dataOf<SetupSchema>(changed).verification_status]).toEqual([200, 'verified']);
    // No scheduler runs, so that the next look is always due: its time goes on.
    await delay(1_100);
    const same = await setup(token, '?plan=false', 'GET', { 'if-none-match': changed.headers.get('etag')! });
    expect([same.status, same.text]).toEqual([304, '']);
    const history = dataOf<{ actor: { type: string; id: string } }[]>(await call('GET', `/domains/${id}/history`));
    expect(history.find(({ actor }) => actor.id.startsWith('slnk_'))?.actor.type).toBe('key');
  });

  it('shows who hosts the zone and the live plan, and goes without them when no resolver answers', async () => {
    const token = tokenOf(await link((await add()).id));
    expect(await read(token)).toMatchObject({ dns_host: null, plan: null, domain_connect: null });
    gateway.resolvers.push(resolver(['ada.ns.cloudflare.com', 'bob.ns.cloudflare.com']));
    const { dns_host: host, plan } = await read(token);
    expect(host).toMatchObject({
      name: 'Cloudflare',
      zone: 'acme.com',
      nameservers: ['ada.ns.cloudflare.com', 'bob.ns.cloudflare.com'],
    });
    expect(host?.advice.join(' ')).toContain('DNS only');
    expect(plan?.complete).toBe(false);
    expect(plan?.operations.map(({ action }) => action)).toContain('create');
    gateway.resolvers.splice(0, 1, resolver(['ns1.<script>.example', 'ns2.example.net']));
    expect((await read(token)).dns_host).toMatchObject({
      name: null,
      nameservers: ['ns1.<script>.example', 'ns2.example.net'],
    });
  });

  it('shares the look-ups of its requests', async () => {
    const token = tokenOf(await link((await add()).id));
    const one = resolver(['ns1.example.net']);
    let asked = 0;
    gateway.resolvers.push({ ...one, ns: (zone) => ((asked += 1), one.ns(zone)) });
    for (let i = 0; i < 5; i++) {
      const all = await Promise.all(Array.from({ length: 5 }, () => read(token)));
      expect(all.map(({ dns_host: host }) => host?.nameservers)).toEqual(Array(5).fill(['ns1.example.net']));
    }
    expect(asked).toBeLessThanOrEqual(10);
  });

  it('goes without the plan while the team waits for many looks, and tells nothing of them', async () => {
    const token = tokenOf(await link((await add()).id));
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const soa: Questions['soa'] = async (name) => {
      if (!name.endsWith('slow.com')) return { kind: 'nodata', aliases: [] };
      await released;
      return { kind: 'unreachable', reason: 'gone' };
    };
    gateway.resolvers.push({ ...resolver([]), soa });
    const slow = Array.from({ length: 100 }, (_, i) =>
      call('POST', '/domains/preflight', { body: { domain: `s${i}.slow.com` } }),
    );
    expect((await Promise.race(slow)).status).toBe(429);
    const answer = await setup(token);
    expect([answer.status, dataOf<SetupSchema>(answer).plan]).toEqual([200, null]);
    release();
    await Promise.all(slow);
  });

  it('says from when verifying again can tell more, as the last verification did', async () => {
    const { id } = await add();
    const token = tokenOf(await link(id));
    gateway.verifier.findings = { mx: { outcome: 'fail', code: 'mx_missing', observed: [] } };
    const { retry_at: said } = (await setup(token, '/verify', 'POST')).body.data;
    const { retry_at: retryAt } = await read(token, '?plan=false');
    expect(retryAt).toBe(said !== null && Date.parse(said) > Date.now() ? said : null);
  });

  it('answers 404 alike to a token that is guessed, revoked or over, of a domain that is gone, or no token of ours', async () => {
    const [{ id }, other] = [await add(), await add()];
    const links = await Promise.all(Array.from({ length: 3 }, () => link(id)));
    await call('DELETE', `/domains/${id}/setup-links/${links[0]!.id}`);
    await pool.query(`UPDATE setup_links SET expires_at = now() WHERE id = $1`, [links[1]!.id]);
    const ofOther = tokenOf(await link(other.id));
    const leaving = await add();
    const ofLeaving = tokenOf(await link(leaving.id));
    gateway.kept.add(leaving.domain);
    const context = { at: new Date().toISOString(), actor: team, correlationId: 'c' };
    await gateway.execute(new RequestDeletion(leaving.id, context));
    await call('DELETE', `/domains/${other.id}`);
    const bad = [tokenOf(links[0]!), tokenOf(links[1]!), ofOther, ofLeaving, `smx_setup_${'0'.repeat(42)}`, key, 'x'];
    const seen = await Promise.all(
      bad.flatMap((token) =>
        [
          ['GET', ''],
          ['GET', '?plan=false'],
          ['GET', '/zone-file'],
          ['POST', '/verify'],
        ].map(async ([method, path]) => {
          const { status, headers, text } = await setup(token, path, method);
          const named = [...headers].filter(([name]) => !/^(date|x-request-id)$/.test(name));
          return JSON.stringify([status, named, text.replace(/req_cl[0-9a-z]{25}/g, 'req')]);
        }),
      ),
    );
    expect(new Set(seen).size).toBe(1);
    expect(seen[0]).toMatch(/^\[404,.*not_found/);
    expect((await setup(tokenOf(links[2]!))).status).toBe(200);
    expect((await setup(undefined)).status).toBe(401);
  });

  it('opens no other operation', async () => {
    const { id } = await add();
    const token = tokenOf(await link(id));
    for (const path of ['/domains', `/domains/${id}`, '/me', `/domains/${id}/setup-links`, '/session'])
      expect((await call('GET', path, { key: token })).status).toBe(401);
    expect((await call('POST', '/session', { key: undefined, body: { api_key: token } })).status).toBe(401);
  });

  it('is listed without its address, and revoked once', async () => {
    const { id } = await add();
    const [first, second] = [await link(id), await link(id)];
    const list = await call('GET', `/domains/${id}/setup-links`);
    expect(dataOf<Link[]>(list).map((each) => each.id)).toEqual([second.id, first.id]);
    expect(list.text).not.toMatch(/smx_setup|url/);
    const revoke = () => call('DELETE', `/domains/${id}/setup-links/${first.id}`);
    expect((await revoke()).body.data).toEqual({ deleted: true, id: first.id });
    expect((await revoke()).status).toBe(404);
    expect((await call('DELETE', `/domains/${(await add()).id}/setup-links/${second.id}`)).status).toBe(404);
    expect((await call('DELETE', `/domains/${id}/setup-links/%00`)).status).toBe(404);
  });

  it('is valid for a week where nothing is said of it', async () => {
    const { id } = await add();
    const answer = await call('POST', `/domains/${id}/setup-link`);
    expect(answer.status).toBe(201);
    const left = Date.parse(dataOf<Link>(answer).expires_at) - Date.now();
    expect(Math.abs(left - 7 * 86_400_000)).toBeLessThan(60_000);
  });

  it('is kept as a hash', async () => {
    const token = tokenOf(await link((await add()).id));
    const { rows } = await pool.query<{ row: string }>('SELECT setup_links::text AS row FROM setup_links');
    expect(rows.map(({ row }) => row).join()).not.toContain(token.slice('smx_setup_'.length));
  });

  it('is one of so many of a domain, also where they are created at once', async () => {
    const { id } = await add();
    const statuses = await Promise.all(
      Array.from(
        { length: openSetupLinksLimit + 5 },
        async () => (await call('POST', `/domains/${id}/setup-link`, { body: {} })).status,
      ),
    );
    expect(statuses.filter((status) => status === 201)).toHaveLength(openSetupLinksLimit);
    const { status, body } = await call('POST', `/domains/${id}/setup-link`, { body: {} });
    expect([status, body.error.code, body.error.limit]).toEqual([409, 'limit_exceeded', openSetupLinksLimit]);
    expect((await call('POST', `/domains/${(await add()).id}/setup-link`, { body: {} })).status).toBe(201);
  });

  it.each([0, 31, 1.5, '7', null])('does not last %j days', async (days) => {
    const { id } = await add();
    const { status, body } = await call('POST', `/domains/${id}/setup-link`, { body: { expires_in_days: days } });
    expect([status, body.error.param]).toEqual([400, 'expires_in_days']);
  });

  it('has a rate of its own', async () => {
    const limited = await startGateway(database.url, { RATE_LIMIT_PER_MINUTE: 3 });
    const [one, two] = [tokenOf(await link((await add()).id)), tokenOf(await link((await add()).id))];
    const statuses: number[] = [];
    for (let i = 0; i < 7; i++)
      statuses.push((await limited.call('GET', '/api/v1/setup?plan=false', { key: one })).status);
    expect(statuses).toContain(429);
    expect((await limited.call('GET', '/api/v1/setup?plan=false', { key: two })).status).toBe(200);
    await limited.close();
  });
});

describe('setup instructions', () => {
  const send = (id: string, email: unknown = 'dns@acme.com') =>
    call('POST', `/domains/${id}/setup-instructions`, { body: { email } });

  it('are put on the list of the notifier together with their link', async () => {
    const { id } = await add();
    const tasks = gateway.app.get(TaskList, { strict: false });
    const changed = once(tasks.changed, setupMailTasks);
    const answer = await send(id, 'Dns@Acme.com');
    expect([answer.status, dataOf<object>(answer)]).toMatchObject([202, { email: 'Dns@Acme.com' }]);
    await changed;
    const made = dataOf<{ id: string }>(answer).id;
    expect(await tasks.payloads(setupMailTasks, 'Mail', { id: made }, 1)).toEqual([{ id: made }]);
    expect(dataOf<object[]>(await call('GET', `/domains/${id}/setup-links`))).toMatchObject([
      { email: 'Dns@Acme.com' },
    ]);
    // Neither is there without the other.
    const links = gateway.app.get(SetupLinks, { strict: false });
    await expect(
      links.createForMail(team, id, 'dns@acme.com', () => Promise.reject(new Error('gone'))),
    ).rejects.toThrow('gone');
    expect(await links.list(team, id)).toHaveLength(1);
  });

  it.each([
    ['', 400],
    [7, 400],
    ['x'.repeat(321), 400],
    ['not an address', 422],
    ['a@b', 422],
    ['a@acme.com, b@acme.com', 422],
    ['a@acme.com\r\nbcc: b@acme.com', 422],
    ['"a\r\nRCPT TO:<b@acme.com>"@acme.com', 422],
  ])('are not sent to %j', async (email, status) => {
    const answer = await send((await add()).id, email);
    expect([answer.status, answer.body.error.param]).toEqual([status, 'email']);
  });

  it('are mailed so often to one address within a day, and to another one still', async () => {
    const domains = await Promise.all(Array.from({ length: 3 }, () => add()));
    for (let i = 0; i < setupMailsADay; i++)
      expect((await send(domains[i % 3]!.id, i % 2 ? 'Often@acme.com' : 'often@acme.com')).status).toBe(202);
    const refused = await send(domains[0]!.id, 'often@acme.com');
    expect([refused.status, refused.body.error.code]).toEqual([429, 'rate_limit_exceeded']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(80_000);
    expect((await send(domains[0]!.id, 'other@acme.com')).status).toBe(202);
    await pool.query(`UPDATE setup_links SET created_at = created_at - interval '1 day'`);
  });

  it('are mailed so often within an hour, of a domain and of a team', async () => {
    const domains = await Promise.all(Array.from({ length: 6 }, () => add()));
    const { id } = domains[0]!;
    for (let i = 0; i < setupMailsAnHour.ofDomain; i++) {
      const { status, body } = await send(id);
      expect(status).toBe(202);
      // A link that is revoked has been mailed all the same.
      await call('DELETE', `/domains/${id}/setup-links/${body.data.id}`);
    }
    const refused = await send(id);
    expect([refused.status, refused.body.error.code]).toEqual([429, 'rate_limit_exceeded']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(3_500);
    const statuses: number[] = [];
    for (const domain of domains.slice(1))
      for (let i = 0; i < setupMailsAnHour.ofDomain; i++)
        statuses.push((await send(domain.id, `dns${i}@acme.com`)).status);
    expect(statuses.filter((status) => status === 202)).toHaveLength(
      setupMailsAnHour.ofTeam - setupMailsAnHour.ofDomain,
    );
    await pool.query(`UPDATE setup_links SET created_at = created_at - interval '1 hour'`);
    expect((await send(id)).status).toBe(202);
  });
});

it('a link of an unknown domain is neither created, listed nor revoked', async () => {
  const id = newId('mdom');
  for (const [method, path, body] of [
    ['POST', 'setup-link', {}],
    ['POST', 'setup-instructions', { email: 'dns@acme.com' }],
    ['GET', 'setup-links', undefined],
    ['DELETE', `setup-links/${newId('slnk')}`, undefined],
  ] as const)
    expect((await call(method, `/domains/${id}/${path}`, { body })).status).toBe(404);
});
