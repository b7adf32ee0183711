import { openPool } from '@app/database';
import { EventLog } from '@app/event-store';
import { newId } from '@app/runtime';
import { resealWebhooks, SecretKeys, WebhookDeliveries } from '@app/webhooks';
import type { Pool } from 'pg';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import type { DeliverySchema } from './webhooks/deliveries.dto';
import type { ReplaySchema } from './webhooks/replays.dto';
import type { NewWebhookSchema } from './webhooks/webhooks.dto';

let database: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  pool = openPool(database.url, 4);
});
afterAll(async () => {
  await gateway?.close();
  await pool?.end();
  await database?.drop();
});

type Team = Awaited<ReturnType<TestGateway['key']>>;
const base = '/api/v1/webhooks';
const url = 'https://hooks.acme.com/sendmux';

const callOf =
  (gate: TestGateway) =>
  ({ key }: Pick<Team, 'key'>, method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
    gate.call(method, `${base}${path}`, { key, body, headers });
const call = (...args: Parameters<ReturnType<typeof callOf>>) => callOf(gateway)(...args);
const create = (team: Team, body: object = {}, headers?: Record<string, string>) =>
  call(team, 'POST', '', { url, ...body }, headers);
const dataOf = ({ body }: Answer) => body.data as unknown as NewWebhookSchema;

/** A team with a webhook. */
async function given(body: object = {}) {
  const team = await gateway.key();
  const answer = await create(team, body);
  expect(answer.status).toBe(201);
  const { id, secret } = dataOf(answer);
  return { team, id, secret, etag: answer.headers.get('etag')! };
}

let names = 0;
async function domainOf(team: Team): Promise<string> {
  const body = { domain: `w${(names += 1)}.example.com` };
  return (await gateway.call('POST', '/api/v1/domains', { key: team.key, body })).body.data.id;
}

describe('creating a webhook', () => {
  it('answers 201 with its secret, where it is, and all that was chosen of it', async () => {
    const team = await gateway.key();
    const domain = await domainOf(team);
    const body = { event_types: ['domain.verified', 'mailbox.created'], domains: [domain], description: 'CRM' };
    const answer = await create(team, { ...body, enabled: false });
    const { secret, ...webhook } = dataOf(answer);
    expect(answer.status).toBe(201);
    expect(webhook).toMatchObject({
      ...body,
      url,
      name: 'CRM',
      enabled: false,
      failing: false,
      disabled_reason: null,
      old_secret_expires_at: null,
    });
    expect(webhook.updated_at).toBe(webhook.created_at);
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(answer.headers.get('location')).toBe(`${base}/${webhook.id}`);
    const found = await call(team, 'GET', `/${webhook.id}`);
    expect([found.status, found.body.data]).toEqual([200, webhook]);
    expect(found.headers.get('etag')).toBe(answer.headers.get('etag'));
  });

  it('takes all types and domains where nothing is chosen, and what public clients send', async () => {
    const { team } = await given();
    expect(dataOf(await create(team))).toMatchObject({ event_types: ['*'], domains: null, enabled: true, name: null });
    const theirs = { event_types: ['sendmux.test'], name: 'Tests', filters: { mailbox_ids: [] } };
    expect(dataOf(await create(team, theirs))).toMatchObject({ ...theirs, description: 'Tests' });
  });

  it('gets what is recorded from then on', async () => {
    const { team, id } = await given();
    const positions = await pool.query<{ at: number; head: number }>(
      'SELECT from_position::float8 AS at, (SELECT max(position)::float8 FROM events) AS head FROM webhooks WHERE id = $1',
      [id],
    );
    const { at, head } = positions.rows[0]!;
    expect(at).toBeGreaterThanOrEqual(head);
    await domainOf(team);
    const log = new EventLog(pool);
    expect((await log.read({ after: at, limit: 10 })).events[0]?.type).toBe('DomainAdded');
    await log.close();
  });

  it.each([
    [{ url: undefined }, 400, 'missing_parameter', 'url'],
    [{ url: '' }, 400, 'invalid_parameter', 'url'],
    [{ url: 'http://hooks.acme.com' }, 422, 'validation_error', 'url'],
    [{ url: 'https://10.0.0.1/' }, 422, 'validation_error', 'url'],
    [{ url: 'https://[::ffff:169.254.169.254]/' }, 422, 'validation_error', 'url'],
    [{ url: 'https://ada:secret@hooks.acme.com/' }, 422, 'validation_error', 'url'],
    [{ url: 'https://hooks.acme.com:25/' }, 422, 'validation_error', 'url'],
    [{ url: 'https://localhost/' }, 422, 'validation_error', 'url'],
    [{ event_types: [] }, 400, 'invalid_parameter', 'event_types'],
    [{ event_types: ['message.bounced'] }, 400, 'invalid_parameter', 'event_types'],
    [{ event_types: ['*', 'domain.verified'] }, 400, 'invalid_parameter', 'event_types'],
    [{ event_types: ['domain.verified', 'domain.verified'] }, 400, 'invalid_parameter', 'event_types'],
    [{ event_types: null }, 400, 'invalid_parameter', 'event_types'],
    [{ domains: [] }, 400, 'invalid_parameter', 'domains'],
    [{ domains: ['mail.acme.com'] }, 400, 'invalid_parameter', 'domains'],
    [{ domains: [newId('mdom')] }, 404, 'not_found', 'domains'],
    [{ description: '' }, 400, 'invalid_parameter', 'description'],
    [{ description: 'a\0b' }, 400, 'invalid_parameter', 'description'],
    [{ description: 'CRM', name: 'ERP' }, 400, 'invalid_parameter', 'name'],
    [{ filters: { mailbox_ids: ['mbx_1'] } }, 400, 'invalid_parameter', 'filters.mailbox_ids'],
    [{ enabled: 'yes' }, 400, 'invalid_parameter', 'enabled'],
    [{ secret: 'whsec_mine' }, 400, 'invalid_parameter', 'secret'],
  ])('refuses %j with %i %s of %s', async (body, status, code, param) => {
    const team = await gateway.key();
    const answer = await create(team, body);
    expect([answer.status, answer.body.error.code, answer.body.error.param]).toEqual([status, code, param]);
    expect((await call(team, 'GET', '')).body.data).toEqual([]);
  });

  it('says which domains are not the team’s, in the words for one that is not there', async () => {
    const [team, other] = [await gateway.key(), await gateway.key()];
    const [own, foreign] = [await domainOf(team), await domainOf(other)];
    const { status, body } = await create(team, { domains: [own, foreign] });
    expect(status).toBe(404);
    expect(body.error.errors).toContainEqual({
      code: 'not_found',
      field: 'domains.1',
      param: 'domains.1',
      message: `There is no domain ${foreign}.`,
    });
  });

  it('does so once for each Idempotency-Key, and gives the same secret again', async () => {
    const team = await gateway.key();
    const [first, again] = [
      await create(team, {}, { 'idempotency-key': 'one' }),
      await create(team, {}, { 'idempotency-key': 'one' }),
    ];
    expect(again.body.data).toEqual(first.body.data);
    expect(dataOf(again).secret).toMatch(/^whsec_/);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect((await call(team, 'GET', '')).body.data).toHaveLength(1);
    const other = await create(team, { description: 'CRM' }, { 'idempotency-key': 'one' });
    expect([other.status, other.body.error.code]).toEqual([409, 'idempotency_conflict']);
  });

  it('gives the secret once more that a process has made which died before it could answer', async () => {
    const { team, id, secret } = await given();
    const body = { url };
    // What such a process leaves: a claim whose time is over, with the id of what it has created.
    await create(team, {}, { 'idempotency-key': 'dead' });
    await pool.query(
      `UPDATE idempotency_keys SET status = NULL, response = NULL, etag = NULL, claimed_until = now(), created_id = $2
        WHERE team = $1 AND key = 'createWebhook dead'`,
      [team.team, id],
    );
    const again = await call(team, 'POST', '', body, { 'idempotency-key': 'dead' });
    expect([again.status, dataOf(again).id, dataOf(again).secret]).toEqual([201, id, secret]);
  });
});

describe('the quota of a team', () => {
  it('is held however many are created at once, and the error says how many there are and may be', async () => {
    const small = await startGateway(database.url, { MAX_WEBHOOKS_PER_TEAM: 2 });
    try {
      const team = await small.key();
      const answers = await Promise.all(Array.from({ length: 6 }, () => callOf(small)(team, 'POST', '', { url })));
      expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 409, 409, 409, 409]);
      for (const { status, body } of answers)
        if (status === 409) expect(body.error).toMatchObject({ code: 'limit_exceeded', current: 2, limit: 2 });
    } finally {
      await small.close();
    }
  });
});

