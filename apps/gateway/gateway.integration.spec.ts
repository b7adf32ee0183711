import { setTimeout as delay } from 'node:timers/promises';
import { newId } from '@app/runtime';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { AddDomain } from '@app/mail-domain';
import { checkNames } from '@app/mail-records';
import { Pool } from 'pg';
import { Outcomes } from './domains/outcomes.service';
import { startGateway, type Answer, type Body, type TestGateway } from '../../test/support/gateway';
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

let count = 0;
const freshName = () => `d${++count}.acme.com`;
const add = (domain: unknown, key = acme.key, headers: Record<string, string> = {}): Promise<Answer> =>
  gateway.call('POST', '/api/v1/domains', { key, body: { domain }, headers });
const get = (path: string, key = acme.key, headers: Record<string, string> = {}) =>
  gateway.call('GET', `/api/v1${path}`, { key, headers });
const addFresh = async (key = acme.key): Promise<{ id: string; domain: string }> =>
  (await add(freshName(), key)).body.data;

/** Gives the error of an answer, and expects the fields that every error has. */
function errorOf(answer: Answer): Body['error'] {
  expect(Object.keys(answer.body)).toEqual(['ok', 'error', 'meta']);
  expect(answer.body).toMatchObject({ ok: false, meta: { request_id: answer.headers.get('x-request-id') } });
  expect(answer.headers.get('x-request-id')).toBeTruthy();
  const retry = answer.headers.get('retry-after');
  if (retry !== null) expect(Number(retry)).toBeGreaterThan(0);
  if (retry !== null) expect(answer.body.error.retryable).toBe(true);
  return answer.body.error;
}

