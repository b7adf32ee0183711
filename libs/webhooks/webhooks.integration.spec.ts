import { inTransaction, openPool } from '@app/database';
import { newId } from '@app/runtime';
import type { Pool } from 'pg';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { addWebhook, messageOf } from '../../test/support/webhooks';
import { WebhookDeliveries, type Added } from './deliveries';
import { WebhookLanes, type ClaimedLane, type LaneKey, type Outcome } from './lanes';
import { WebhookReplays } from './replays';

let database: TestDatabase;
let pool: Pool;
let deliveries: WebhookDeliveries;
let lanes: WebhookLanes;
let told: Added[];

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = openPool(database.url);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});
beforeEach(async () => {
  await pool.query('TRUNCATE webhooks, webhook_deliveries, webhook_queues, webhook_lanes, webhook_replays, tasks');
  told = [];
  deliveries = new WebhookDeliveries(pool, (added) => told.push(...added));
  lanes = new WebhookLanes(pool);
});

const enqueue = (...messages: ReturnType<typeof messageOf>[]) =>
  Promise.all(messages.map((message) => deliveries.enqueue(message)));
const claimOne = async (): Promise<ClaimedLane> => {
  const [lane, ...others] = await lanes.claim('steady', 10, 60_000);
  expect(others).toEqual([]);
  return lane!;
};
const dueOf = async (lane: LaneKey, most = 16, except: string[] = []) =>
  (await lanes.due(lane, { all: 100, subject: most }, except)).subjects;
const messagesOf = async (webhook: string) =>
  (await deliveries.page(webhook, 100)).map(({ message }) => message).sort();
const success = (key: LaneKey, id: string, changes: Partial<Outcome> = {}): Outcome => ({
  key,
  id,
  status: 'delivered',
  tries: 1,
  durationMs: 12.3,
  responseStatus: 200,
  response: Buffer.from('ok'),
  error: null,
  ...changes,
});
const steady = (key: LaneKey) => ({ key, failures: 0, pausedMs: undefined });
/** Resolves when a statement waits for a lock. */
async function someoneWaits(): Promise<void> {
  for (;;) {
    const { rowCount } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    if (rowCount! > 0) return;
  }
}

describe('enqueue', () => {
  it('puts a message on the lane of each endpoint that wants it, once', async () => {
    const all = await addWebhook(pool);
    const verified = await addWebhook(pool, { types: ['domain.verified'] });
    const failed = await addWebhook(pool, { types: ['domain.failed'] });
    const one = await addWebhook(pool, { domains: ['mdom_1'] });
    const other = await addWebhook(pool, { domains: ['mdom_2'] });
    const late = await addWebhook(pool, { after: 3 });
    const disabled = await addWebhook(pool, { enabled: false });
    const stranger = await addWebhook(pool, { team: 'team_b' });
    await enqueue(messageOf('mdom_1', 3), messageOf('mbx_1', 4, { domain: 'mdom_1', type: 'mailbox.created' }));
    await enqueue(messageOf('mdom_1', 3));
    const got = async ({ id }: { id: string }) => messagesOf(id);
    expect(await got(all)).toEqual(['mbx_1/4', 'mdom_1/3']);
    expect(await got(verified)).toEqual(['mdom_1/3']);
    expect(await got(one)).toEqual(['mbx_1/4', 'mdom_1/3']);
    expect(await got(late)).toEqual(['mbx_1/4']);
    for (const none of [failed, other, disabled, stranger]) expect(await got(none)).toEqual([]);
    expect(told.filter(({ webhook }) => webhook === all.id).reduce((sum, { count }) => sum + count, 0)).toBe(2);
  });

  it('puts no message on about an event that is older than 30 days', async () => {
    const { id } = await addWebhook(pool);
    const [old, young] = [31, 29].map((days) => new Date(Date.now() - days * 86_400_000).toISOString());
    await enqueue(messageOf('mdom_1', 1, { occurredAt: old! }), messageOf('mdom_1', 2, { occurredAt: young! }));
    expect(await messagesOf(id)).toEqual(['mdom_1/2']);
  });

  it('puts a message of a replay on once, beside that of the event', async () => {
    const { id } = await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    expect(await deliveries.enqueueReplay(id, 'rpl_1', [messageOf('mdom_1', 1), messageOf('mdom_1', 2)])).toBe(2);
    expect(await deliveries.enqueueReplay(id, 'rpl_1', [messageOf('mdom_1', 1), messageOf('mdom_1', 3)])).toBe(1);
    expect(await deliveries.enqueueReplay(id, 'rpl_2', [messageOf('mdom_1', 1)])).toBe(1);
    expect(await messagesOf(id)).toEqual(['mdom_1/1', 'mdom_1/1', 'mdom_1/1', 'mdom_1/2', 'mdom_1/3']);
  });
});