describe('an installation without keys for secrets', () => {
  it('refuses what makes a secret without a word of its settings, and does all else', async () => {
    const { team, id } = await given();
    const without = await startGateway(database.url, { WEBHOOK_SECRET_KEYS: undefined });
    try {
      const at = callOf(without);
      for (const answer of [
        await at(team, 'POST', '', { url }, { 'idempotency-key': 'later' }),
        await at(team, 'POST', `/${id}/rotate-secret`),
      ]) {
        expect([answer.status, answer.body.error.code]).toEqual([503, 'service_unavailable']);
        expect(answer.body.error.message).toContain('Ask support');
        expect(answer.body.error.message).not.toContain('WEBHOOK_SECRET_KEYS');
      }
      expect((await at(team, 'GET', '')).body.data).toHaveLength(1);
      expect((await at(team, 'PATCH', `/${id}`, { enabled: false })).status).toBe(200);
      expect((await at(team, 'DELETE', `/${id}`)).status).toBe(200);
    } finally {
      await without.close();
    }
    // The key of the request that was refused is free.
    expect((await create(team, {}, { 'idempotency-key': 'later' })).status).toBe(201);
  });
});

describe('the webhooks of a team', () => {
  it('are listed page by page, the newest first', async () => {
    const team = await gateway.key();
    const ids: string[] = [];
    for (let left = 5; left > 0; left--) ids.unshift(dataOf(await create(team)).id);
    const seen: string[] = [];
    for (let query = '?limit=2'; ;) {
      const { body } = await call(team, 'GET', query);
      const page = body.data as unknown as NewWebhookSchema[];
      for (const webhook of page) expect(webhook).not.toHaveProperty('secret');
      seen.push(...page.map(({ id }) => id));
      if (!body.pagination.has_more) break;
      query = `?limit=2&cursor=${body.pagination.next_cursor}`;
    }
    expect(seen).toEqual(ids);
    expect((await call(team, 'GET', '?cursor=x')).status).toBe(400);
  });
});

