import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { inTransaction, openPool } from '@app/database';
import {
  disableWebhook,
  newSecret,
  WebhookDeliveries,
  WebhookEndpoints,
  WebhookLanes,
  WebhookReplays,
} from '@app/webhooks';
import type { Pool } from 'pg';
import { register } from 'prom-client';
import { Webhook } from 'standardwebhooks';
import { startEndpoint, type TestEndpoint } from '../../test/support/endpoint';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { addWebhook, messageOf, webhookKeys } from '../../test/support/webhooks';
import { EndpointClient } from './endpoint-client';
import { LaneWorkers, type LaneWorkersOptions, type MessageBodies } from './lane-workers';
import { retryTimes, type RetryTimes } from './retry-times';

let database: TestDatabase;
let pool: Pool;
let lanes: WebhookLanes;
let deliveries: WebhookDeliveries;
let running: LaneWorkers[];
let endpoints: TestEndpoint[];

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await migratedDatabase('service');
  pool = openPool(database.url);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});
beforeEach(async () => {
  await pool.query('TRUNCATE webhooks, webhook_deliveries, webhook_queues, webhook_lanes, webhook_replays, tasks');
  [running, endpoints] = [[], []];
  lanes = new WebhookLanes(pool);
  deliveries = new WebhookDeliveries(pool, (added) => running.at(-1)?.wake(added));
});
afterEach(async () => {
  await Promise.all(running.map((workers) => workers.stop(0)));
  await Promise.all(endpoints.map((endpoint) => endpoint.close()));
});

const messages: MessageBodies = {
  bodies: (wanted) =>
    Promise.resolve(
      new Map(wanted.map((each) => [each.message, Buffer.from(JSON.stringify({ id: each.message, ...each }))])),
    ),
  testBody: ({ message, time }) => Buffer.from(JSON.stringify({ id: message, time })),
};

/** The waits of the product, thousands of times shorter. */
const short: RetryTimes = {
  ...retryTimes,
  waitsMs: [100, 200, 300],
  retryAfterMs: 60_000,
  failuresBeforePause: 1_000,
  pause: { baseMs: 50, capMs: 100 },
};

function work(options: Partial<LaneWorkersOptions> = {}): LaneWorkers {
  const workers = new LaneWorkers({
    lanes,
    messages,
    keys: webhookKeys,
    client: new EndpointClient({ resolvers: [], allowLoopback: true, timeoutMs: 5_000, slowMs: 500 }),
    times: short,
    pollMs: 50,
    ...options,
  });
  running.push(workers);
  workers.run();
  return workers;
}

async function endpoint(changes: Parameters<typeof addWebhook>[1] = {}) {
  const server = await startEndpoint();
  endpoints.push(server);
  const added = await addWebhook(pool, { url: server.url, ...changes });
  return Object.assign(server, added);
}

const enqueue = (...all: ReturnType<typeof messageOf>[]) =>
  Promise.all(all.map((message) => deliveries.enqueue(message)));
const versions = (domain: string, count: number) => Array.from({ length: count }, (_, i) => messageOf(domain, i + 1));

async function until(what: string, probe: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await delay(10);
  }
}
const idsAt = ({ arrivals }: TestEndpoint) => arrivals.map(({ id }) => id);
const firstOf = (ids: readonly string[], domain: string) =>
  [...new Set(ids)].filter((id) => id.startsWith(`${domain}/`));
const stored = async (webhook: string, message: string) =>
  (await deliveries.page(webhook, 1_000)).find((each) => each.message === message)!;