describe('a lane', () => {
  it('is claimed by one process at a time, and by another one when the lease has ended', async () => {
    await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    const [first] = await lanes.claim('steady', 10, 1);
    expect(await lanes.claim('failing', 10, 1)).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const second = await claimOne();
    expect(second.token).not.toBe(first!.token);
    expect(await lanes.claim('steady', 10, 1)).toEqual([]);
    // What the first one still writes changes nothing.
    const [subject] = await dueOf(second);
    const ended = { subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    const id = subject!.deliveries[0]!.id;
    expect(await lanes.record([steady(first!)], [success(first!, id)], [{ key: first!, ...ended }])).toEqual(new Set());
    expect(await lanes.renew([first!, second], 60_000)).toEqual(new Set([second.token]));
    expect(await lanes.release([first!])).toEqual(new Set());
    expect(await dueOf(second)).toHaveLength(1);
    expect(await lanes.record([steady(second)], [success(second, id)], [{ key: second, ...ended }])).toEqual(
      new Set([second.token]),
    );
    expect(await dueOf(second)).toEqual([]);
    expect(await deliveries.find(second.webhook, id)).toMatchObject({
      status: 'delivered',
      tries: 1,
      durationMs: 12,
      responseStatus: 200,
      response: Buffer.from('ok'),
      nextTryAt: null,
    });
  });

  it('gives the first deliveries of each subject in their order, and those of other lanes apart', async () => {
    const { id } = await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 3), messageOf('mdom_1', 1), messageOf('mdom_1', 2), messageOf('mdom_2', 1));
    const lane = await claimOne();
    await deliveries.enqueueReplay(id, 'rpl_1', [messageOf('mdom_1', 1)]);
    const shown = (await dueOf(lane, 2)).map(({ subject, deliveries: each, more }) => [
      subject,
      each.map(({ message }) => message),
      more,
    ]);
    expect(shown.sort()).toEqual([
      ['mdom_1', ['mdom_1/1', 'mdom_1/2'], true],
      ['mdom_2', ['mdom_2/1'], false],
    ]);
    expect((await dueOf(lane, 2, ['mdom_1'])).map(({ subject }) => subject)).toEqual(['mdom_2']);
    expect(await claimOne()).toMatchObject({ lane: 'replay' });
  });

  it('is not due before its first subject is, nor while it is paused', async () => {
    await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    const { id } = subject!.deliveries[0]!;
    const failure = success(lane, id, { status: 'waiting', responseStatus: 500, error: 'It answered 500.' });
    const later = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: 3_600_000 };
    await lanes.record([{ key: lane, failures: 1, pausedMs: undefined }], [failure], [later]);
    expect(await lanes.release([lane])).toEqual(new Set());
    expect(await lanes.claim('failing', 10, 1_000)).toEqual([]);
    const { nextTryAt } = (await deliveries.find(lane.webhook, id))!;
    expect(Math.abs(nextTryAt!.getTime() - Date.now() - 3_600_000)).toBeLessThan(60_000);
    // Another subject is due, and the one before waits all the same.
    await enqueue(messageOf('mdom_1', 2), messageOf('mdom_2', 1));
    const [again] = await lanes.claim('failing', 10, 60_000);
    expect(again).toMatchObject({ failures: 1 });
    expect((await dueOf(again!)).map(({ subject }) => subject)).toEqual(['mdom_2']);
    await lanes.record([{ key: again!, failures: 3, pausedMs: 3_600_000 }], [], []);
    await lanes.release([again!]);
    expect(await lanes.claim('down', 10, 60_000)).toEqual([]);
    // Whoever asks for a try gets it.
    expect(await deliveries.redeliver(lane.webhook, id)).toBe(true);
    expect(await lanes.claim('failing', 10, 60_000)).toEqual([]);
    const [asked] = await lanes.claim('down', 10, 60_000);
    expect((await dueOf(asked!)).map(({ subject }) => subject).sort()).toEqual(['mdom_1', 'mdom_2']);
  });

  it('keeps a subject to which something was added since it was read', async () => {
    await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 5));
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    // One below, as a parked message is that an operator delivers again.
    await enqueue(messageOf('mdom_1', 4));
    const ended = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    await lanes.record([steady(lane)], [success(lane, subject!.deliveries[0]!.id)], [ended]);
    expect((await dueOf(lane))[0]).toMatchObject({ deliveries: [{ message: 'mdom_1/4' }] });
  });

  it.each(['record', 'release'] as const)('loses nothing that is added while %s waits for it', async (which) => {
    const { id } = await addWebhook(pool);
    await deliveries.enqueueReplay(id, 'rpl_1', [messageOf('mdom_1', 1)]);
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    const ended = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    const done = [success(lane, subject!.deliveries[0]!.id)];
    if (which === 'release') await lanes.record([steady(lane)], done, [ended]);
    let written!: Promise<Set<string>>;
    await inTransaction(pool, async (client) => {
      await deliveries.enqueueReplay(id, 'rpl_1', [messageOf('mdom_1', 2)], client);
      written = which === 'release' ? lanes.release([lane]) : lanes.record([steady(lane)], done, [ended]);
      await someoneWaits();
    });
    expect(await written).toEqual(new Set([lane.token]));
    expect((await dueOf(lane))[0]).toMatchObject({ deliveries: [{ message: 'mdom_1/2' }] });
  });

  it('loses nothing that is added before a record is repeated whose answer was lost', async () => {
    await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    const ended = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    const record = () => lanes.record([steady(lane)], [success(lane, subject!.deliveries[0]!.id)], [ended]);
    await record();
    await enqueue(messageOf('mdom_1', 2));
    await record();
    expect((await dueOf(lane))[0]).toMatchObject({ deliveries: [{ message: 'mdom_1/2' }] });
  });

  it('loses nothing of a replay that begins while a try of one that was stopped is under way', async () => {
    const { id } = await addWebhook(pool);
    const replays = new WebhookReplays(pool);
    const begin = async () =>
      (await replays.begin(id, { from: new Date(0) }, () => Promise.resolve({ after: 0, upTo: 9 })))!.id;
    const stopped = await begin();
    await deliveries.enqueueReplay(id, stopped, [messageOf('mdom_1', 1)]);
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    await replays.stop(id, stopped);
    await deliveries.enqueueReplay(id, await begin(), [messageOf('mdom_1', 1)]);
    const ended = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    await lanes.record([steady(lane)], [success(lane, subject!.deliveries[0]!.id)], [ended]);
    expect((await dueOf(lane))[0]).toMatchObject({ deliveries: [{ message: 'mdom_1/1' }] });
  });

  it('is due again for what is added after it was given back', async () => {
    await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    const ended = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    await lanes.record([steady(lane)], [success(lane, subject!.deliveries[0]!.id)], [ended]);
    await lanes.release([lane]);
    expect(await lanes.claim('steady', 10, 1)).toEqual([]);
    await enqueue(messageOf('mdom_2', 1));
    expect((await dueOf(await claimOne())).map(({ subject: each }) => each)).toEqual(['mdom_2']);
  });

  it('of an endpoint that is disabled or gone is not claimed, and is told so where it is held', async () => {
    const { id } = await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    const [lane] = await lanes.claim('steady', 10, 1);
    await pool.query('UPDATE webhooks SET enabled = false WHERE id = $1', [id]);
    expect(await lanes.due(lane!, { all: 1, subject: 1 }, [])).toMatchObject({ version: null });
    expect(await lanes.endpoint(id)).toBeUndefined();
    await lanes.release([lane!]);
    expect(await lanes.claim('steady', 10, 1)).toEqual([]);
    await pool.query('UPDATE webhooks SET enabled = true WHERE id = $1', [id]);
    expect(await dueOf(await claimOne())).toHaveLength(1);
  });

  it('counts what was delivered and has failed of a replay', async () => {
    const { id } = await addWebhook(pool);
    await pool.query(
      `INSERT INTO webhook_replays (id, webhook, from_time, to_time, begins_after, after, up_to)
       VALUES ('rpl_1', $1, now(), now(), 0, 0, 9)`,
      [id],
    );
    await deliveries.enqueueReplay(
      id,
      'rpl_1',
      [1, 2, 3].map((version) => messageOf('mdom_1', version)),
    );
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    const [first, second] = subject!.deliveries;
    await lanes.record([steady(lane)], [success(lane, first!.id), success(lane, second!.id, { status: 'failed' })], []);
    const { rows } = await pool.query('SELECT delivered, failed FROM webhook_replays');
    expect(rows).toEqual([{ delivered: 1, failed: 1 }]);
  });
});