describe('changing a webhook', () => {
  it('changes what is sent, and leaves the rest', async () => {
    const { team, id, etag } = await given({ description: 'CRM' });
    const changed = await call(team, 'PATCH', `/${id}`, { event_types: ['domain.failed'] }, { 'if-match': etag });
    expect(changed.status).toBe(200);
    expect(dataOf(changed)).toMatchObject({ event_types: ['domain.failed'], description: 'CRM', url });
    const next = changed.headers.get('etag')!;
    expect(next).not.toBe(etag);
    expect((await call(team, 'GET', `/${id}`, undefined, { 'if-none-match': next })).status).toBe(304);
    const back = { event_types: ['*'], domains: null, description: null, url: 'https://Hooks.Acme.COM' };
    expect(dataOf(await call(team, 'PATCH', `/${id}`, back))).toMatchObject({
      ...back,
      url: 'https://hooks.acme.com/',
    });
    const same = await call(team, 'PATCH', `/${id}`, back);
    expect(same.headers.get('etag')).toBe((await call(team, 'PATCH', `/${id}`, {})).headers.get('etag'));
  });

  it('is refused to whoever has not seen the version, and changes nothing then', async () => {
    const { team, id, etag } = await given();
    await call(team, 'PATCH', `/${id}`, { enabled: false });
    const stale = { 'if-match': etag };
    const refused = await call(team, 'PATCH', `/${id}`, { enabled: true }, stale);
    expect([refused.status, refused.body.error.code, refused.body.error.param]).toEqual([409, 'conflict', 'If-Match']);
    expect((await call(team, 'DELETE', `/${id}`, undefined, stale)).status).toBe(412);
    expect(dataOf(await call(team, 'GET', `/${id}`))).toMatchObject({ enabled: false });
  });

  it('of which one is not possible is refused as a whole', async () => {
    const { team, id } = await given();
    const refused = await call(team, 'PATCH', `/${id}`, { description: 'CRM', url: 'https://127.0.0.1/' });
    expect([refused.status, refused.body.error.param]).toEqual([422, 'url']);
    expect(dataOf(await call(team, 'GET', `/${id}`))).toMatchObject({ description: null, url });
    expect((await call(team, 'PATCH', `/${id}`, { url: null })).status).toBe(400);
  });

  it('enables one again that we have disabled', async () => {
    const { team, id } = await given();
    await pool.query(
      "UPDATE webhooks SET enabled = false, disabled_because = 'gone', failing_since = now() WHERE id = $1",
      [id],
    );
    expect(dataOf(await call(team, 'GET', `/${id}`))).toMatchObject({
      enabled: false,
      disabled_reason: 'gone',
      failing: true,
    });
    expect(dataOf(await call(team, 'PATCH', `/${id}`, { enabled: true }))).toMatchObject({
      enabled: true,
      disabled_reason: null,
      failing: false,
    });
  });
});

