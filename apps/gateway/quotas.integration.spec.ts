import { inTransaction } from '@app/database';
import { allow, Quotas, type QuotaKind } from '@app/read-model';
import { newId } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { Pool } from 'pg';
import { register } from 'prom-client';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { countedAndHeld } from '../../test/support/replayed-read-model';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

const limits = { MAX_DOMAINS_PER_TEAM: 4, MAX_MAILBOXES_PER_TEAM: 2, MAX_DOMAINS: 1_000 };
let database: TestDatabase;
let gateways: readonly [TestGateway, TestGateway];

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateways = [await startGateway(database.url, limits), await startGateway(database.url, limits)];
});
afterEach(async () => {
  const { counted, held } = await countedAndHeld(database.url);
  expect(counted).toEqual(held);
});
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.close()));
  await database.drop();
});

let names = 0;
const newName = () => `d${++names}.quotas.acme.com`;
const post = (what: 'domains' | 'mailboxes', key: string, body: object, at = 0, idempotencyKey?: string) =>
  gateways[at % 2]!.call('POST', `/api/v1/${what}`, {
    key,
    body,
    ...(idempotencyKey !== undefined && { headers: { 'idempotency-key': idempotencyKey } }),
  });
const add = (key: string, at?: number, idempotencyKey?: string, domain = newName()) =>
  post('domains', key, { domain }, at, idempotencyKey);
const me = async (key: string) => {
  const { usage, limits } = (await gateways[0].call('GET', '/api/v1/me', { key })).body.data as unknown as {
    usage: object;
    limits: object;
  };
  return { usage, limits };
};
const setQuota = (team: string, kind: QuotaKind, most: number | null) =>
  inTransaction(gateways[0].app.get(Pool, { strict: false }), (client) => allow(client, team, kind, most));
const statuses = (answers: readonly Answer[]) => answers.map(({ status }) => status).sort();
const refusals = async (labels: Record<string, string>) => {
  const { values } = await register.getSingleMetric('sendmux_quota_refusals_total')!.get();
  return (
    values.find((each) => Object.entries(labels).every(([name, value]) => each.labels[name] === value))?.value ?? 0
  );
};

it('adds exactly as many domains as a team may have, of those that two gateways are asked for at once', async () => {
  const { key } = await gateways[0].key();
  const before = await refusals({ kind: 'domains', quota: 'team' });
  const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => add(key, i)));
  expect(statuses(answers)).toEqual([...Array<number>(4).fill(201), ...Array<number>(26).fill(409)]);
  const { body } = answers.find(({ status }) => status === 409)!;
  expect(body.error).toEqual({
    code: 'limit_exceeded',
    message:
      'Your team has 4 domains, and 4 is the most that it may have. Delete a domain that you no longer need, or ask support for a higher limit.',
    retryable: false,
    current: 4,
    limit: 4,
    doc_url: 'https://app.example.com/api/v1/errors#limit_exceeded',
  });
  expect(await refusals({ kind: 'domains', quota: 'team' })).toBe(before + 26);
  expect(await me(key)).toEqual({
    usage: { domains: 4, mailboxes: 0, webhooks: 0 },
    limits: { domains: 4, mailboxes: 2, webhooks: 1_000_000, requests_per_minute: 1_000_000 },
  });

  // A name that is taken is told as such, and a deleted domain gives its place back.
  const { id, domain } = answers.find(({ status }) => status === 201)!.body.data;
  expect((await add(key, 1, undefined, domain)).body.error.code).toBe('conflict');
  expect((await gateways[1].call('DELETE', `/api/v1/domains/${id}`, { key })).status).toBe(200);
  expect([(await add(key)).status, (await add(key)).status]).toEqual([201, 409]);
});

it('a domain that is rolled back gives its place back', async () => {
  const { key, team } = await gateways[0].key();
  await setQuota(team, 'domains', 1);
  const name = newName();
  for (const { plans } of gateways) plans.set(name, { step: 'ses', kind: 'refused', reason: 'SES refuses it.' });
  expect((await add(key, 0, undefined, name)).status).toBe(502);
  while ((await add(key)).status === 409);
  expect((await me(key)).usage).toEqual({ domains: 1, mailboxes: 0, webhooks: 0 });
});

it('retries with an Idempotency-Key stay right, full or not', async () => {
  const { key, team } = await gateways[0].key();
  await setQuota(team, 'domains', 1);
  const [first, second, mine] = [newName(), newName(), newId('req')];
  const added = await add(key, 0, mine, first);
  const repeated = await Promise.all([0, 1].map((at) => add(key, at, mine, first)));
  for (const each of repeated) {
    expect([each.status, each.headers.get('idempotent-replayed')]).toEqual([201, 'true']);
    expect(each.body.data).toEqual(added.body.data);
  }
  const other = newId('req');
  for (const at of [0, 1]) expect((await add(key, at, other, second)).body.error.code).toBe('limit_exceeded');
  // A refusal keeps neither the key nor its body.
  expect((await add(key, 0, other, newName())).body.error.code).toBe('limit_exceeded');
  await setQuota(team, 'domains', null);
  expect((await add(key, 1, other, second)).status).toBe(201);
  expect((await me(key)).usage).toEqual({ domains: 2, mailboxes: 0, webhooks: 0 });
});

