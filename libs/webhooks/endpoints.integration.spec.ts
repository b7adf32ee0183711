import { randomBytes } from 'node:crypto';
import { inTransaction, openPool } from '@app/database';
import { newId } from '@app/runtime';
import { SecretUnreadable } from '@app/secret-keys';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { removeWebhooksOf, WebhookEndpoints, type WebhookChoices } from './endpoints';
import { checkSecretKeys, disableWebhook, listWebhooks, resealWebhooks, showWebhook } from './operation';
import { SecretKeys } from './secret-keys';
import { webhooksMigrations } from './webhooks.migration';

let database: TestDatabase;
let pool: Pool;
beforeAll(async () => {
  database = await databaseWith(webhooksMigrations);
  pool = openPool(database.url, 12);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});
beforeEach(() => pool.query('TRUNCATE webhooks, webhook_deliveries, webhook_lanes, webhook_queues, webhook_replays'));

const [first, second] = [randomBytes(32), randomBytes(32)];
const oldRing = new SecretKeys(new Map([['1', first]]));
const newRing = new SecretKeys(
  new Map([
    ['2', second],
    ['1', first],
  ]),
);

let head = 0;
const endpointsWith = (keys: SecretKeys | undefined, mostOfATeam = 3) =>
  new WebhookEndpoints(pool, {
    keys,
    head: () => Promise.resolve(head),
    inTeam: (team, work) =>
      inTransaction(pool, async (client) => {
        await client.query('SELECT pg_advisory_xact_lock(hashtext($1))', [team]);
        return work(client);
      }),
    mostOfATeam,
  });
let endpoints: WebhookEndpoints;
beforeAll(() => void (endpoints = endpointsWith(oldRing)));

let teams = 0;
const newTeam = () => `team_${(teams += 1)}`;
const choices: WebhookChoices = {
  url: 'https://hooks.acme.com/sendmux',
  description: null,
  eventTypes: null,
  domains: null,
  enabled: true,
};
const created = async (team = newTeam()) => ({ team, ...(await endpoints.create(newId('whk'), team, choices)) });

/** What is stored of an endpoint, as no reader but the worker sees it. */
async function stored(id: string) {
  const { rows } = await pool.query<Record<string, unknown>>('SELECT * FROM webhooks WHERE id = $1', [id]);
  return rows[0]!;
}

describe('the endpoints of a team', () => {
  it('are as many as it may have, however many are created at once', async () => {
    const team = newTeam();
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => endpoints.create(newId('whk'), team, choices)),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    for (const result of results)
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({ code: 'too_many_webhooks', count: { current: 3, limit: 3 } });
    expect(await endpoints.page(team, 10)).toHaveLength(3);
  });

  it('are created once by their id, with one secret', async () => {
    const [team, id] = [newTeam(), newId('whk')];
    const once = await endpoints.create(id, team, choices);
    const again = await endpoints.create(id, team, choices);
    expect(endpoints.open(id, again.secret)).toBe(endpoints.open(id, once.secret));
    expect(await endpoints.page(team, 10)).toEqual([once.webhook]);
  });

  it('are neither found nor changed by another team', async () => {
    const { webhook } = await created();
    const other = newTeam();
    expect(await endpoints.find(webhook.id, other)).toBeUndefined();
    for (const refused of [
      () => endpoints.update(webhook.id, other, { enabled: false }),
      () => endpoints.rotate(webhook.id, other, 'r1', 0),
      () => endpoints.remove(webhook.id, other),
    ])
      await expect(refused()).rejects.toMatchObject({ code: 'webhook_not_found' });
    expect(await stored(webhook.id)).toMatchObject({ version: 1, enabled: true });
  });

  it('need a key to be created, and to be rotated, and nothing else does', async () => {
    const { webhook, team } = await created();
    const without = endpointsWith(undefined);
    await expect(without.create(newId('whk'), team, choices)).rejects.toMatchObject({ code: 'no_secret_keys' });
    await expect(without.rotate(webhook.id, team, 'r1', 0)).rejects.toThrow(/cannot be created here yet/);
    expect(await without.update(webhook.id, team, { description: 'CRM' })).toMatchObject({ description: 'CRM' });
    await without.remove(webhook.id, team);
  });
});