describe('a message', () => {
  it('arrives signed, with its headers, and is recorded', async () => {
    work();
    const to = await endpoint();
    to.answer = (_, response) => response.writeHead(202).end('thanks');
    await enqueue(messageOf('mdom_1', 3));
    await until('it is recorded', async () => (await stored(to.id, 'mdom_1/3'))?.status === 'delivered');
    expect(to.arrivals).toHaveLength(1);
    const { headers, body } = to.arrivals[0]!;
    expect(headers).toMatchObject({
      'content-type': 'application/cloudevents+json',
      'user-agent': expect.stringMatching(/^sendmux-webhooks\//) as string,
      'webhook-id': 'mdom_1/3',
      'content-length': String(Buffer.byteLength(body)),
    });
    expect(headers).not.toHaveProperty('webhook-replay');
    expect(new Webhook(to.secret).verify(body, headers as Record<string, string>)).toMatchObject({ id: 'mdom_1/3' });
    expect(await stored(to.id, 'mdom_1/3')).toMatchObject({
      tries: 1,
      responseStatus: 202,
      response: Buffer.from('thanks'),
    });
    const { rows } = await pool.query('SELECT FROM webhook_queues');
    expect(rows).toEqual([]);
  });

  it('counts by how late it is first tried, where its endpoint answers in time', async () => {
    const counted = async () =>
      Number(
        /_count\S* (\d+)/.exec(await register.getSingleMetricAsString('sendmux_webhook_first_try_seconds'))?.[1] ?? 0,
      );
    const before = await counted();
    work();
    const [well, failing] = [await endpoint(), await endpoint()];
    failing.answer = (_, response) => response.writeHead(500).end();
    await enqueue(messageOf('mdom_1', 1), messageOf('mdom_1', 2));
    await until('one is delivered and the other fails', () => idsAt(well).length === 2 && idsAt(failing).length > 2);
    // What is first tried after a failure is late by the endpoint.
    await enqueue(messageOf('mdom_2', 1));
    await until('it is tried', () => idsAt(failing).includes('mdom_2/1') && idsAt(well).includes('mdom_2/1'));
    expect(await counted()).toBe(before + 4);
  });

  it('of a replay says of which, and one of a test what it is', async () => {
    work();
    const to = await endpoint();
    await deliveries.enqueueReplay(to.id, 'rpl_7', [messageOf('mdom_1', 1)]);
    await until('it arrives', () => to.arrivals.length === 1);
    expect(to.arrivals[0]!.headers['webhook-replay']).toBe('rpl_7');
    expect(JSON.parse(to.arrivals[0]!.body)).toMatchObject({ replayId: 'rpl_7' });
    await deliveries.enqueueTest(to.id);
    await until('the test arrives', () => to.arrivals.length === 2);
    expect(to.arrivals[1]!.id).toMatch(/^msg_/);
  });

  it('of a test is the same at each try, and the one that the API shows', async () => {
    work();
    const to = await endpoint();
    to.answer = (_, response) => response.writeHead(to.arrivals.length > 1 ? 204 : 500).end();
    const { createdAt } = (await deliveries.find(to.id, await deliveries.enqueueTest(to.id)))!;
    await until('it is tried again', () => to.arrivals.length === 2);
    for (const { body } of to.arrivals) expect(body).toContain(`"time":"${createdAt.toISOString()}"`);
  });

  it('that is asked for of the event and of a replay is marked as each was', async () => {
    const to = await endpoint();
    await enqueue(messageOf('mdom_1', 1));
    await deliveries.enqueueReplay(to.id, 'rpl_7', [messageOf('mdom_1', 1)]);
    await pool.query(`UPDATE webhook_deliveries SET status = 'failed'`);
    for (const { id } of await deliveries.page(to.id, 9)) await deliveries.redeliver(to.id, id);
    work();
    await until('both arrive', () => to.arrivals.length === 2);
    const marks = to.arrivals.map(({ headers, body }) => [
      headers['webhook-replay'],
      (JSON.parse(body) as { replayId?: string }).replayId,
    ]);
    expect(marks).toEqual(expect.arrayContaining([Array(2).fill(undefined), Array(2).fill('rpl_7')]));
  });

  it('is signed with both secrets during a rotation', async () => {
    work();
    const to = await endpoint();
    const older = newSecret();
    const { sealed, keyId } = webhookKeys.seal(to.id, older);
    const rotate = (until: string) =>
      pool.query(
        `UPDATE webhooks SET old_secret = $2, old_secret_key_id = $3, old_secret_until = ${until}, version = version + 1
         WHERE id = $1`,
        [to.id, sealed, keyId],
      );
    const verified = (index: number, secret: string) => {
      const { body, headers } = to.arrivals[index]!;
      return () => new Webhook(secret).verify(body, headers as Record<string, string>);
    };
    await rotate(`now() + interval '1 hour'`);
    await enqueue(messageOf('mdom_1', 1));
    await until('it arrives', () => to.arrivals.length === 1);
    for (const secret of [to.secret, older]) expect(verified(0, secret)).not.toThrow();
    await rotate('now()');
    await enqueue(messageOf('mdom_1', 2));
    await until('the next arrives', () => to.arrivals.length === 2);
    expect(verified(1, to.secret)).not.toThrow();
    expect(verified(1, older)).toThrow();
  });

  it('is sent once more when it is asked for', async () => {
    work();
    const to = await endpoint();
    await enqueue(messageOf('mdom_1', 1));
    await until('it is recorded', async () => (await stored(to.id, 'mdom_1/1'))?.status === 'delivered');
    expect(await deliveries.redeliver(to.id, (await stored(to.id, 'mdom_1/1')).id)).toBe(true);
    await until('it arrives again', () => to.arrivals.length === 2);
    expect(idsAt(to)).toEqual(['mdom_1/1', 'mdom_1/1']);
  });
});

describe('the subjects of an endpoint', () => {
  it('get their messages in order, side by side', async () => {
    work();
    const to = await endpoint();
    to.answer = (_, response) => void setTimeout(() => response.writeHead(204).end(), 5);
    const all = Array.from({ length: 20 }, (_, i) => versions(`mdom_${i}`, 40)).flat();
    await enqueue(...all);
    await until('all have arrived', () => to.arrivals.length >= 800);
    await until('all are recorded', async () => (await pool.query('SELECT FROM webhook_queues')).rowCount === 0);
    expect(to.arrivals).toHaveLength(800);
    for (let i = 0; i < 20; i++)
      expect(firstOf(idsAt(to), `mdom_${i}`)).toEqual(versions(`mdom_${i}`, 40).map(({ message }) => message));
    expect(to.underWay.most).toBeGreaterThan(3);
    expect(to.underWay.most).toBeLessThanOrEqual(8);
  });

  it('get a message at once that is added while the one before is under way', async () => {
    work();
    const to = await endpoint();
    to.answer = (_, response) => void setTimeout(() => response.writeHead(204).end(), 30);
    const waits: number[] = [];
    for (let version = 1; version < 16; version += 2) {
      await enqueue(messageOf('mdom_1', version));
      await until('it arrives', () => to.arrivals.length === version);
      const begun = performance.now();
      await enqueue(messageOf('mdom_1', version + 1));
      await until('the next one arrives', () => to.arrivals.length === version + 1);
      waits.push(performance.now() - begun);
    }
    // A lane that is idle is kept for 250 ms.
    expect(Math.min(...waits)).toBeLessThan(200);
  });

  it('do not wait for one that fails, whose later messages wait for its first', async () => {
    work();
    const to = await endpoint();
    let isMended = false;
    to.answer = ({ id }, response) => response.writeHead(id === 'mdom_bad/2' && !isMended ? 500 : 204).end('why not');
    await enqueue(...versions('mdom_bad', 4), ...versions('mdom_good', 4));
    await until('the others have arrived', () => firstOf(idsAt(to), 'mdom_good').length === 4);
    await until('it is tried again', () => idsAt(to).filter((id) => id === 'mdom_bad/2').length >= 2);
    expect(firstOf(idsAt(to), 'mdom_bad')).toEqual(['mdom_bad/1', 'mdom_bad/2']);
    expect(await stored(to.id, 'mdom_bad/2')).toMatchObject({
      status: 'waiting',
      responseStatus: 500,
      error: 'It answered 500.',
    });
    isMended = true;
    await until('the rest has arrived', () => firstOf(idsAt(to), 'mdom_bad').length === 4);
    expect(firstOf(idsAt(to), 'mdom_bad')).toEqual(versions('mdom_bad', 4).map(({ message }) => message));
  });
});

describe('a message that fails', () => {
  it('is tried after each wait, has failed after the last, and the next one goes on', async () => {
    work();
    const to = await endpoint();
    to.answer = ({ id }, response) => response.writeHead(id === 'mdom_1/1' ? 500 : 204).end();
    await enqueue(...versions('mdom_1', 2));
    await until('the next one has arrived', () => idsAt(to).includes('mdom_1/2'));
    expect(idsAt(to)).toEqual([...Array<string>(4).fill('mdom_1/1'), 'mdom_1/2']);
    const at = to.arrivals.map((arrival) => arrival.at);
    for (const [i, wait] of [100, 200, 300].entries()) expect(at[i + 1]! - at[i]!).toBeGreaterThan(wait * 0.8);
    await until('it is recorded', async () => (await stored(to.id, 'mdom_1/2')).status === 'delivered');
    expect(await stored(to.id, 'mdom_1/1')).toMatchObject({ status: 'failed', tries: 4, nextTryAt: null });
  });

  it.each([429, 503, 500])('waits as long as the endpoint asks for with %i', async (status) => {
    work();
    const to = await endpoint();
    to.answer = (_, response) =>
      void (to.arrivals.length === 1
        ? response.writeHead(status, { 'retry-after': '1' }).end()
        : response.writeHead(204).end());
    await enqueue(messageOf('mdom_1', 1));
    await until('it is tried again', () => to.arrivals.length === 2);
    expect(to.arrivals[1]!.at - to.arrivals[0]!.at).toBeGreaterThan(950);
  });

  it('leaves the whole endpoint alone where it says that it is busy', async () => {
    work();
    const to = await endpoint();
    to.answer = (_, response) =>
      void (to.arrivals.length === 1
        ? response.writeHead(429, { 'retry-after': '1' }).end()
        : response.writeHead(204).end());
    await enqueue(messageOf('mdom_1', 1), messageOf('mdom_2', 1), messageOf('mdom_3', 1));
    await until('all have arrived', () => new Set(idsAt(to)).size === 3);
    expect(to.arrivals[1]!.at - to.arrivals[0]!.at).toBeGreaterThan(950);
  });

  it('does not have thousands of others hammer the endpoint', async () => {
    work({ times: { ...short, failuresBeforePause: 3, pause: { baseMs: 400, capMs: 3_000 } } });
    const to = await endpoint();
    let isMended = false;
    to.answer = (_, response) => response.writeHead(isMended ? 204 : 500).end();
    await enqueue(...Array.from({ length: 500 }, (_, i) => messageOf(`mdom_${i}`, 1)));
    await until('it is tried', () => to.arrivals.length >= 3);
    await delay(1_000);
    expect(to.arrivals.length).toBeLessThan(9);
    expect(to.underWay.most).toBe(1);
    isMended = true;
    await until('all have arrived', () => new Set(idsAt(to)).size === 500);
  });
});

describe('an endpoint', () => {
  const shown = async (id: string) =>
    (
      await pool.query<{ enabled: boolean; because: string | null }>(
        'SELECT enabled, disabled_because AS because FROM webhooks WHERE id = $1',
        [id],
      )
    ).rows[0]!;
  const notices = async () =>
    (await pool.query<{ payload: object }>(`SELECT payload FROM tasks WHERE list = 'webhook-notices'`)).rows.map(
      ({ payload }) => payload,
    );
  const endpointsOf = () =>
    new WebhookEndpoints(pool, {
      keys: webhookKeys,
      head: () => Promise.resolve(0),
      inTeam: (_, act) => inTransaction(pool, act),
      mostOfATeam: 9,
    });
  const enable = (id: string) =>
    pool.query(`UPDATE webhooks SET enabled = true, failing_since = NULL, version = version + 1 WHERE id = $1`, [id]);

  it('is disabled when it answers 410, and gets what has waited once it is enabled', async () => {
    work();
    const to = await endpoint();
    let isGone = true;
    to.answer = (_, response) => response.writeHead(isGone ? 410 : 204).end();
    await enqueue(...versions('mdom_1', 2));
    await until('it is disabled', async () => !(await shown(to.id)).enabled);
    expect(await shown(to.id)).toEqual({ enabled: false, because: 'gone' });
    expect(await notices()).toMatchObject([{ webhook: to.id, team: 'team_a', because: 'gone' }]);
    await delay(300);
    expect(to.arrivals).toHaveLength(1);
    // What happens meanwhile is not put on.
    await enqueue(messageOf('mdom_1', 3));
    isGone = false;
    await enable(to.id);
    await until('what waited arrives', () => new Set(idsAt(to)).size === 2);
    await enqueue(messageOf('mdom_1', 4));
    await until('so does what follows', () => idsAt(to).includes('mdom_1/4'));
    expect([...new Set(idsAt(to))]).toEqual(['mdom_1/1', 'mdom_1/2', 'mdom_1/4']);
  });

  it('is disabled after a long time of nothing but failures, and not after one with a success', async () => {
    const waitsMs = Array<number>(100).fill(50);
    work({ times: { ...short, waitsMs, disableAfterMs: 700, failuresBeforePause: 1 } });
    const [bad, fair] = [await endpoint(), await endpoint()];
    bad.answer = (_, response) => response.writeHead(500).end();
    fair.answer = (_, response) => response.writeHead(fair.arrivals.length % 3 === 0 ? 204 : 500).end();
    const begun = performance.now();
    await enqueue(...versions('mdom_1', 30));
    await until('it is disabled', async () => !(await shown(bad.id)).enabled);
    expect(performance.now() - begun).toBeGreaterThan(700);
    expect(await shown(bad.id)).toEqual({ enabled: false, because: 'failing' });
    expect(await notices()).toMatchObject([{ webhook: bad.id, because: 'failing' }]);
    expect(await shown(fair.id)).toEqual({ enabled: true, because: null });
  });

  it('one of whose lanes fails is not disabled while another one goes on without a pause', async () => {
    work({ times: { ...short, waitsMs: Array<number>(100).fill(50), disableAfterMs: 1_000 } });
    const to = await endpoint();
    to.answer = ({ id }, response) => response.writeHead(id.startsWith('msg_') ? 500 : 204).end();
    const tries = async () => (await deliveries.page(to.id, 999, { type: 'sendmux.test' }))[0]?.tries ?? 0;
    const begun = performance.now();
    for (let version = 1; performance.now() - begun < 2_500 || (await tries()) <= 5; version++) {
      await enqueue(messageOf('mdom_1', version));
      if (version === 3) await deliveries.enqueueTest(to.id);
      await delay(50);
    }
    expect(await shown(to.id)).toEqual({ enabled: true, because: null });
  });

  it('that is changed gets what waits at its new URL, and one that is removed gets nothing', async () => {
    work();
    const [old, other] = [await endpoint(), await startEndpoint()];
    endpoints.push(other);
    old.answer = (_, response) => response.writeHead(500).end();
    await enqueue(...versions('mdom_1', 2));
    await until('it is tried', () => old.arrivals.length === 1);
    await pool.query('UPDATE webhooks SET url = $2, version = version + 1 WHERE id = $1', [old.id, other.url]);
    await until('it arrives there', () => new Set(idsAt(other)).size === 2);
    await pool.query('DELETE FROM webhooks WHERE id = $1', [old.id]);
    const count = other.arrivals.length;
    await enqueue(messageOf('mdom_1', 3));
    await delay(300);
    expect(other.arrivals).toHaveLength(count);
  });

  it.each([410, 503])('that is enabled again while a try ends with %i is tried anew at once', async (status) => {
    work();
    const to = await endpoint();
    let end: () => void = () => undefined;
    to.answer = (_, response) => void (end = () => response.writeHead(status, { 'retry-after': '3600' }).end());
    await enqueue(messageOf('mdom_1', 1));
    await until('it is tried', () => to.arrivals.length === 1);
    await endpointsOf().update(to.id, 'team_a', { enabled: false });
    await endpointsOf().update(to.id, 'team_a', { enabled: true });
    to.answer = (_, response) => response.writeHead(204).end();
    end();
    await until('it is delivered', async () => (await stored(to.id, 'mdom_1/1')).status === 'delivered', 5_000);
    expect(await shown(to.id)).toEqual({ enabled: true, because: null });
  });

  describe('gets nothing more of what was read before', () => {
    const changes: Readonly<Record<string, (id: string) => Promise<unknown>>> = {
      'it has another URL': (id) => endpointsOf().update(id, 'team_a', { url: 'http://127.0.0.1:9/' }),
      'it is disabled': (id) => endpointsOf().update(id, 'team_a', { enabled: false }),
      'an operator disables it': (id) => disableWebhook(pool, id),
      'it has another secret': (id) => endpointsOf().rotate(id, 'team_a', 'rot_1', 0),
      'it is removed': (id) => endpointsOf().remove(id, 'team_a'),
      'its replay is stopped': (id) => new WebhookReplays(pool).stop(id, 'rpl_1'),
    };

    it.each(Object.keys(changes))('once %s', async (what) => {
      const to = await endpoint();
      to.answer = (_, response) => void setTimeout(() => response.writeHead(204).end(), 50);
      const span = () => Promise.resolve({ after: 0, upTo: 9 });
      await new WebhookReplays(pool).begin(to.id, { id: 'rpl_1', from: new Date(0) }, span);
      const read = Array.from({ length: 20 }, (_, i) => versions(`mdom_${i}`, 10)).flat();
      await deliveries.enqueueReplay(to.id, 'rpl_1', read);
      work();
      await until('several arrive', () => to.arrivals.length > 10);
      await changes[what]!(to.id);
      const before = to.arrivals.length;
      // Nearly a hundred more would arrive by then.
      await delay(500);
      const signed = new Webhook(to.secret);
      const asBefore = to.arrivals.slice(before).filter(({ body, headers }) => {
        try {
          return signed.verify(body, headers as Record<string, string>) !== undefined;
        } catch {
          return false;
        }
      });
      // Those that were being begun are not called back.
      expect(asBefore.length).toBeLessThan(20);
    });
  });

  it('whose URL is refused fails with the reason, and is not connected to', async () => {
    work({ client: new EndpointClient({ resolvers: [], allowLoopback: false }) });
    const to = await endpoint();
    await enqueue(messageOf('mdom_1', 1));
    await until('it has failed', async () => ((await stored(to.id, 'mdom_1/1'))?.tries ?? 0) > 0);
    expect(await stored(to.id, 'mdom_1/1')).toMatchObject({
      error: 'The URL must begin with https://.',
      responseStatus: null,
    });
    expect(to.arrivals).toEqual([]);
  });
});

it('nothing is sent, and nothing has failed, while a secret does not open', async () => {
  const to = await endpoint();
  const keys = {
    ids: webhookKeys.ids,
    open: () => {
      throw new Error('there is no such key');
    },
  };
  const without = work({ keys, leaseMs: 300 });
  await enqueue(messageOf('mdom_1', 1));
  await delay(500);
  expect(to.arrivals).toEqual([]);
  expect(await stored(to.id, 'mdom_1/1')).toMatchObject({ status: 'waiting', tries: 0, error: null });
  await without.stop(0);
  work();
  await until('another process sends it', () => to.arrivals.length === 1);
});
it('one failure has an endpoint wait for none of those that are down, however many there are', async () => {
  const dead = await startEndpoint();
  endpoints.push(dead);
  dead.answer = () => undefined;
  const down = 30;
  for (let i = 0; i < down; i++) await addWebhook(pool, { team: 'team_dead', url: dead.url });
  const good = await endpoint();
  await enqueue(...[1, 2, 3].map((i) => messageOf(`mdom_${i}`, 1, { team: 'team_dead', domain: `mdom_${i}` })));
  // Each of them has failed three times before.
  expect((await pool.query('UPDATE webhook_lanes SET failures = 3')).rowCount).toBe(down);
  work({
    client: new EndpointClient({ resolvers: [], allowLoopback: true, timeoutMs: 500, slowMs: 50 }),
    times: { ...short, waitsMs: Array<number>(1_000).fill(100), failuresBeforePause: 3 },
    tries: { steady: 8, troubled: 2, down: 2, all: 100 },
  });
  await until('some of them are tried', () => dead.arrivals.length > 4);
  good.answer = (_, response) => response.writeHead(good.arrivals.length === 1 ? 500 : 204).end();
  const begun = performance.now();
  await enqueue(messageOf('mdom_1', 2));
  await until('the next try has come', () => good.arrivals.length === 2);
  expect(performance.now() - begun).toBeLessThan(2_000);
}, 60_000);

describe('several processes', () => {
  it('leave the lanes of an endpoint to one that has its keys, and say which key is missing', async () => {
    const said = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    const without = work({ keys: { ids: ['other'], open: (...args) => webhookKeys.open(...args) }, leaseMs: 60_000 });
    const [newest, before] = [await endpoint(), await endpoint()];
    for (const [{ id }, keyId, oldKeyId] of [
      [newest, 'test', null],
      [before, 'other', 'test'],
    ] as const) {
      const { sealed } = webhookKeys.seal(id, newSecret());
      await pool.query(
        `UPDATE webhooks SET secret_key_id = $2, old_secret = $3, old_secret_key_id = $4,
           old_secret_until = now() + interval '1 hour' WHERE id = $1`,
        [id, keyId, oldKeyId && sealed, oldKeyId],
      );
    }
    await enqueue(messageOf('mdom_1', 1));
    await delay(300);
    expect(without.load.lanes).toBe(0);
    const opens: typeof webhookKeys.open = (id, sealed) => webhookKeys.open(id, sealed, 'test');
    work({ keys: { ids: ['test', 'other'], open: opens } });
    await until('another process sends it at once', () => newest.arrivals.length === 1, 3_000);
    await until('to the other endpoint as well', () => before.arrivals.length === 1, 3_000);
    work({ keys: { ids: ['other'], open: opens } });
    await until('the key is named', () => said.mock.calls.some(([line]) => /2 webhooks .*"test"/.test(String(line))));
    said.mockRestore();
  });

  it('send each message, in order, when the lease of one ends while it sleeps', async () => {
    const to = await endpoint();
    // The first process cannot renew its lease, and its try takes longer than that.
    const sleepy = new WebhookLanes(pool);
    sleepy.renew = () => Promise.reject(new Error('asleep'));
    let hasAll = false;
    sleepy.claim = async (...args) => (hasAll ? [] : WebhookLanes.prototype.claim.apply(sleepy, args));
    let held: (() => void) | undefined;
    to.answer = ({ id }, response) => {
      if (id === 'mdom_1/2' && !held) held = () => response.writeHead(204).end();
      else response.writeHead(204).end();
    };
    await enqueue(...versions('mdom_1', 5));
    const asleep = work({ lanes: sleepy, leaseMs: 1_000 });
    await until('the first process is at the second message', () => held !== undefined);
    hasAll = true;
    const awake = work();
    await until('the other one sends the rest', () => idsAt(to).includes('mdom_1/5'));
    held!();
    await delay(200);
    expect([...new Set(idsAt(to))]).toEqual(versions('mdom_1', 5).map(({ message }) => message));
    expect(idsAt(to).filter((id) => id === 'mdom_1/3')).toHaveLength(1);
    for (let i = 1; i <= 5; i++)
      expect(await stored(to.id, `mdom_1/${i}`)).toMatchObject({ status: 'delivered', tries: 1 });
    await until('both are idle', () => asleep.load.lanes + awake.load.lanes === 0);
  });

  it('share the lanes, and lose nothing', async () => {
    const all = await Promise.all(Array.from({ length: 6 }, () => endpoint()));
    work();
    work();
    for (let version = 1; version <= 30; version++) {
      await enqueue(...Array.from({ length: 5 }, (_, i) => messageOf(`mdom_${i}`, version)));
      await delay(version % 7);
    }
    for (const to of all) await until('all have arrived', () => new Set(idsAt(to)).size === 150);
    for (const to of all)
      for (let i = 0; i < 5; i++)
        expect(firstOf(idsAt(to), `mdom_${i}`)).toEqual(versions(`mdom_${i}`, 30).map(({ message }) => message));
  });

  it('give their lanes back when they stop, with what was sent recorded', async () => {
    const to = await endpoint();
    to.answer = (_, response) => void setTimeout(() => response.writeHead(204).end(), 100);
    const workers = work();
    await enqueue(...Array.from({ length: 40 }, (_, i) => messageOf(`mdom_${i}`, 1)));
    await until('some are under way', () => to.arrivals.length > 3);
    await workers.stop();
    const sent = to.arrivals.length;
    await delay(200);
    expect(to.arrivals).toHaveLength(sent);
    const recorded = (await deliveries.page(to.id, 100)).filter(({ status }) => status === 'delivered');
    expect(recorded).toHaveLength(sent);
    const { rows } = await pool.query('SELECT lease_token, due <= now() AS due FROM webhook_lanes');
    expect(rows).toEqual([{ lease_token: null, due: true }]);
  });

  it('stop in time beside an endpoint that does not answer, whose try is made again', async () => {
    const to = await endpoint();
    to.answer = () => undefined;
    const workers = work();
    await enqueue(messageOf('mdom_1', 1));
    await until('it is under way', () => to.arrivals.length === 1);
    const begun = performance.now();
    await workers.stop(200);
    expect(performance.now() - begun).toBeLessThan(3_000);
    expect(await stored(to.id, 'mdom_1/1')).toMatchObject({ status: 'waiting', tries: 0 });
    to.answer = (_, response) => response.writeHead(204).end();
    work();
    await until('another one sends it', async () => (await stored(to.id, 'mdom_1/1')).status === 'delivered');
  });
});
