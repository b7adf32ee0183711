import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import { openPool } from '@app/database';
import type { SesDkimStatus } from '@app/mail-records';
import type { Pool } from 'pg';
import { until } from '../../test/support/scheduler';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { SesLister } from './ses-lister';
import { SesListings } from './ses-listings';
import { SesUnavailable, type Call } from './ses-identities';
import { sesMigrations } from './ses.migration';
import { SesStatuses, type SesStatusesOptions } from './ses-statuses';

let database: TestDatabase;
let pool: Pool;
let listings: SesListings;
let shard: string;
let shards = 0;

/** Simulates a shard of SES, with pages of two. */
class FakeSes {
  identities: Record<string, SesDkimStatus> = {};
  /** What requests for one identity find; what is listed when absent. */
  existing: Record<string, SesDkimStatus> | undefined;
  isDown = false;
  readonly calls: string[] = [];
  /** Runs before each page. */
  beforePage: () => Promise<unknown> = () => Promise.resolve();

  of = () => this;

  async *list({ signal }: Call = {}) {
    const all = Object.entries(this.identities).map(([name, status]) => ({ name, status }));
    this.calls.push('list');
    for (let at = 0; at < Math.max(1, all.length); at += 2) {
      await this.beforePage();
      if (this.isDown || signal?.aborted) throw new SesUnavailable('SES gives no answer');
      yield all.slice(at, at + 2);
    }
  }

  get = (name: string) => {
    this.calls.push(`get ${name}`);
    if (this.isDown) return Promise.reject(new SesUnavailable('SES gives no answer'));
    const status = (this.existing ?? this.identities)[name];
    return Promise.resolve(status ? ({ name, status } as never) : null);
  };
}

let ses: FakeSes;
const listers: SesLister[] = [];

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith(sesMigrations);
  pool = openPool(database.url);
  listings = new SesListings(pool);
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});
beforeEach(() => {
  ses = new FakeSes();
  shard = `shard-${(shards += 1)}`;
});
afterEach(() => stopAll());
const stopAll = () => Promise.all(listers.splice(0).map((lister) => lister.beforeApplicationShutdown()));

/** Starts a process that lists. */
function startLister(options: { refreshMs?: number; leaseMs?: number; timeoutMs?: number; on?: Pool } = {}): SesLister {
  const { refreshMs = 60_000, leaseMs = 10_000, timeoutMs = 60_000, on = pool } = options;
  const lister = new SesLister(new SesListings(on), ses, { shards: [shard], refreshMs, leaseMs, timeoutMs });
  lister.onApplicationBootstrap();
  listers.push(lister);
  return lister;
}

const rows = async () =>
  (
    await pool.query<{ name: string; status: SesDkimStatus; xmin: string }>(
      'SELECT name, status, xmin::text FROM ses_statuses WHERE shard = $1 ORDER BY name',
      [shard],
    )
  ).rows;
const stored = async () => Object.fromEntries((await rows()).map(({ name, status }) => [name, status]));
const known = async () => (await listings.read()).find((listing) => listing.shard === shard);
const wholeListing = () => until(async () => (await known())?.tookMs != null);
/** Has the next listing be due, and waits for its end. */
async function listAgain(): Promise<void> {
  const lists = ses.calls.filter((call) => call === 'list').length;
  await pool.query(`UPDATE ses_listings SET due_at = now() WHERE shard = $1`, [shard]);
  await until(() => ses.calls.filter((call) => call === 'list').length > lists);
  await until(
    async () =>
      (await pool.query('SELECT FROM ses_listings WHERE shard = $1 AND lease_token IS NULL', [shard])).rowCount === 1,
  );
}

