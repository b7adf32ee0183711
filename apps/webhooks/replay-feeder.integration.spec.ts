import { inTransaction, openPool } from '@app/database';
import { EventLog, EventStore } from '@app/event-store';
import { WebhookMessages } from '@app/presentation';
import {
  mostWaiting,
  ReplayRefused,
  WebhookDeliveries,
  WebhookReplays,
  type ClaimedReplay,
  type WebhookReplay,
  type WebhookType,
} from '@app/webhooks';
import type { Pool } from 'pg';
import { mailboxKeysIn } from '../../test/support/mailbox-keys';
import { migratedDatabase } from '../../test/support/migrated-database';
import { numbers } from '../../test/support/numbers';
import type { TestDatabase } from '../../test/support/test-database';
import { addWebhook } from '../../test/support/webhooks';
import { ReplayFeeder } from './replay-feeder';

let database: TestDatabase;
let pool: Pool;
let log: EventLog;
let replays: WebhookReplays;
let added: string[];
let feeder: ReplayFeeder;

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = openPool(database.url);
  log = new EventLog(pool);
  await fillLog();
});
afterAll(async () => {
  await log.close();
  await pool.end();
  await database.drop();
});
beforeEach(async () => {
  await pool.query('TRUNCATE webhooks, webhook_deliveries, webhook_queues, webhook_lanes, webhook_replays');
  replays = new WebhookReplays(pool);
  added = [];
  feeder = feederOf();
});

const feederOf = () =>
  new ReplayFeeder(pool, replays, log, new WebhookMessages(pool, mailboxKeysIn(pool)), (webhook) =>
    added.push(webhook),
  );

const epoch = Date.parse('2026-03-01T00:00:00.000Z');
const minute = 60_000;
/** The minute of the last event. */
let minutes = 0;

/** Messages by their ids, in the order of the log, of each team. */
const told = new Map<string, { message: string; type: WebhookType; minute: number }[]>();

/** Writes the lives of the domains of two teams, and of a team with more streams than are listed by name. */
async function fillLog(): Promise<void> {
  const store = new EventStore(pool);
  const next = numbers(7);
  const statuses = new Map<string, { team: string; version: number; status: string; createdMinute: number }>();
  const teams = { a: 8, b: 8, many: 1_100 };
  const idOf = (team: string, i: number) => `mdom_cl${team}${String(i).padStart(5, '0')}`;
  const all = Object.entries(teams).flatMap(([team, count]) =>
    Array.from({ length: count }, (_, i) => ({ id: idOf(team, i), team: `team_${team}` })),
  );
  for (const { id, team } of all) statuses.set(id, { team, version: 0, status: 'absent', createdMinute: 0 });
  const append = async (id: string, events: [string, unknown][], types: (WebhookType | undefined)[]) => {
    const state = statuses.get(id)!;
    minutes += 1;
    await store.append({
      stream: id,
      expectedVersion: state.version,
      events: events.map(([type, data]) => ({
        type,
        schemaVersion: 1,
        data,
        time: new Date(epoch + minutes * minute).toISOString(),
      })),
      metadata: { actor: 'key_1', correlationId: 'req_1' },
    });
    for (const [i, type] of types.entries())
      if (type)
        told.set(state.team, [
          ...(told.get(state.team) ?? []),
          { message: `${id}/${state.version + i + 1}`, type, minute: minutes },
        ]);
    state.version += events.length;
  };
  for (const { id, team } of all) {
    await append(
      id,
      [
        ['DomainAdded', { name: `${id}.com`, team, deadline: '' }],
        ['DomainProvisioned', {}],
      ],
      [undefined, 'domain.created'],
    );
    await pool.query(
      `INSERT INTO domains (id, name, team, status, created_at, updated_at, version)
       VALUES ($1, $1, $2, 'pending', now(), now(), 2)`,
      [id, team],
    );
  }
  for (let i = 0; i < 1_500; i++) {
    const { id } = all[Math.floor(next() * (i % 2 ? 16 : all.length))]!;
    const state = statuses.get(id)!;
    const steps: [string, WebhookType | undefined, string][] =
      state.status === 'verified'
        ? [['VerificationLapsed', 'domain.lapsed', 'lapsed']]
        : state.status === 'lapsed'
          ? [['VerificationFailed', 'domain.failed', 'failed']]
          : [['DomainVerified', state.status === 'failed' ? 'domain.recovered' : 'domain.verified', 'verified']];
    const [type, told, status] = steps[0]!;
    await append(
      id,
      [
        ['DnsChecked', {}],
        [type, { failing: [] }],
      ],
      [undefined, told],
    );
    state.status = status;
  }
}