describe('deleting a webhook', () => {
  it('removes it, and a second time there is none', async () => {
    const { team, id } = await given();
    const gone = await call(team, 'DELETE', `/${id}`);
    expect([gone.status, gone.body.data]).toEqual([200, { deleted: true, id }]);
    for (const method of ['GET', 'DELETE']) expect((await call(team, method, `/${id}`)).status).toBe(404);
  });
});

describe('rotating a secret', () => {
  const rotate = (team: Team, id: string, body?: object, headers?: Record<string, string>) =>
    call(team, 'POST', `/${id}/rotate-secret`, body, headers);

  it('gives a new one, and says until when the old one signs', async () => {
    const { team, id, secret } = await given();
    const rotated = await rotate(team, id);
    const { secret: next, old_secret_expires_at: until } = dataOf(rotated);
    expect(rotated.status).toBe(200);
    expect(next).toMatch(/^whsec_/);
    expect(next).not.toBe(secret);
    expect(Math.abs(Date.parse(until!) - Date.now() - 86_400_000)).toBeLessThan(60_000);
    expect(dataOf(await call(team, 'GET', `/${id}`)).old_secret_expires_at).toBe(until);
    expect(dataOf(await rotate(team, id, { overlap_seconds: 0 })).old_secret_expires_at).toBeNull();
    for (const overlap_seconds of [-1, 604_801, 1.5, '60', null])
      expect((await rotate(team, id, { overlap_seconds })).body.error).toMatchObject({
        code: 'invalid_parameter',
        param: 'overlap_seconds',
      });
  });

  it('is done once for each Idempotency-Key, and that key is of one webhook', async () => {
    const { team, id } = await given();
    const header = { 'idempotency-key': 'rotation' };
    const [first, again] = [await rotate(team, id, undefined, header), await rotate(team, id, undefined, header)];
    expect(again.body.data).toEqual(first.body.data);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    const other = dataOf(await create(team)).id;
    expect((await rotate(team, other, undefined, header)).body.error.code).toBe('idempotency_conflict');
  });
});