describe('the list of identities', () => {
  it('is written by one process, and touches what has changed alone', async () => {
    ses.identities = {
      'a.com': 'success',
      'b.com': 'pending',
      'c.com': 'success',
      'd.com': 'failed',
      'x@e.com': 'success',
    };
    for (let i = 0; i < 3; i++) startLister({ refreshMs: 1_000 });
    await wholeListing();
    expect(ses.calls).toEqual(['list']);
    const before = await rows();
    expect(await known()).toMatchObject({ identities: 4, hasFailed: false });

    ses.identities = { 'a.com': 'success', 'b.com': 'success', 'd.com': 'failed', 'e.com': 'pending' };
    await listAgain();
    const after = await rows();
    expect(after.map(({ name, status }) => `${name} ${status}`)).toEqual([
      'a.com success',
      'b.com success',
      'd.com failed',
      'e.com pending',
    ]);
    const writtenAgain = after.filter(({ name, xmin }) => before.find((row) => row.name === name)?.xmin !== xmin);
    expect(writtenAgain.map(({ name }) => name)).toEqual(['b.com', 'e.com']);
  });

  it('has its age measured, and nobody that of a shard which has left the settings', async () => {
    await pool.query(`INSERT INTO ses_listings (shard, known_since) VALUES ($1, now() - interval '1 year')`, [
      `${shard}-gone`,
    ]);
    startLister();
    await wholeListing();
    const { values } = await register.getSingleMetric('sendmux_ses_listing_age_seconds')!.get();
    expect(values.map(({ labels }) => labels.shard)).toEqual([shard]);
  });

  it('forgets shards that nobody lists any more, and those of others that do never', async () => {
    ses.identities = { 'a.com': 'success', 'b.com': 'pending' };
    startLister();
    await wholeListing();
    await stopAll();
    const own = await stored();
    const due = (ago: string) =>
      pool.query(`UPDATE ses_listings SET due_at = now() - $2::interval WHERE shard = $1`, [shard, ago]);
    const [gone, unlistedMs] = [shard, 24 * 3_600_000];
    // What another process has listed within a day stays, and so does what one lists just now, or has in its settings.
    await due('23 hours');
    expect(await listings.forget(['other'], unlistedMs)).toBe(0);
    await due('25 hours');
    expect(await listings.forget([gone], unlistedMs)).toBe(0);
    await pool.query(`UPDATE ses_listings SET lease_until = now() + interval '10 s' WHERE shard = $1`, [gone]);
    expect(await listings.forget(['other'], unlistedMs)).toBe(0);
    expect(await stored()).toEqual(own);
    await pool.query(`UPDATE ses_listings SET lease_until = NULL WHERE shard = $1`, [gone]);
    shard = `${gone}-other`;
    startLister();
    await until(async () => (await pool.query('SELECT FROM ses_statuses WHERE shard = $1', [gone])).rowCount === 0);
    await wholeListing();
    expect(await stored()).toEqual(own);
    // It was never listed, should it come back: nothing is missing of it before it is listed again.
    await stopAll();
    shard = gone;
    expect(await known()).toBeUndefined();
    const statuses = new SesStatuses(listings, ses, { tooOldMs: 60_000, timeoutMs: 1_000, freshMs: 0 });
    expect(await statuses.listed('a.com', gone)).toBeUndefined();
    startLister();
    await wholeListing();
    expect(await stored()).toEqual(own);
  });

  it('keeps what it has when a listing breaks off, and goes on by another process', async () => {
    ses.identities = { 'a.com': 'success', 'b.com': 'success', 'c.com': 'success', 'd.com': 'success' };
    startLister();
    await wholeListing();
    await stopAll();
    // The process dies at the second page: nothing of it is heard any more.
    ses.identities = { 'a.com': 'failed', 'b.com': 'success', 'c.com': 'failed' };
    const dying = openPool(database.url, 2);
    let pages = 0;
    ses.beforePage = () => (++pages === 2 ? dying.end().then(() => new Promise(() => undefined)) : Promise.resolve());
    const lister = startLister({ leaseMs: 600, on: dying });
    listers.length = 0;
    await pool.query(`UPDATE ses_listings SET due_at = now() WHERE shard = $1`, [shard]);
    await until(() => pages === 2);
    void lister.beforeApplicationShutdown();
    expect(await stored()).toEqual({ 'a.com': 'failed', 'b.com': 'success', 'c.com': 'success', 'd.com': 'success' });
    startLister({ refreshMs: 500 });
    await until(async () => Object.keys(await stored()).length === 3);
    expect(await stored()).toEqual({ 'a.com': 'failed', 'b.com': 'success', 'c.com': 'failed' });
  });

  it('is written no more by a process that has lost it', async () => {
    ses.identities = { 'a.com': 'success', 'b.com': 'success', 'c.com': 'success' };
    await listings.add([shard]);
    const [lost] = await listings.claim([shard], 1, 0);
    const [held] = await listings.claim([shard], 1, 10_000);
    expect(await listings.claim([shard], 1, 10_000)).toEqual([]);
    await listings.save(held!, [{ name: 'a.com', status: 'success' }]);
    await expect(listings.save(lost!, [{ name: 'b.com', status: 'success' }])).rejects.toThrow(/Another process/);
    await expect(listings.removeUnseen(lost!, { has: () => false })).rejects.toThrow(/Another process/);
    await listings.end(lost!, 9, 60_000);
    await listings.release(lost!, true, 0);
    expect(await listings.renew(lost!, 10_000)).toBe(false);
    expect(await stored()).toEqual({ 'a.com': 'success' });
    expect(await known()).toMatchObject({ tookMs: null, hasFailed: false });
  });

  it('fails when no further page comes, and is tried again', async () => {
    ses.identities = { 'a.com': 'success' };
    ses.isDown = true;
    startLister({ refreshMs: 500 });
    await until(async () => (await known())?.hasFailed === true);
    ses.isDown = false;
    await wholeListing();
    expect(await known()).toMatchObject({ hasFailed: false, identities: 1 });
    await stopAll();
    ses.beforePage = () => sleep(500);
    ses.list = async function* (this: FakeSes, { signal }: Call = {}) {
      yield [{ name: 'b.com', status: 'success' as const }];
      await new Promise((silent) => signal!.addEventListener('abort', silent));
      throw new SesUnavailable('gave up');
    };
    startLister({ refreshMs: 500, timeoutMs: 200 });
    await until(async () => (await known())?.hasFailed === true);
    expect(await stored()).toEqual({ 'a.com': 'success', 'b.com': 'success' });
  });
});