const at = (minutes: number) => new Date(epoch + minutes * minute);
const spanOf = (from: Date, to: Date) => log.spanOf(from, to);
const begin = async (webhook: string, changes: Partial<Parameters<WebhookReplays['begin']>[1]> = {}) =>
  (await replays.begin(webhook, { from: at(0), ...changes }, spanOf))!;

/** The messages that were put on for a replay, in the order of the log. */
const putOn = async (replay: WebhookReplay): Promise<{ message: string; type: string }[]> => {
  const { rows } = await pool.query<{ message: string; type: string }>(
    `SELECT message, type FROM webhook_deliveries WHERE replay = $1 ORDER BY position`,
    [replay.id],
  );
  return rows;
};
const of = (team: string, is: (each: { type: WebhookType; minute: number; message: string }) => boolean = () => true) =>
  told
    .get(team)!
    .filter(is)
    .map(({ message, type }) => ({ message, type }));

/** Stands for the workers of the lane: up to `most` of what waits is delivered, or fails. */
async function deliver(replay: WebhookReplay, most = 10_000, status = 'delivered'): Promise<number> {
  return inTransaction(pool, async (client) => {
    const { rowCount } = await client.query(
      `UPDATE webhook_deliveries SET status = $3 WHERE id IN (
         SELECT id FROM webhook_deliveries WHERE replay = $1 AND status = 'waiting' ORDER BY position LIMIT $2)`,
      [replay.id, most, status],
    );
    await client.query(`UPDATE webhook_replays SET ${status} = ${status} + $2 WHERE id = $1`, [replay.id, rowCount]);
    return rowCount!;
  });
}

/** Makes passes, while what waits is delivered, until the replay has ended. */
async function feedAll(replay: WebhookReplay): Promise<WebhookReplay> {
  for (;;) {
    await pool.query('UPDATE webhook_replays SET due = now()');
    await feeder.pass();
    const now = (await replays.find(replay.webhook, replay.id))!;
    if (now.status !== 'running') return now;
    await deliver(replay);
  }
}