describe('an endpoint', () => {
  it('gets what is recorded after it, and after it is enabled again', async () => {
    head = 41;
    const { webhook, team } = await created();
    expect(await stored(webhook.id)).toMatchObject({ from_position: '41' });
    head = 57;
    await endpoints.update(webhook.id, team, { enabled: true, url: 'https://hooks.acme.com/v2' });
    expect(await stored(webhook.id)).toMatchObject({ from_position: '41' });
    await endpoints.update(webhook.id, team, { enabled: false });
    expect(await stored(webhook.id)).toMatchObject({ from_position: '41', enabled: false });
    await endpoints.update(webhook.id, team, { enabled: true });
    expect(await stored(webhook.id)).toMatchObject({ from_position: '57', version: 4 });
  });

  it('is no longer failing, nor disabled by us, once it is enabled again, and what waits is due', async () => {
    const { webhook, team } = await created();
    const { id } = webhook;
    await pool.query(
      "UPDATE webhooks SET enabled = false, disabled_because = 'failing', failing_since = now() WHERE id = $1",
      [id],
    );
    await pool.query("INSERT INTO webhook_lanes (webhook, lane, failures) VALUES ($1, 'live', 9), ($1, 'replay', 9)", [
      id,
    ]);
    await pool.query(
      "INSERT INTO webhook_queues (webhook, lane, subject, due, additions) VALUES ($1, 'live', 's', now() + interval '12 hours', 1)",
      [id],
    );
    expect(await endpoints.update(id, team, { description: 'CRM' })).toMatchObject({ disabledBecause: 'failing' });
    expect(await endpoints.update(id, team, { enabled: true })).toMatchObject({
      enabled: true,
      disabledBecause: null,
      failingSince: null,
    });
    const { rows: lanes } = await pool.query(
      'SELECT lane, failures, due <= now() AS due FROM webhook_lanes WHERE webhook = $1 ORDER BY lane',
      [id],
    );
    expect(lanes).toEqual([
      { lane: 'live', failures: 0, due: true },
      { lane: 'replay', failures: 9, due: null },
    ]);
    const { rows: queues } = await pool.query('SELECT due <= now() AS due FROM webhook_queues WHERE webhook = $1', [
      id,
    ]);
    expect(queues).toEqual([{ due: true }]);
  });

  it('has a new version for each change, and none for a change of nothing', async () => {
    const { webhook, team } = await created();
    const { id } = webhook;
    expect(await endpoints.update(id, team, { ...choices, description: undefined }, 1)).toEqual(webhook);
    const changed = await endpoints.update(id, team, { eventTypes: ['domain.verified'], domains: ['mdom_1'] }, 1);
    expect(changed).toMatchObject({ version: 2, eventTypes: ['domain.verified'], domains: ['mdom_1'], enabled: true });
    await expect(endpoints.update(id, team, { enabled: false }, 1)).rejects.toMatchObject({
      code: 'webhook_has_changed',
    });
    await expect(endpoints.remove(id, team, 1)).rejects.toMatchObject({ code: 'webhook_has_changed' });
    expect(await endpoints.update(id, team, { eventTypes: null, domains: null })).toMatchObject({ eventTypes: null });
  });

  it('is removed with all that is kept of it', async () => {
    const { webhook, team } = await created();
    const other = await created();
    for (const { id } of [webhook, other.webhook]) {
      await pool.query(
        `INSERT INTO webhook_deliveries (webhook, id, lane, message, type, subject, version, position, occurred_at)
          SELECT $1, 'wdlv_' || n, 'live', 'mdom_1/' || n, 'domain.verified', 'mdom_1', n, n, now()
          FROM generate_series(1, 6000) n`,
        [id],
      );
      await pool.query("INSERT INTO webhook_lanes (webhook, lane) VALUES ($1, 'live')", [id]);
      await pool.query(
        "INSERT INTO webhook_queues (webhook, lane, subject, additions) VALUES ($1, 'live', 'mdom_1', 1)",
        [id],
      );
      await pool.query(
        `INSERT INTO webhook_replays (id, webhook, from_time, to_time, begins_after, after, up_to)
          VALUES ('rpl_' || $1, $1, now(), now(), 0, 0, 1)`,
        [id],
      );
    }
    await endpoints.remove(webhook.id, team);
    expect(await endpoints.find(webhook.id, team)).toBeUndefined();
    for (const table of ['webhook_deliveries', 'webhook_lanes', 'webhook_queues', 'webhook_replays']) {
      const { rows } = await pool.query<{ webhook: string }>(`SELECT DISTINCT webhook FROM ${table}`);
      expect([table, rows]).toEqual([table, [{ webhook: other.webhook.id }]]);
    }
    await inTransaction(pool, (client) => removeWebhooksOf(client, other.team));
    expect(await endpoints.page(other.team, 10)).toEqual([]);
  });
});