/** A webhook of a team with a domain, to which a message about that domain was put on, as the app webhooks does. */
async function delivered() {
  const { team, id } = await given();
  const domain = await domainOf(team);
  const message = `${domain}/2`;
  await new WebhookDeliveries(pool).enqueue({
    team: team.team,
    domain,
    message,
    type: 'domain.created',
    subject: domain,
    version: 2,
    position: 1e9,
    occurredAt: new Date().toISOString(),
  });
  const [delivery] = (await deliveriesOf(team, id)) as [DeliverySchema];
  return { team, id, domain, message, delivery };
}
const deliveriesOf = async (team: Team, id: string, query = '') =>
  (await call(team, 'GET', `/${id}/deliveries${query}`)).body.data as unknown as DeliverySchema[];
/** Has a delivery have ended, as the app webhooks writes it. */
const end = (id: string, status: 'delivered' | 'failed') =>
  pool.query(
    `WITH q AS (DELETE FROM webhook_queues q USING webhook_deliveries d
        WHERE d.id = $1 AND q.webhook = d.webhook AND q.subject = d.subject)
      UPDATE webhook_deliveries SET status = $2, tries = 1, tried_at = now(), duration_ms = 184,
        response_status = 200, response = '\\x6f6bff' WHERE id = $1`,
    [id, status],
  );

describe('testing a webhook', () => {
  it('puts a test on, whatever types it has chosen, under the id that is answered', async () => {
    const { team, id } = await given({ event_types: ['domain.deleted'] });
    const tested = await call(team, 'POST', `/${id}/test`);
    expect(tested.status).toBe(200);
    const { event_id: event } = tested.body.data as unknown as { event_id: string };
    expect(event).toMatch(/^msg_cl[0-9a-z]{25}$/);
    const [test] = await deliveriesOf(team, id);
    expect(test).toMatchObject({
      event_id: event,
      event_type: 'sendmux.test',
      lane: 'requested',
      result: 'retrying',
      delivery_attempt: 0,
      max_attempts: 9,
      attempted_at: null,
      response_status: null,
      payload_available: true,
    });
    const payload = await call(team, 'GET', `/${id}/deliveries/${test!.id}/payload`);
    expect((payload.body.data as unknown as { payload: object }).payload).toMatchObject({
      id: event,
      type: 'sendmux.test',
      data: { team: team.team, webhook: id },
    });
  });

  it('is done once for each Idempotency-Key', async () => {
    const { team, id } = await given();
    const test = () => call(team, 'POST', `/${id}/test`, undefined, { 'idempotency-key': 'test' });
    expect((await test()).body.data).toEqual((await test()).body.data);
    expect(await deliveriesOf(team, id)).toHaveLength(1);
    const other = dataOf(await create(team)).id;
    const refused = await call(team, 'POST', `/${other}/test`, undefined, { 'idempotency-key': 'test' });
    expect(refused.body.error.code).toBe('idempotency_conflict');
  });

  it('is refused for one that is disabled, and nothing is put on', async () => {
    const { team, id } = await given({ enabled: false });
    const refused = await call(team, 'POST', `/${id}/test`);
    expect([refused.status, refused.body.error.code]).toEqual([409, 'conflict']);
    expect(refused.body.error.message).toContain('Enable it first');
    expect(await deliveriesOf(team, id)).toEqual([]);
  });
});