describe('a replay', () => {
  it('puts all messages of the team on, in the order of the log, and is completed when none waits', async () => {
    const { id } = await addWebhook(pool, { team: 'team_a' });
    const begun = await begin(id);
    expect(begun).toMatchObject({ status: 'running', queued: 0, delivered: 0, failed: 0, types: null, endedAt: null });
    const done = await feedAll(begun);
    expect(await putOn(begun)).toEqual(of('team_a'));
    expect(done).toMatchObject({ status: 'completed', queued: of('team_a').length, delivered: of('team_a').length });
    expect(done.position).toBe(done.span.upTo);
    expect(done.endedAt).toBeInstanceOf(Date);
    expect(added).toContain(id);
    expect(await replays.page(id, 10)).toEqual([done]);
  });

  it('has the times, the types and the domains that were asked for', async () => {
    const { id } = await addWebhook(pool, { team: 'team_b', types: ['domain.verified'], domains: ['mdom_clb00001'] });
    const [from, to] = [1_200, 1_900];
    const domains = ['mdom_clb00000', 'mdom_clb00002'];
    const types: WebhookType[] = ['domain.lapsed', 'domain.recovered'];
    const asked = await begin(id, { from: at(from), to: at(to), types, domains });
    await feedAll(asked);
    const expected = of(
      'team_b',
      ({ type, minute, message }) =>
        minute >= from && minute < to && types.includes(type) && domains.includes(message.split('/')[0]!),
    );
    expect(expected.length).toBeGreaterThan(5);
    expect(await putOn(asked)).toEqual(expected);
    // Without them, it has what the endpoint gets.
    const own = await begin(id);
    await feedAll(own);
    const gets = of('team_b', ({ type, message }) => type === 'domain.verified' && message.startsWith('mdom_clb00001'));
    expect(await putOn(own)).toEqual(gets);
  });

  it('is the same for a team with more streams than are listed', async () => {
    const { id } = await addWebhook(pool, { team: 'team_many' });
    const begun = await begin(id);
    const done = await feedAll(begun);
    expect(await putOn(begun)).toEqual(of('team_many'));
    expect(done.queued).toBeGreaterThan(1_000);
  });

  it('never has more than a thousand messages waiting', async () => {
    const { id } = await addWebhook(pool, { team: 'team_many' });
    const begun = await begin(id);
    const waiting = async () => {
      await pool.query('UPDATE webhook_replays SET due = now()');
      await feeder.pass();
      const { rows } = await pool.query<{ count: number }>(
        `SELECT count(*)::int FROM webhook_deliveries WHERE status = 'waiting'`,
      );
      return rows[0]!.count;
    };
    const filling = [await waiting(), await waiting(), await waiting(), await waiting(), await waiting()];
    expect(filling).toEqual([250, 500, 750, 1_000, 1_000]);
    await deliver(begun, 249);
    expect(await waiting()).toBe(751);
    await deliver(begun, 1);
    expect(await waiting()).toBe(1_000);
  });

  it('goes on after a crash at any point, without losing or skipping', async () => {
    const { id } = await addWebhook(pool, { team: 'team_many' });
    const begun = await begin(id);
    const next = numbers(3);
    for (let status = 'running'; status === 'running';) {
      // The process dies: between the claim and the page, in the transaction, or before it gives the replay back.
      const dies = Math.floor(next() * 6);
      const broken = new WebhookReplays(pool);
      if (dies === 0) broken.feed = () => Promise.reject(new Error('died'));
      if (dies === 1) {
        const feed = broken.feed.bind(broken);
        broken.feed = async (...page) => (await feed(...page), Promise.reject(new Error('died')));
      }
      if (dies === 2) broken.release = () => Promise.reject(new Error('died'));
      if (dies === 3) jest.spyOn(WebhookDeliveries.prototype, 'enqueueReplay').mockRejectedValueOnce(new Error('died'));
      await new ReplayFeeder(pool, broken, log, new WebhookMessages(pool, mailboxKeysIn(pool)))
        .pass()
        .catch((error: Error) => {
          expect(error.message).toBe('died');
        });
      await pool.query(`UPDATE webhook_replays SET lease_until = now(), due = now() WHERE status = 'running'`);
      await deliver(begun, 400);
      status = (await replays.find(id, begun.id))!.status;
    }
    expect(await putOn(begun)).toEqual(of('team_many'));
    expect(await replays.find(id, begun.id)).toMatchObject({ status: 'completed', queued: of('team_many').length });
  });

  it('is fed by one process at a time, and one that has lost its lease puts nothing on', async () => {
    const { id } = await addWebhook(pool, { team: 'team_a' });
    const begun = await begin(id);
    const [slow] = await replays.claim(10, 30_000);
    expect(await replays.claim(10, 30_000)).toEqual([]);
    await pool.query('UPDATE webhook_replays SET lease_until = now()');
    const [quick] = await replays.claim(10, 30_000);
    const [message] = of('team_a').map((each) => ({
      ...each,
      type: 'domain.created' as const,
      subject: 'mdom_cla00000',
      version: 2,
      position: 2,
      occurredAt: at(1).toISOString(),
    }));
    expect(await replays.feed(slow!, [message!], 2)).toBe(false);
    expect(await putOn(begun)).toEqual([]);
    await replays.release(slow!, 0);
    expect(await replays.feed(quick!, [message!], 2)).toBe(true);
    expect(await replays.find(id, begun.id)).toMatchObject({ queued: 1, position: 2 });
  });

  it('is paused while its endpoint is disabled', async () => {
    const { id } = await addWebhook(pool, { team: 'team_a', enabled: false });
    const begun = await begin(id);
    expect(await feeder.pass()).toBe(0);
    await pool.query('UPDATE webhooks SET enabled = true');
    expect((await feedAll(begun)).status).toBe('completed');
  });

  it('is stopped with what waits of it, and another can begin', async () => {
    const { id } = await addWebhook(pool, { team: 'team_many' });
    const begun = await begin(id);
    await expect(begin(id)).rejects.toThrow(ReplayRefused);
    await feeder.pass();
    await deliver(begun, 5);
    const [claimed] = await replays.claim(1, 30_000);
    const stopped = (await replays.stop(id, begun.id))!;
    expect(stopped).toMatchObject({ status: 'stopped', queued: 250, delivered: 5 });
    expect(await putOn(begun)).toHaveLength(5);
    expect((await pool.query('SELECT FROM webhook_queues')).rowCount).toBe(0);
    if (claimed) expect(await replays.feed(claimed, [], claimed.span.upTo)).toBe(false);
    expect(await replays.stop(id, begun.id)).toEqual(stopped);
    expect(await feeder.pass()).toBe(0);
    expect(await begin(id)).toMatchObject({ status: 'running' });
    expect(await replays.stop(id, 'rpl_none')).toBeUndefined();
  });

  it('leaves nothing waiting where it is stopped while a page is put on', async () => {
    const { id } = await addWebhook(pool, { team: 'team_a' });
    for (let i = 0; i < 20; i++) {
      const begun = await begin(id);
      const [, stopped] = await Promise.all([feeder.pass(), replays.stop(id, begun.id)]);
      expect(stopped!.status).toBe('stopped');
      expect(await putOn(begun)).toEqual([]);
    }
  });

  it('is refused where its times are no range of the past', async () => {
    const { id } = await addWebhook(pool, { team: 'team_a' });
    const soon = new Date(Date.now() + 3_600_000);
    await expect(begin(id, { from: soon })).rejects.toThrow(/"from" is yet to come/);
    await expect(begin(id, { to: soon })).rejects.toThrow(/"to" is yet to come/);
    await expect(begin(id, { from: at(2), to: at(1) })).rejects.toThrow(/"from" must be before "to"/);
    await expect(begin(id, { from: at(2), to: at(2) })).rejects.toThrow(/"from" must be before "to"/);
    expect(await replays.begin('whk_none', { from: at(0) }, spanOf)).toBeUndefined();
  });

  it('reads the part of the log that the times lie in', async () => {
    const head = await log.head();
    const part = await log.spanOf(at(1_500), at(1_600));
    const { rows } = await pool.query<{ first: number; last: number }>(
      'SELECT min(position)::int AS first, max(position)::int AS last FROM events WHERE time >= $1 AND time < $2',
      [at(1_500), at(1_600)],
    );
    expect(part.after).toBeLessThan(rows[0]!.first);
    expect(part.after).toBeGreaterThan(rows[0]!.first - 200);
    expect(part.upTo).toBeGreaterThanOrEqual(rows[0]!.last);
    expect(part.upTo).toBeLessThan(rows[0]!.last + 200);
    expect(await log.spanOf(at(0), new Date())).toEqual({ after: 0, upTo: head });
  });
});

it('a replay that does not go on is looked at ever more rarely, among hundreds of such', async () => {
  const stuck = Array.from({ length: 400 }, (_, i) => ({
    id: `rpl_${i}`,
    waiting: mostWaiting,
    delivered: 1,
    failed: 0,
  })) as unknown as ClaimedReplay[];
  const pauses: number[] = [];
  const claims: ClaimedReplay[][] = [];
  const listed = {
    claim: () => Promise.resolve(claims.shift() ?? []),
    release: (_: ClaimedReplay, pauseMs: number) => Promise.resolve(void pauses.push(pauseMs)),
  } as unknown as WebhookReplays;
  const busy = new ReplayFeeder(pool, listed, log, new WebhookMessages(pool, mailboxKeysIn(pool)));
  for (let look = 0; look < 8; look++) {
    claims.push(stuck);
    await busy.pass();
  }
  // The eighth pause is between 2.5 and 5 seconds; the first one was 50 ms at most.
  expect(Math.min(...pauses.slice(-stuck.length))).toBeGreaterThan(1_000);
});