describe('the status of a domain', () => {
  const of = async (name: string, hasSomethingToLose = false, options: Partial<SesStatusesOptions> = {}) => {
    const statuses = new SesStatuses(listings, ses, { tooOldMs: 60_000, timeoutMs: 1_000, freshMs: 0, ...options });
    const listedStatus = await listings.statusOf(shard, name);
    return statuses.of({ name, sesShard: shard, listedStatus }, hasSomethingToLose);
  };
  const list = async (identities: Record<string, SesDkimStatus>) => {
    ses.identities = identities;
    startLister();
    await wholeListing();
    await stopAll();
    ses.calls.length = 0;
  };
  const age = (by: string) =>
    pool.query(`UPDATE ses_listings SET known_since = known_since - $2::interval WHERE shard = $1`, [shard, by]);

  it('is that of the list, without a request', async () => {
    await list({ 'a.com': 'success', 'b.com': 'failed' });
    expect([await of('a.com', true), await of('a.com'), await of('b.com')]).toEqual(['success', 'success', 'failed']);
    expect(ses.calls).toEqual([]);
  });

  it('is asked for before a domain counts as missing', async () => {
    await list({});
    ses.existing = { 'new.com': 'pending' };
    expect([await of('new.com'), await of('gone.com')]).toEqual(['pending', 'identity_missing']);
    expect(ses.calls).toEqual(['get new.com', 'get gone.com']);
    ses.isDown = true;
    expect(await of('gone.com')).toBe('unavailable');
  });

  it('is confirmed when it is bad and the domain has something to lose', async () => {
    await list({ 'a.com': 'pending', 'b.com': 'pending' });
    ses.existing = { 'a.com': 'success', 'b.com': 'success' };
    expect([await of('a.com', true), await of('b.com')]).toEqual(['success', 'pending']);
    expect(ses.calls).toEqual(['get a.com']);
  });

  it('is known while listings fail, and no more when it is too old', async () => {
    await list({ 'a.com': 'success' });
    ses.isDown = true;
    startLister();
    await listAgain();
    expect((await known())!.hasFailed).toBe(true);
    expect(await of('a.com')).toBe('success');
    await age('1 hour');
    expect([await of('a.com'), await of('b.com')]).toEqual(['unavailable', 'unavailable']);
    // Listings that take long are as old as they can be.
    await pool.query(`UPDATE ses_listings SET took = '20 minutes' WHERE shard = $1`, [shard]);
    expect(await of('a.com')).toBe('success');
  });

  it('waits for the first listing of a shard alone, but for what that has seen already', async () => {
    let goOn: () => void = () => undefined;
    ses.identities = { 'a.com': 'success', 'b.com': 'success', 'c.com': 'pending' };
    let pages = 0;
    ses.beforePage = () => (++pages === 2 ? new Promise<void>((resolve) => (goOn = resolve)) : Promise.resolve());
    startLister();
    await until(() => pages === 2);
    expect(await of('a.com', true)).toBe('success');
    expect(await of('c.com', false, { firstListingMs: 20 })).toBe('unavailable');
    const waits = of('c.com');
    await sleep(50);
    goOn();
    expect(await waits).toBe('pending');
    expect(ses.calls).toEqual(['list']);
  });

  it('is unavailable at once when the first listing fails', async () => {
    ses.isDown = true;
    startLister();
    expect(await of('a.com')).toBe('unavailable');
  });

  it('is told to who asks of it by name, when it is good', async () => {
    await list({ 'a.com': 'success', 'b.com': 'pending' });
    const statuses = new SesStatuses(listings, ses, { tooOldMs: 60_000, timeoutMs: 1_000, freshMs: 0 });
    const since = () => Promise.all(['a.com', 'b.com', 'c.com'].map((name) => statuses.verifiedSince(name, shard)));
    await age('10 seconds');
    const [good, ...others] = await since();
    expect(others).toEqual([null, null]);
    expect(Date.now() - good!.getTime()).toBeGreaterThanOrEqual(10_000);
    expect(Date.now() - good!.getTime()).toBeLessThan(60_000);
    await age('1 hour');
    expect(await since()).toEqual([null, null, null]);
    expect(await statuses.verifiedSince('a.com', 'another')).toBeNull();
  });

  it('is told to a move as the list has it, once a shard was listed as a whole and not too long ago', async () => {
    const statuses = new SesStatuses(listings, ses, { tooOldMs: 60_000, timeoutMs: 1_000, freshMs: 0 });
    const listed = () => Promise.all(['a.com', 'b.com', 'c.com'].map((name) => statuses.listed(name, shard)));
    const unknown = [undefined, undefined, undefined];
    let goOn: () => void = () => undefined;
    let pages = 0;
    ses.identities = { 'a.com': 'success', 'b.com': 'pending' };
    expect(await listed()).toEqual(unknown);
    ses.beforePage = () => (++pages === 1 ? new Promise<void>((resolve) => (goOn = resolve)) : Promise.resolve());
    startLister();
    await until(() => pages === 1);
    const meanwhile = await listed();
    goOn();
    await wholeListing();
    await stopAll();
    expect(meanwhile).toEqual(unknown);
    expect(await listed()).toEqual(['success', 'pending', null]);
    await age('1 hour');
    expect(await listed()).toEqual(unknown);
  });
});