describe('the deliveries of a webhook', () => {
  it('are listed by page, type and result, the newest first', async () => {
    const { team, id, delivery } = await delivered();
    for (let left = 3; left > 0; left--) await call(team, 'POST', `/${id}/test`);
    await end(delivery.id, 'failed');
    const all = await deliveriesOf(team, id);
    expect(all).toHaveLength(4);
    expect(all.map((each) => each.id)).toEqual(
      all
        .map((each) => each.id)
        .sort()
        .reverse(),
    );
    const first = await call(team, 'GET', `/${id}/deliveries?limit=3`);
    const cursor = first.body.pagination.next_cursor;
    expect(await deliveriesOf(team, id, `?limit=3&cursor=${cursor}`)).toEqual(all.slice(3));
    expect((await deliveriesOf(team, id, '?event_type=sendmux.test')).length).toBe(3);
    expect((await deliveriesOf(team, id, '?result=failed')).map((each) => each.id)).toEqual([delivery.id]);
    expect((await deliveriesOf(team, id, '?result=retrying&event_type=domain.created')).length).toBe(0);
    for (const query of ['event_type=message.bounced', 'result=waiting', 'cursor=x', 'status=failed'])
      expect((await call(team, 'GET', `/${id}/deliveries?${query}`)).status).toBe(400);
  });

  it('say what became of them, and what the endpoint answered', async () => {
    const { team, id, delivery, message, domain } = await delivered();
    await end(delivery.id, 'delivered');
    const read = await call(team, 'GET', `/${id}/deliveries/${delivery.id}`);
    expect(read.body.data).toMatchObject({
      id: delivery.id,
      event_id: message,
      event_type: 'domain.created',
      subject: domain,
      result: 'success',
      lane: 'live',
      replay_id: null,
      delivery_attempt: 1,
      response_status: 200,
      response_ms: 184,
      response_body: 'ok\ufffd',
      error_message: null,
      next_retry_at: null,
    });
    const none = await call(team, 'GET', `/${id}/deliveries/${newId('wdlv')}`);
    expect([none.status, none.body.error.code]).toEqual([404, 'not_found']);
  });

  it('have a payload, which is the domain as it was read after that event', async () => {
    const { team, id, delivery, message, domain } = await delivered();
    const payload = await call(team, 'GET', `/${id}/deliveries/${delivery.id}/payload`);
    const shownNow = (await gateway.call('GET', `/api/v1/domains/${domain}`, { key: team.key })).body.data;
    expect(payload.body.data).toMatchObject({
      id: delivery.id,
      event_id: message,
      delivery_attempt: 0,
      payload: {
        specversion: '1.0',
        id: message,
        type: 'domain.created',
        subject: domain,
        data: { team: team.team, domain: { ...shownNow, next_check_at: null } },
      },
    });
  });

  it('of another webhook of the team are not found', async () => {
    const { team, delivery } = await delivered();
    const other = dataOf(await create(team)).id;
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/payload'],
      ['POST', '/redeliver'],
    ] as const)
      expect((await call(team, method, `/${other}/deliveries/${delivery.id}${path}`)).status).toBe(404);
  });

  it('are delivered once more on request, under the same id', async () => {
    const { team, id, delivery, message } = await delivered();
    await end(delivery.id, 'failed');
    const path = `/${id}/deliveries/${delivery.id}/redeliver`;
    const again = await call(team, 'POST', path, undefined, { 'idempotency-key': 'again' });
    expect(again.status).toBe(202);
    expect(again.body.data).toMatchObject({
      id: delivery.id,
      event_id: message,
      result: 'retrying',
      lane: 'requested',
      delivery_attempt: 0,
    });
    await end(delivery.id, 'delivered');
    const repeated = await call(team, 'POST', path, undefined, { 'idempotency-key': 'again' });
    expect(repeated.headers.get('idempotent-replayed')).toBe('true');
    expect((await deliveriesOf(team, id, '?result=success')).length).toBe(1);
    await call(team, 'PATCH', `/${id}`, { enabled: false });
    expect((await call(team, 'POST', path)).status).toBe(409);
  });
});