describe('a delivery', () => {
  it('is delivered once more on a lane of its own', async () => {
    const { id } = await addWebhook(pool);
    await enqueue(messageOf('mdom_1', 1));
    const lane = await claimOne();
    const [subject] = await dueOf(lane);
    const delivery = subject!.deliveries[0]!.id;
    const ended = { key: lane, subject: 'mdom_1', additions: subject!.additions, nextInMs: undefined };
    await lanes.record([steady(lane)], [success(lane, delivery)], [ended]);
    expect(await deliveries.redeliver(id, delivery)).toBe(true);
    expect(await deliveries.redeliver(id, newId('wdlv'))).toBe(false);
    const requested = await claimOne();
    expect(requested.lane).toBe('requested');
    expect((await dueOf(requested))[0]!.deliveries).toMatchObject([{ id: delivery, tries: 0 }]);
    expect(await dueOf(lane)).toEqual([]);
  });

  it('of a test is on the lane of what is requested', async () => {
    const { id } = await addWebhook(pool, { types: ['domain.failed'] });
    const test = await deliveries.enqueueTest(id);
    const requested = await claimOne();
    expect((await dueOf(requested))[0]!.deliveries).toMatchObject([{ id: test, type: 'sendmux.test' }]);
    expect(await deliveries.find(id, test)).toMatchObject({ lane: 'requested', status: 'waiting', replay: null });
  });

  it('is listed with others page by page, by status and by type', async () => {
    const { id } = await addWebhook(pool);
    for (let version = 1; version <= 5; version++) {
      await enqueue(messageOf('mdom_1', version, { type: version % 2 ? 'domain.verified' : 'domain.failed' }));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    const shown = (page: readonly { message: string }[]) => page.map(({ message }) => message);
    const first = await deliveries.page(id, 2);
    expect(shown(first)).toEqual(['mdom_1/5', 'mdom_1/4']);
    expect(shown(await deliveries.page(id, 9, { before: first[1]!.id }))).toEqual(['mdom_1/3', 'mdom_1/2', 'mdom_1/1']);
    expect(shown(await deliveries.page(id, 9, { type: 'domain.failed' }))).toEqual(['mdom_1/4', 'mdom_1/2']);
    expect(await deliveries.page(id, 9, { status: 'failed' })).toEqual([]);
    expect(await deliveries.page(id, 9, { status: 'waiting' })).toHaveLength(5);
    // Only the first of a subject has a next try.
    expect((await deliveries.page(id, 9)).map(({ nextTryAt }) => nextTryAt !== null)).toEqual([
      false,
      false,
      false,
      false,
      true,
    ]);
  });
});

it('an endpoint is disabled in one step with the notice to its owners, unless it was changed meanwhile', async () => {
  const { id } = await addWebhook(pool);
  const notices = async () => (await pool.query('SELECT key, payload FROM tasks')).rows as unknown[];
  expect(await lanes.disable(id, 1, 'failing', 1)).toBe(false);
  await lanes.noteHealth(id, true);
  expect(await lanes.disable(id, 1, 'failing', 3_600_000)).toBe(false);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await lanes.disable(id, 2, 'failing', 1)).toBe(false);
  expect(await notices()).toEqual([]);
  expect(await lanes.disable(id, 1, 'failing', 1)).toBe(true);
  expect(await lanes.disable(id, 2, 'gone', 0)).toBe(false);
  expect(await notices()).toMatchObject([
    { key: `${id}/2`, payload: { webhook: id, team: 'team_a', because: 'failing', url: 'https://example.com/' } },
  ]);
  expect(await lanes.disabled()).toEqual([{ because: 'failing', count: 1 }]);
  const other = await addWebhook(pool);
  await lanes.noteHealth(other.id, true);
  await lanes.noteHealth(other.id, false);
  expect((await lanes.endpoint(other.id))!.failingSince).toBeNull();
  expect(await lanes.disable(other.id, 1, 'gone', 0)).toBe(true);
});

it('what is older than 30 days, and what endpoints have left that are gone, is removed', async () => {
  const [kept, gone] = [await addWebhook(pool), await addWebhook(pool)];
  await enqueue(...[1, 2, 3].map((version) => messageOf('mdom_1', version)));
  const old = newId('wdlv', Date.now() - 31 * 86_400_000);
  await pool.query(`UPDATE webhook_deliveries SET id = $2 WHERE webhook = $1 AND message = 'mdom_1/1'`, [kept.id, old]);
  await pool.query('DELETE FROM webhooks WHERE id = $1', [gone.id]);
  expect(await deliveries.page(kept.id, 9)).toHaveLength(2);
  expect(await deliveries.removeOld(undefined, 2)).toBe(4);
  expect(await messagesOf(kept.id)).toEqual(['mdom_1/2', 'mdom_1/3']);
  expect(await messagesOf(gone.id)).toEqual([]);
  for (const table of ['webhook_lanes', 'webhook_queues'])
    expect((await pool.query(`SELECT DISTINCT webhook FROM ${table}`)).rows).toEqual([{ webhook: kept.id }]);
});
