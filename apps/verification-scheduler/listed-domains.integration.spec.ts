import { Logger } from '@nestjs/common';
import { cycleMigrations } from '@app/cycle';
import { openPool } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import type { SesDkimStatus } from '@app/mail-records';
import { readModelMigrations } from '@app/read-model';
import { defaultShard } from '@app/runtime';
import { SesLister, SesListings, sesMigrations, SesStatuses } from '@app/ses';
import type { Pool } from 'pg';
import { sample } from '../../test/support/sample';
import { until } from '../../test/support/scheduler';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { WatchedDomains } from './watched-domains';

const count = sample(10_000, 1_000_000);
const nameOf = (i: number) => `d${i}.example.com`;
let database: TestDatabase;
let pool: Pool;
let listings: SesListings;

/** Lists `count` identities in pages of a thousand, as SES does, but at once. */
async function* pages(statusOf: (i: number) => SesDkimStatus, most = count) {
  for (let from = 0; from < most; from += 1_000) {
    await Promise.resolve();
    yield Array.from({ length: Math.min(1_000, most - from) }, (_, i) => ({
      name: nameOf(from + i),
      status: statusOf(from + i),
    }));
  }
}

/** Has SES listed once. Gives the milliseconds that it took, and what it has written. */
async function list(statusOf: (i: number) => SesDkimStatus, most?: number) {
  await pool.query(`UPDATE ses_listings SET due_at = now()`);
  const before = await mark();
  const ses = { of: () => ({ list: () => pages(statusOf, most) }) };
  const options = { shards: [defaultShard], refreshMs: 3_600_000, timeoutMs: 60_000 };
  const startedAt = performance.now();
  const lister = new SesLister(listings, ses, options);
  lister.onApplicationBootstrap();
  await until(
    async () =>
      (await pool.query(`SELECT FROM ses_listings WHERE due_at > now() AND lease_token IS NULL`)).rowCount === 1,
    600_000,
  );
  const ms = performance.now() - startedAt;
  await lister.beforeApplicationShutdown();
  return { ms, ...(await rowsSince(before)) };
}

const mark = async () =>
  (await pool.query<{ id: number }>('SELECT pg_current_xact_id()::text::float8 AS id')).rows[0]!.id;

/** Gives the number of rows of the list, and of those that were written since a transaction. */
async function rowsSince(id: number): Promise<{ written: number; total: number }> {
  const { rows } = await pool.query<{ written: number; total: number }>(
    `SELECT (count(*) FILTER (WHERE xmin::text::float8 >= $1))::float8 AS written, count(*)::float8 AS total
     FROM ses_statuses`,
    [id],
  );
  return rows[0]!;
}

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith([
    ...eventStoreMigrations,
    ...readModelMigrations,
    ...cycleMigrations,
    ...sesMigrations,
  ]);
  pool = openPool(database.url);
  listings = new SesListings(pool);
  await pool.query(
    `INSERT INTO watched_domains (id, slot, name, team, dkim_tokens, dkim_zone, ses_region, status, lapsed, version)
     SELECT 'mdom_' || i, i % 360, 'd' || i || '.example.com', 'team_1', '{a,b,c}', 'x', 'eu-west-1', 'verified', false, 1
     FROM generate_series(0, $1 - 1) AS i`,
    [count],
  );
  await pool.query('ANALYZE');
}, 600_000);
afterAll(async () => {
  await pool.end();
  await database.drop();
});

it(`a list of ${count} identities is written once, and what has changed later alone`, async () => {
  const bad = new Set([17, count - 1]);
  const heapBefore = process.memoryUsage.rss();
  const first = await list(() => 'success');
  const again = await list(() => 'success');
  const changed = await list((i) => (bad.has(i) ? 'failed' : 'success'));
  const shorter = await list(() => 'success', count - 5);
  expect([first, again, changed, shorter].map(({ written, total }) => [written, total])).toEqual([
    [count, count],
    [0, count],
    [2, count],
    [1, count - 5],
  ]);
  const mib = (process.memoryUsage.rss() - heapBefore) / 2 ** 20;
  console.info(
    `${count} identities: first listing ${first.ms.toFixed(0)} ms, without a change ${again.ms.toFixed(0)} ms, with ${5} gone ${shorter.ms.toFixed(0)} ms, ${mib.toFixed(0)} MiB more`,
  );
}, 900_000);

it(`a scheduler reads the statuses with a page of its domains, and waits for nothing at its start`, async () => {
  await pool.query('VACUUM ANALYZE ses_statuses');
  const startedAt = performance.now();
  const ses = { get: () => Promise.reject(new Error('asked')) };
  const statuses = new SesStatuses(listings, ses, { tooOldMs: 3_600_000, timeoutMs: 1_000 });
  const watched = new WatchedDomains(pool);
  const domains = await watched.page(17, '', 100);
  expect(await Promise.all(domains.map((domain) => statuses.of(domain, true)))).toEqual(domains.map(() => 'success'));
  const startMs = performance.now() - startedAt;
  expect(domains.length).toBeGreaterThan(20);

  const times: number[] = [];
  for (let slot = 18; slot < 118; slot++) {
    const begun = performance.now();
    await watched.page(slot, '', 100);
    times.push(performance.now() - begun);
  }
  const { rows } = await pool.query<{ 'QUERY PLAN': string }>(
    `EXPLAIN SELECT w.id, (SELECT status FROM ses_statuses s WHERE s.shard = w.ses_shard AND s.name = w.name)
     FROM watched_domains w WHERE slot = 17 AND id > '' AND status IN ('pending', 'verified') ORDER BY id LIMIT 100`,
  );
  expect(rows.map((row) => row['QUERY PLAN']).join('\n')).not.toMatch(/Seq Scan on ses_statuses/);
  const median = times.toSorted((a, b) => a - b)[50]!;
  console.info(
    `${count} identities: first statuses after ${startMs.toFixed(1)} ms, a page of 100 ${median.toFixed(2)} ms`,
  );
});