describe('a rotation', () => {
  const secrets = async (id: string) => {
    const row = await stored(id);
    const open = (sealed: unknown, keyId: unknown) =>
      sealed === null ? null : oldRing.open(id, sealed as Buffer, keyId as string);
    return [open(row.secret, row.secret_key_id), open(row.old_secret, row.old_secret_key_id)];
  };

  it('has the secret before sign as well, for as long as it was asked to', async () => {
    const { webhook, team, secret } = await created();
    const { id } = webhook;
    const before = endpoints.open(id, secret);
    const rotated = await endpoints.rotate(id, team, 'r1', 3_600_000);
    const after = endpoints.open(id, rotated.secret);
    expect(await secrets(id)).toEqual([after, before]);
    const left = rotated.webhook.oldSecretUntil!.getTime() - Date.now();
    expect(Math.abs(left - 3_600_000)).toBeLessThan(60_000);
    await pool.query("UPDATE webhooks SET old_secret_until = now() - interval '1 second'");
    expect(await endpoints.find(id, team)).toMatchObject({ oldSecretUntil: null });
    await endpoints.forgetOldSecrets();
    expect(await secrets(id)).toEqual([after, null]);
  });

  it('is done once by its id, so that the secret before still signs when it is repeated', async () => {
    const { webhook, team, secret } = await created();
    const { id } = webhook;
    const once = await endpoints.rotate(id, team, 'r1', 3_600_000);
    const again = await endpoints.rotate(id, team, 'r1', 3_600_000);
    expect(endpoints.open(id, again.secret)).toBe(endpoints.open(id, once.secret));
    expect(await secrets(id)).toEqual([endpoints.open(id, once.secret), endpoints.open(id, secret)]);
  });

  it('ends all other secrets at once where it is asked to', async () => {
    const { webhook, team } = await created();
    await endpoints.rotate(webhook.id, team, 'r1', 3_600_000);
    const { secret, webhook: after } = await endpoints.rotate(webhook.id, team, 'r2', 0);
    expect(after.oldSecretUntil).toBeNull();
    expect(await secrets(webhook.id)).toEqual([endpoints.open(webhook.id, secret), null]);
  });
});

describe('for operators', () => {
  it('all secrets are encrypted with the newest key, once, and nobody else sees a difference', async () => {
    const made = [await created(), await created(), await created()];
    const expected = await Promise.all(
      made.map(async ({ webhook: { id }, team, secret }) => {
        const rotated = await endpoints.rotate(id, team, 'r1', 3_600_000);
        return [oldRing.open(id, secret.sealed, '1'), oldRing.open(id, rotated.secret.sealed, '1')];
      }),
    );
    const before = await listWebhooks(pool);
    expect(await resealWebhooks(pool, newRing)).toEqual({ resealed: 3, unreadable: [] });
    expect(await resealWebhooks(pool, newRing)).toEqual({ resealed: 0, unreadable: [] });
    expect(await listWebhooks(pool)).toEqual(before);
    const newest = new SecretKeys(new Map([['2', second]]));
    for (const [index, { webhook }] of made.entries()) {
      const row = await stored(webhook.id);
      expect([row.secret_key_id, row.old_secret_key_id]).toEqual(['2', '2']);
      expect([
        newest.open(webhook.id, row.old_secret as Buffer, '2'),
        newest.open(webhook.id, row.secret as Buffer, '2'),
      ]).toEqual(expected[index]);
    }
  });

  it('those that cannot be read are named, and all others are encrypted', async () => {
    const [lost, kept] = [await created(), await created()];
    await pool.query("UPDATE webhooks SET secret_key_id = 'lost' WHERE id = $1", [lost.webhook.id]);
    const { resealed, unreadable } = await resealWebhooks(pool, newRing);
    expect([resealed, unreadable.map(({ id }) => id)]).toEqual([1, [lost.webhook.id]]);
    expect(unreadable[0]!.why).toContain('"lost"');
    expect(await stored(kept.webhook.id)).toMatchObject({ secret_key_id: '2' });
    expect(() => endpoints.open(lost.webhook.id, { sealed: lost.secret.sealed, keyId: 'lost' })).toThrow(
      SecretUnreadable,
    );
  });

  it('those that another key of the same id has encrypted are named as well', async () => {
    const { webhook } = await created();
    expect(await resealWebhooks(pool, new SecretKeys(new Map([['1', second]])))).toEqual({
      resealed: 0,
      unreadable: [{ id: webhook.id, why: expect.stringContaining('another key of that id') as string }],
    });
  });

  it('a key is refused that opens nothing under its id, while one that is new or opens some is taken', async () => {
    const wrong = new SecretKeys(new Map([['1', second]]));
    await checkSecretKeys(pool, wrong);
    const { webhook } = await created();
    await created();
    await expect(checkSecretKeys(pool, wrong)).rejects.toThrow('The key "1" of WEBHOOK_SECRET_KEYS opens none');
    await pool.query("UPDATE webhooks SET secret = 'changed' WHERE id = $1", [webhook.id]);
    await checkSecretKeys(pool, newRing);
  });

  it('lists those of a team, and disables one', async () => {
    const { webhook, team } = await created();
    await created();
    expect(await listWebhooks(pool, team)).toEqual([webhook]);
    expect(await listWebhooks(pool)).toHaveLength(2);
    expect(await disableWebhook(pool, webhook.id)).toMatchObject({ enabled: false, version: 2, disabledBecause: null });
    expect(await disableWebhook(pool, webhook.id)).toMatchObject({ version: 2 });
    await expect(showWebhook(pool, 'whk_none')).rejects.toMatchObject({ code: 'webhook_not_found' });
  });
});