describe('the answers of the product guide, field for field', () => {
  const guideAdded = {
    ok: true,
    data: {
      id: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
      domain: 'mail.acme.com',
      verification_status: 'pending',
      ses_dkim_status: 'pending',
      verified_at: null,
      created_at: '2026-04-15T10:00:00Z',
      dns_records: {
        mx: [{ priority: 10, target: 'mail.sendmux.ai' }],
        spf: { name: 'mail.acme.com', value: 'v=spf1 include:amazonses.com include:sendmux.ai ~all' },
        dmarc: { name: '_dmarc.mail.acme.com', value: 'v=DMARC1; p=quarantine' },
        dkim: [
          { name: 'token1._domainkey.mail.acme.com', value: 'token1.dkim.amazonses.com' },
          { name: 'token2._domainkey.mail.acme.com', value: 'token2.dkim.amazonses.com' },
          { name: 'token3._domainkey.mail.acme.com', value: 'token3.dkim.amazonses.com' },
        ],
        verification: { name: '_sendmux.mail.acme.com', value: 'sendmux-verify=team_abc123' },
      },
    },
    meta: { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' },
  };
  const guideVerified = {
    status: 'verified',
    ses_dkim_status: 'success',
    checks: { mx: true, verification_txt: true, spf: true, dmarc: true },
  };
  /** What the answer to a verification says of SES beside the guide. */
  const addedFields = /^ses_(mail_from|identity|verified_for|dkim_signing)_/;
  /**
   * Masks ids, the team's token and times, so that the answer can be compared with the guide's as text, in the same
   * order. Removes `host`, `mail_from` and what follows, which the guide does not have.
   */
  const masked = (text: string) =>
    text
      .replace(/,"host":"[^"]+"/g, '')
      .replace(/,"mail_from":\{"mx":\{[^{}]+\},"spf":\{[^{}]+\}\}/, '')
      .replace(/,"mode":"send_receive","mailbox_count":0,.*,"outbound_provider":null,"deleting":false/, '')
      .replace(/(mdom|req)_cl[0-9a-z]{25}"/g, '$1_clxxxxxxxxxxxxxxxxxxxxxxxxx"')
      .replace(/sendmux-verify=team_[0-9a-z]{10}"/, 'sendmux-verify=team_abc123"')
      .replace(/"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"/g, '"created_at":"2026-04-15T10:00:00Z"');

  it('adds, reads, lists, verifies and deletes', async () => {
    const added = await add('mail.acme.com');
    expect(added.status).toBe(201);
    expect(masked(added.text)).toBe(JSON.stringify(guideAdded));
    const { id } = added.body.data;
    expect(added.headers.get('location')).toBe(`/api/v1/domains/${id}`);

    const read = await get(`/domains/${id}`);
    expect(masked(read.text)).toBe(JSON.stringify(guideAdded));
    expect(read.headers.get('etag')).toBe(added.headers.get('etag'));
    // Nothing looks here, so the next look is due, and its time is that of each answer.
    const next_check_at = expect.any(String) as string;
    expect((await get('/domains')).body.data).toEqual([{ ...read.body.data, next_check_at }]);

    const verified = await gateway.call('POST', `/api/v1/domains/${id}/verify`, { key: acme.key });
    expect(verified.status).toBe(200);
    const { checked_at, retry_at, dnssec, details, ...fields } = verified.body.data;
    const guided = Object.fromEntries(Object.entries(fields).filter(([field]) => !addedFields.test(field)));
    expect(Math.abs(Date.parse(checked_at) - Date.now())).toBeLessThan(60_000);
    expect({ retry_at, dnssec }).toEqual({ retry_at: null, dnssec: null });
    const { mail_from_mx, mail_from_spf, ...checks } = fields.checks;
    expect([mail_from_mx, mail_from_spf]).toEqual([true, true]);
    expect(JSON.stringify({ ...guided, checks })).toBe(JSON.stringify(guideVerified));
    expect(details.map(({ check }) => check)).toEqual([...checkNames]);
    expect((await get(`/domains/${id}`)).body.data).toMatchObject({
      verification_status: 'verified',
      ses_dkim_status: 'success',
      verified_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string,
    });

    const deleted = await gateway.call('DELETE', `/api/v1/domains/${id}`, { key: acme.key });
    expect(deleted).toMatchObject({ status: 200, body: { ok: true, data: { deleted: true, id } } });
    expect(deleted.body.data.records_to_remove).toHaveLength(9);
    expect(deleted.body.data.records_to_remove[0]).toEqual({
      type: 'MX',
      name: 'mail.acme.com',
      value: '10 mail.sendmux.ai',
    });
    expect((await get(`/domains/${id}`)).status).toBe(404);
  });
});

describe('A. names', () => {
  const accepted: [string, string, string, string?][] = [
    ['A1', 'a1.acme.com', 'a1.acme.com'],
    ['A2', 'A2.Mail.ACME.com', 'a2.mail.acme.com'],
    ['A3', 'a3.acme.com.', 'a3.acme.com'],
    ['A8', 'münchen.example.de', 'xn--mnchen-3ya.example.de', 'münchen.example.de'],
    ['A21', 'mail.nobody-has-registered-this.com', 'mail.nobody-has-registered-this.com'],
  ];
  it.each(accepted.map(([row, ...rest]) => [row, rest] as const))('%s %j is added', async (_row, rest) => {
    const [sent, domain, unicode] = rest;
    const { status, body } = await add(sent);
    expect(status).toBe(201);
    expect(body.data).toMatchObject({ domain, verification_status: 'pending', dns_records: { spf: { name: domain } } });
    expect(body.data.domain_unicode).toBe(unicode);
    if (unicode) expect(Object.keys(body.data).indexOf('domain_unicode')).toBe(2);
  });

  it('A2 is the same domain in any case', async () => {
    expect((await add('a1.ACME.com.')).status).toBe(409);
  });

  const refused: [string, unknown, number, string, string, string?][] = [
    ['A4', 'https://mail.acme.com/x', 400, 'invalid_parameter', 'Send the hostname only: mail.acme.com'],
    ['A5', 'ada@acme.com', 400, 'invalid_parameter', 'did you mean acme.com?'],
    ['A6', 'acme', 400, 'invalid_parameter', 'not fully qualified'],
    ['A6', 'localhost', 400, 'invalid_parameter', 'not fully qualified'],
    ['A7', '192.0.2.1', 400, 'invalid_parameter', 'IP address'],
    ['A7', '[::1]', 400, 'invalid_parameter', 'IP address'],
    ['A7', '1.2.3.4.', 400, 'invalid_parameter', 'IP address'],
    ['A10', 'xn--a.com', 400, 'invalid_parameter', 'IDNA2008', 'idna_invalid'],
    ['A11', 'аcme.com', 422, 'validation_error', 'mixes scripts', 'domain_confusable'],
    ['A12', `${'a'.repeat(64)}.com`, 400, 'invalid_parameter', '63 is the most'],
    ['A12', `${'abcdefghi.'.repeat(26)}com`, 400, 'invalid_parameter', '253 is the most'],
    ['A14', '_foo.acme.com', 400, 'invalid_parameter', '"_foo"'],
    ['A14', '-a.com', 400, 'invalid_parameter', '"-a"'],
    ['A14', 'a-.com', 400, 'invalid_parameter', '"a-"'],
    ['A14', 'a..com', 400, 'invalid_parameter', 'empty label'],
    ['A14', 'a b.com', 400, 'invalid_parameter', 'white space'],
    ['A15', 'com', 422, 'validation_error', 'public suffix', 'public_suffix'],
    ['A15', 'co.uk', 422, 'validation_error', 'public suffix', 'public_suffix'],
    ['A16', 'github.io', 422, 'validation_error', 'public suffix', 'public_suffix'],
    ['A18', 'sendmux.ai', 422, 'validation_error', 'reserved', 'domain_reserved'],
    ['A18', 'x.myagent.mx', 422, 'validation_error', 'reserved', 'domain_reserved'],
    ['A18', 'amazonses.com', 422, 'validation_error', 'reserved', 'domain_reserved'],
    ['A18', 'gmail.com', 422, 'validation_error', 'reserved', 'domain_reserved'],
    ...['local', 'test', 'example', 'invalid', 'onion', 'arpa', 'internal'].map(
      (top): [string, string, number, string, string, string] => [
        ...(['A19', `foo.${top}`, 422, 'validation_error', 'public DNS', 'special_use'] as const),
      ],
    ),
    ['A20', '*.acme.com', 400, 'invalid_parameter', 'add each subdomain'],
    ['A22', undefined, 400, 'missing_parameter', '"domain" is missing'],
    ['A22', null, 400, 'invalid_parameter', 'null is not allowed: "domain" must be a string'],
    ['A22', 42, 400, 'invalid_parameter', 'must be a string'],
    ['A22', ['mail.acme.com'], 400, 'invalid_parameter', 'must be a string'],
    ['A22', { toString: 'mail.acme.com' }, 400, 'invalid_parameter', 'must be a string'],
    ['A22', '', 400, 'invalid_parameter', '1 to 1000'],
    ['A22', 'a'.repeat(1001), 400, 'invalid_parameter', '1 to 1000'],
  ];
  it.each(refused.map(([row, ...rest]) => [row, rest] as const))('%s %j is refused', async (_row, rest) => {
    const [domain, status, code, hint, reason] = rest;
    const answer = await add(domain);
    const error = errorOf(answer);
    expect([answer.status, error.code, error.param, error.retryable]).toEqual([status, code, 'domain', false]);
    expect(error.message.toLowerCase()).toContain(hint.toLowerCase());
    if (reason) expect(error.errors).toMatchObject([{ code: reason, param: 'domain' }]);
  });

  it('A22 an unknown field is refused by its name', async () => {
    const body = { domain: 'a22.acme.com', provider: 'ses' };
    const error = errorOf(await gateway.call('POST', '/api/v1/domains', { key: acme.key, body }));
    expect(error).toMatchObject({ code: 'invalid_parameter', param: 'provider' });
  });

  it.each([
    '[]',
    '"a22.acme.com"',
    '42',
    'null',
    '[{"domain":"a22.acme.com"}]',
    '{"__proto__":{"domain":"x"}}',
    '{',
    '',
  ])('A22 a body of %s is refused', async (body) => {
    const answer = await gateway.call('POST', '/api/v1/domains', { key: acme.key, body });
    expect(answer.status).toBe(400);
    expect(['invalid_parameter', 'missing_parameter']).toContain(errorOf(answer).code);
  });
});

describe('keys and permissions', () => {
  const operations = [
    ['POST', '/domains', 'domain.create'],
    ['GET', '/domains', 'domain.read'],
    ['GET', '/domains/ID', 'domain.read'],
    ['POST', '/domains/ID/verify', 'domain.verify'],
    ['DELETE', '/domains/ID', 'domain.delete'],
  ] as const;
  const body = (method: string, path: string) =>
    method === 'POST' && path === '/domains' ? { domain: freshName() } : undefined;

  it.each(operations)('%s %s needs a key that is known and not revoked', async (method, path) => {
    const { id: revoked, key } = await gateway.key();
    await gateway.accounts.revokeKey(revoked);
    for (const authorization of ['', 'Bearer', 'Basic YTpi', 'Bearer smx_root_x', `Bearer ${key}`, `bearer ${key}x`]) {
      const answer = await gateway.call(method, `/api/v1${path}`, {
        body: body(method, path),
        headers: authorization === '' ? {} : { authorization },
      });
      expect(answer.status).toBe(401);
      expect(errorOf(answer).code).toBe('authentication_required');
      expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer /);
      expect(answer.text).not.toContain(key);
    }
  });

  it.each(operations)('I17 %s %s needs %s', async (method, path, permission) => {
    const own = await gateway.key();
    const call = async (permissions: string[], role?: string) => {
      const { id } = await addFresh(own.key);
      const { key } = await gateway.accounts.createKey(own.team, role ? { role } : { permissions });
      return gateway.call(method, `/api/v1${path.replace('ID', id)}`, { key, body: body(method, path) });
    };
    const all = operations.map(([, , one]) => one);
    const lacking = await call(all.filter((one) => one !== permission));
    expect(lacking.status).toBe(403);
    expect(errorOf(lacking)).toMatchObject({
      code: 'insufficient_permissions',
      message: expect.stringContaining(permission) as string,
    });
    expect((await call([permission])).status).toBeLessThan(300);
    expect((await call(['domain.*'])).status).toBeLessThan(300);
    expect((await call([], 'root:full')).status).toBeLessThan(300);
    expect((await call([], 'root:readonly')).status).toBe(permission === 'domain.read' ? 200 : 403);
  });

  it('I16 says of another team’s domain, and of any other id, that there is none', async () => {
    const { id } = await addFresh(other.key);
    const messages = new Set<string>();
    for (const some of [id, newId('mdom'), 'mdom_x', '..', '%00', "' OR 1=1"])
      for (const [method, path] of operations.slice(2)) {
        const url = `/api/v1${path.replace('ID', encodeURIComponent(some))}`;
        const answer = await gateway.call(method, url, { key: acme.key });
        expect(answer.status).toBe(404);
        messages.add(
          errorOf(answer)
            .message.replace(some, 'ID')
            .replace(/There is nothing.*/, 'There is no domain ID.'),
        );
      }
    expect([...messages]).toEqual(['There is no domain ID.']);
    expect((await get(`/domains/${id}`, other.key)).body.data.verification_status).toBe('pending');
  });

  it('I16 says so where the stream of the domain cannot be read as well', async () => {
    const { id } = await addFresh(other.key);
    const pool = openPool(database.url, 1);
    const newer = { type: 'DomainPolished', schemaVersion: 1, time: new Date().toISOString(), data: {} };
    const metadata = { actor: 'a newer release', correlationId: id };
    await new EventStore(pool).append({ stream: id, expectedVersion: 2, events: [newer], metadata });
    await pool.end();
    const remove = (key: string) => gateway.call('DELETE', `/api/v1/domains/${id}`, { key });
    expect((await remove(other.key)).status).toBeGreaterThanOrEqual(500);
    expect((await remove(acme.key)).status).toBe(404);
  });
});

describe('one name, one domain', () => {
  it('I1 tells the own team which domain has the name', async () => {
    const { id, domain } = await addFresh();
    const answer = await add(domain);
    expect(answer.status).toBe(409);
    expect(errorOf(answer)).toMatchObject({ code: 'conflict', retryable: false, param: 'domain' });
    expect(errorOf(answer).message).toContain(id);
  });

  it('I5 does not tell another team who has the name', async () => {
    const { id, domain } = await addFresh();
    const answer = await add(domain, other.key);
    expect(answer.status).toBe(409);
    expect(answer.text).not.toContain(id);
    expect(answer.text).not.toContain(acme.team);
  });

  it('J8 frees the name after the deletion, for a domain with a new id', async () => {
    const { id, domain } = await addFresh();
    await gateway.call('DELETE', `/api/v1/domains/${id}`, { key: acme.key });
    const again = await add(domain, other.key);
    expect(again.status).toBe(201);
    expect(again.body.data.id).not.toBe(id);
  });

  it('lets exactly one of two teams win, two hundred times', async () => {
    for (let round = 0; round < 200; round++) {
      const name = `race${round}.acme.com`;
      const answers = await Promise.all([add(name, acme.key), add(name, other.key)]);
      expect(answers.map(({ status }) => status).sort()).toEqual([201, 409]);
    }
  });
});

/** Adds until the rollback of an earlier add has freed the name. */
async function onceFree(adding: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await adding();
    if (answer.status !== 409) return answer;
    await delay(20);
  }
}

describe('provisioning', () => {
  it.each([
    [502, 'refused', false, 'provisioning_failed', false, 'refused'],
    [502, 'foreign', false, 'provisioning_failed', false, 'foreign'],
    [504, 'deadline', false, 'provisioning_timeout', true, 'deadline'],
    [503, 'refused', true, 'service_unavailable', true, 'unavailable'],
  ] as const)(
    'answers %i when it ended with %s (P1: our fault: %s), and the name is free again',
    async (status, kind, isOurs, code, retryable, finer) => {
      const name = freshName();
      gateway.plans.set(name, { step: 'ses', kind, isOurs, reason: 'SES has not got it.' });
      const answer = await add(name);
      expect(answer.status).toBe(status);
      expect(errorOf(answer)).toMatchObject({
        code,
        retryable,
        errors: [{ code: `ses_${finer}`, message: 'SES has not got it.' }],
      });
      if (retryable) expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      // The rollback is still under way at that moment.
      expect(errorOf(answer).message).toMatch(/all of it is being rolled back: SES has not got it\.$/);
      gateway.plans.delete(name);
      expect((await onceFree(() => add(name, other.key))).status).toBe(201);
    },
  );

  it('P1: shows no text of SES from an event of an earlier release, in the answer or in the history', async () => {
    const name = freshName();
    const reason = 'SES: User: arn:aws:iam::123456789012:user/x is not authorized';
    gateway.plans.set(name, { step: 'ses', kind: 'refused', reason });
    const answer = await add(name);
    const pool = openPool(database.url, 1);
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM domains WHERE name = $1', [name]);
    await pool.end();
    const history = await get(`/domains/${rows[0]!.id}/history`);
    expect([answer.status, history.status]).toEqual([502, 200]);
    for (const { text } of [answer, history]) {
      expect(text).toContain('Amazon SES refused it.');
      expect(text).not.toMatch(/arn:|123456789012|authorized/);
    }
  });

  it('says that a rollback is under way', async () => {
    const name = freshName();
    gateway.kept.add(name);
    gateway.plans.set(name, { step: 'ses', kind: 'refused', reason: 'no' });
    await add(name);
    for (const key of [acme.key, other.key]) {
      const answer = await add(name, key);
      expect(answer.status).toBe(409);
      expect(errorOf(answer)).toMatchObject({ code: 'conflict', retryable: true });
      expect(errorOf(answer).message).toContain('rolled back');
      expect(answer.headers.get('retry-after')).toBe('5');
    }
  });

  it('R12: shows nobody a domain that is not provisioned, and names no id of it', async () => {
    const name = freshName();
    gateway.plans.set(name, 'ignore');
    const { key, team } = await gateway.key();
    const id = newId('mdom');
    const context = { at: new Date().toISOString(), actor: 'test', correlationId: 'test' };
    await gateway.execute(new AddDomain(id, { name, team, deadline: context.at }, context));
    expect((await get('/domains', key)).body.data).toEqual([]);
    expect((await get(`/domains/${id}`, key)).status).toBe(404);
    // R12: nor does it name an id that cannot be read yet.
    const answer = await add(name, key);
    expect(errorOf(answer)).toMatchObject({ code: 'conflict', retryable: true });
    expect(answer.headers.get('retry-after')).toBe('5');
    expect(answer.text).not.toContain(id);
  });
});

describe('with a short deadline', () => {
  let short: TestGateway;
  let key: string;
  beforeAll(async () => {
    short = await startGateway(database.url, { PROVISIONING_DEADLINE: 300 });
    key = (await short.key()).key;
  });
  afterAll(() => short.close());

  it('ends the provisioning itself after the deadline, and answers 504', async () => {
    const name = freshName();
    gateway.plans.set(name, 'ignore');
    short.plans.set(name, 'ignore');
    const answer = await short.call('POST', '/api/v1/domains', { key, body: { domain: name } });
    expect(answer.status).toBe(504);
    expect(errorOf(answer)).toMatchObject({ code: 'provisioning_timeout', retryable: true });
    // The actor of the event is the gateway and not an API key.
    const pool = new Pool({ connectionString: database.url });
    const { rows } = await pool.query(
      `SELECT metadata->>'actor' AS actor FROM events JOIN domains ON id = stream WHERE name = $1 AND type = 'ProvisioningFailed'`,
      [name],
    );
    await pool.end();
    expect(rows).toEqual([{ actor: 'gateway' }]);
    gateway.plans.delete(name);
    short.plans.delete(name);
    const again = () => short.call('POST', '/api/v1/domains', { key, body: { domain: name } });
    expect((await onceFree(again)).status).toBe(201);
  });

  it('reads the outcome from the stream when it receives no event', async () => {
    const name = freshName();
    gateway.plans.set(name, 'ignore');
    short.plans.set(name, 'ignore');
    const pool = new Pool({ connectionString: database.url });
    const posting = short.call('POST', '/api/v1/domains', { key, body: { domain: name } });
    await delay(100);
    // Another process provisions the domain while this gateway receives no events from the log.
    const outcomes = short.app.get<unknown, { deliver(): void }>(Outcomes);
    const deliver = jest.spyOn(outcomes, 'deliver').mockReturnValue();
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM domains WHERE name = $1', [name]);
    await pool.end();
    await gateway.provision(rows[0]!.id);
    const answer = await posting;
    deliver.mockRestore();
    expect(answer.status).toBe(201);
    expect(answer.body.data.id).toBe(rows[0]!.id);
  });
});