describe('replaying', () => {
  const begin = (team: Team, id: string, body: object, headers?: Record<string, string>) =>
    call(team, 'POST', `/${id}/replay`, body, headers);
  const replayOf = ({ body }: Answer) => body.data as unknown as ReplaySchema;

  it('answers with a replay that runs, and where to see how far it has come', async () => {
    const { team, id } = await given({ event_types: ['domain.created'] });
    const domain = await domainOf(team);
    const begun = await begin(team, id, { from: '2026-03-01', to: '-1m', types: ['domain.failed'], domains: [domain] });
    const replay = replayOf(begun);
    expect(begun.status).toBe(201);
    expect(replay).toMatchObject({
      from: '2026-03-01T00:00:00Z',
      types: ['domain.failed'],
      domains: [domain],
      status: 'running',
      queued: 0,
      delivered: 0,
      failed: 0,
      ended_at: null,
    });
    expect(begun.headers.get('location')).toBe(`${base}/${id}/replays/${replay.id}`);
    const read = await gateway.call('GET', begun.headers.get('location')!, { key: team.key });
    expect([read.status, read.body.data]).toEqual([200, replay]);
  });

  it('takes the types and domains of the webhook, and ends now, where nothing else is said', async () => {
    const domains = [await domainOf(await gateway.key())];
    const { team, id } = await given();
    await pool.query('UPDATE webhooks SET event_types = $2, domains = $3 WHERE id = $1', [
      id,
      ['mailbox.created'],
      domains,
    ]);
    const replay = replayOf(await begin(team, id, { from: '-1d' }));
    expect(replay).toMatchObject({ types: ['mailbox.created'], domains });
    expect(Math.abs(Date.parse(replay.to) - Date.now())).toBeLessThan(60_000);
  });

  it('is one at a time, and another one once it is stopped', async () => {
    const { team, id } = await given();
    const first = replayOf(await begin(team, id, { from: '-1d' }));
    const second = await begin(team, id, { from: '-1d' });
    expect([second.status, second.body.error.code]).toEqual([409, 'conflict']);
    const stop = () => call(team, 'POST', `/${id}/replays/${first.id}/stop`);
    const stopped = await stop();
    expect([stopped.status, replayOf(stopped).status]).toEqual([200, 'stopped']);
    expect(replayOf(stopped).ended_at).not.toBeNull();
    expect((await stop()).body.data).toEqual(stopped.body.data);
    const next = replayOf(await begin(team, id, { from: '-1d' }));
    const list = await call(team, 'GET', `/${id}/replays?limit=1`);
    expect((list.body.data as unknown as ReplaySchema[]).map((each) => each.id)).toEqual([next.id]);
    const rest = await call(team, 'GET', `/${id}/replays?cursor=${list.body.pagination.next_cursor}`);
    expect((rest.body.data as unknown as ReplaySchema[]).map((each) => each.id)).toEqual([first.id]);
  });

  it('is begun once for each Idempotency-Key, also by a process that died before it could answer', async () => {
    const { team, id } = await given();
    const header = { 'idempotency-key': 'replay' };
    const first = await begin(team, id, { from: '-1d' }, header);
    expect((await begin(team, id, { from: '-1d' }, header)).body.data).toEqual(first.body.data);
    await pool.query(
      `UPDATE idempotency_keys SET status = NULL, response = NULL, claimed_until = now()
        WHERE team = $1 AND key = 'replayWebhook replay'`,
      [team.team],
    );
    const again = await begin(team, id, { from: '-1d' }, header);
    expect([again.status, again.body.data]).toEqual([201, first.body.data]);
  });

  it.each([
    [{}, 400, 'missing_parameter', 'from'],
    [{ from: 'last week' }, 400, 'invalid_parameter', 'from'],
    [{ from: '2026-02-30' }, 400, 'invalid_parameter', 'from'],
    [{ from: 5 }, 400, 'invalid_parameter', 'from'],
    [{ from: 'tomorrow' }, 400, 'invalid_parameter', 'from'],
    [{ from: '-1d', to: 'tomorrow' }, 400, 'invalid_parameter', 'to'],
    [{ from: '-1d', to: 'never' }, 400, 'invalid_parameter', 'to'],
    [{ from: '-1d', to: '-2d' }, 400, 'invalid_parameter', 'from'],
    [{ from: '-1d', types: ['sendmux.test'] }, 400, 'invalid_parameter', 'types'],
    [{ from: '-1d', types: [] }, 400, 'invalid_parameter', 'types'],
    [{ from: '-1d', domains: [newId('mdom')] }, 404, 'not_found', 'domains'],
    [{ from: '-1d', event_types: ['domain.failed'] }, 400, 'invalid_parameter', 'event_types'],
  ])('refuses %j with %i %s of %s', async (body, status, code, param) => {
    const { team, id } = await given();
    const answer = await begin(team, id, body);
    expect([answer.status, answer.body.error.code, answer.body.error.param]).toEqual([status, code, param]);
    expect((await call(team, 'GET', `/${id}/replays`)).body.data).toEqual([]);
  });

  it('is refused for one that is disabled, and one of another webhook is not found', async () => {
    const { team, id } = await given();
    const replay = replayOf(await begin(team, id, { from: '-1d' }));
    const other = dataOf(await create(team, { enabled: false })).id;
    expect((await begin(team, other, { from: '-1d' })).status).toBe(409);
    expect((await call(team, 'GET', `/${other}/replays/${replay.id}`)).status).toBe(404);
    expect((await call(team, 'POST', `/${other}/replays/${replay.id}/stop`)).status).toBe(404);
    expect(replayOf(await call(team, 'GET', `/${id}/replays/${replay.id}`)).status).toBe('running');
  });
});