it('creates exactly as many mailboxes as a team may have', async () => {
  const { key } = await gateways[0].key();
  const { id, domain } = (await add(key)).body.data;
  await gateways[0].call('POST', `/api/v1/domains/${id}/verify`, { key });
  const answers = await Promise.all(
    Array.from({ length: 12 }, (_, i) => post('mailboxes', key, { email: `m${i}@${domain}` }, i)),
  );
  expect(statuses(answers)).toEqual([201, 201, ...Array<number>(10).fill(409)]);
  expect(answers.find(({ status }) => status === 409)!.body.error).toMatchObject({
    code: 'limit_exceeded',
    current: 2,
    limit: 2,
    message: expect.stringContaining('Your team has 2 mailboxes') as string,
  });
  const mailbox = answers.find(({ status }) => status === 201)!.body.data.id;
  await gateways[0].call('DELETE', `/api/v1/mailboxes/${mailbox}`, { key });
  const again = [0, 1].map((at) => post('mailboxes', key, { email: `n${at}@${domain}` }, at));
  expect(statuses(await Promise.all(again))).toEqual([201, 409]);
  expect((await me(key)).usage).toEqual({ domains: 1, mailboxes: 2, webhooks: 0 });
});

it('when all teams together have as many as there may be, every add is 503, and an operator is told', async () => {
  const quotas = gateways[0].app.get(Quotas, { strict: false });
  const perTeam = { domains: 4, mailboxes: 2 };
  const { current } = await quotas.domainsInAll();
  await quotas.setCommon({ perTeam, domainsInAll: current + 2 });
  const alarms = jest.spyOn(Logger.prototype, 'error').mockImplementation();
  try {
    const teams = await Promise.all(Array.from({ length: 8 }, () => gateways[0].key()));
    const answers = await Promise.all(teams.map(({ key }, i) => add(key, i)));
    expect(statuses(answers)).toEqual([201, 201, ...Array<number>(6).fill(503)]);
    const refused = answers.find(({ status }) => status === 503)!;
    expect(refused.headers.get('retry-after')).toBe('60');
    expect(refused.body.error).toMatchObject({ code: 'service_unavailable', retryable: true });
    expect(refused.text).not.toMatch(/current|limit|MAX_DOMAINS/);
    expect(await refusals({ kind: 'domains', quota: 'installation' })).toBe(6);
    expect(alarms).toHaveBeenCalledTimes(1);
    expect(alarms).toHaveBeenCalledWith(
      { reason: 'domains_full', current: current + 2, limit: current + 2 },
      `Adds are refused with 503. All teams together have ${current + 2} domains, and MAX_DOMAINS is ${current + 2}.`,
    );
    const metrics = await register.metrics();
    for (const name of ['sendmux_domains', 'sendmux_domains_limit'])
      expect(metrics).toMatch(new RegExp(`^${name}(\\{.*\\})? ${current + 2}$`, 'm'));
    // No counterpart has refused anything.
    expect(metrics).not.toMatch(/^sendmux_counterpart_alarms_total\{/m);
  } finally {
    alarms.mockRestore();
    await quotas.setCommon({ perTeam, domainsInAll: limits.MAX_DOMAINS });
  }
});

it('a gateway that starts with lower limits leaves what there is, and refuses further ones', async () => {
  const { key } = await gateways[0].key();
  for (let i = 0; i < 3; i++) expect((await add(key)).status).toBe(201);
  const lower = await startGateway(database.url, { ...limits, MAX_DOMAINS_PER_TEAM: 1 });
  expect((await add(key)).body.error).toMatchObject({ code: 'limit_exceeded', current: 3, limit: 1 });
  expect(await me(key)).toMatchObject({ usage: { domains: 3 }, limits: { domains: 1 } });
  await lower.close();
});

it('a gateway that starts with fewer domains for all names the teams that could take them all', async () => {
  const [{ team: large }, { team: small }] = [await gateways[0].key(), await gateways[0].key()];
  await setQuota(large, 'domains', 900);
  await setQuota(small, 'domains', 899);
  const warned = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
  try {
    await (await startGateway(database.url, { ...limits, MAX_DOMAINS: 900 })).close();
    const lines = warned.mock.calls.filter(([line]) => typeof line === 'object' && 'quota' in (line as object));
    expect(lines).toEqual([
      [
        { team: large, quota: 900, limit: 900 },
        expect.stringMatching(`^${large} may have 900 domains, .* MAX_DOMAINS is 900\\.`) as string,
      ],
    ]);
  } finally {
    warned.mockRestore();
    await gateways[0].app.get(Quotas, { strict: false }).setCommon({
      perTeam: { domains: limits.MAX_DOMAINS_PER_TEAM, mailboxes: limits.MAX_MAILBOXES_PER_TEAM },
      domainsInAll: limits.MAX_DOMAINS,
    });
  }
});