it('a secret is nowhere in the database, nor in any answer but the one that gives it', async () => {
  const { team, id, secret } = await given();
  const key = { 'idempotency-key': 'kept' };
  const other = dataOf(await create(team, {}, key)).secret;
  const rotated = dataOf(await call(team, 'POST', `/${id}/rotate-secret`, undefined, key)).secret;
  const secrets = [secret, other, rotated].flatMap((each) => [each, each.slice('whsec_'.length)]);
  const octets = secrets.map((each) => Buffer.from(each.replace('whsec_', ''), 'base64').toString('hex'));
  const { rows: tables } = await pool.query<{ name: string }>(
    "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'",
  );
  expect(tables.length).toBeGreaterThan(10);
  for (const { name } of tables) {
    const { rows } = await pool.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
    const text = rows.map(({ row }) => row).join('\n');
    // A column of octets is shown in hexadecimal.
    const hexadecimal = secrets.map((each) => Buffer.from(each).toString('hex'));
    for (const written of [...secrets, ...octets, ...hexadecimal])
      expect([name, text.includes(written)]).toEqual([name, false]);
  }
  for (const path of ['', `/${id}`])
    for (const each of secrets) expect((await call(team, 'GET', path)).text).not.toContain(each);
  expect((await call(team, 'PATCH', `/${id}`, { description: 'CRM' })).text).not.toContain('whsec_');
});

it('a new key of the ring encrypts what is made from then on, and what was made before it still opens', async () => {
  const old = new Map([['test', Buffer.alloc(32, 7)]]);
  const ring = new Map([['next', Buffer.alloc(32, 9)], ...old]);
  const team = await gateway.key();
  const header = { 'idempotency-key': 'before' };
  const before = dataOf(await create(team, {}, header));
  const withBoth = await startGateway(database.url, { WEBHOOK_SECRET_KEYS: ring });
  try {
    const at = callOf(withBoth);
    const again = await at(team, 'POST', '', { url }, header);
    expect(dataOf(again).secret).toBe(before.secret);
    const after = dataOf(await at(team, 'POST', '', { url }));
    const keyOf = async (id: string) =>
      (await pool.query<{ key: string }>('SELECT secret_key_id AS key FROM webhooks WHERE id = $1', [id])).rows[0]!.key;
    expect([await keyOf(before.id), await keyOf(after.id)]).toEqual(['test', 'next']);
    expect((await resealWebhooks(pool, new SecretKeys(ring))).unreadable).toEqual([]);
    expect(await keyOf(before.id)).toBe('next');
  } finally {
    await withBoth.close();
  }
});
