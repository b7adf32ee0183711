import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { DkimAnswer, SesDkimStatus } from '@app/mail-records';
import { SesUnavailable, type SesIdentity } from '@app/ses';
import { SesStatuses } from './ses-statuses';

beforeAll(() => void Logger.overrideLogger(false));

/** Simulates an SES whose listing may be older than its identities. */
class FakeSes {
  listed: Record<string, SesDkimStatus> = {};
  existing: Record<string, SesDkimStatus> = {};
  down = false;
  calls: string[] = [];
  listingTakes = () => Promise.resolve();
  pageTakes = () => Promise.resolve();

  async *list({ signal }: { signal?: AbortSignal } = {}) {
    this.calls.push('list');
    await this.listingTakes();
    if (this.down) throw new SesUnavailable('SES is down');
    for (const [name, status] of Object.entries(this.listed)) {
      await this.pageTakes();
      if (signal?.aborted) throw new SesUnavailable('SES does not answer');
      yield { name, status };
    }
  }

  get(name: string): Promise<SesIdentity | null> {
    this.calls.push(`get ${name}`);
    if (this.down) return Promise.reject(new SesUnavailable('SES is down'));
    const status = this.existing[name];
    if (!status) return Promise.resolve(null);
    const verification = { errorType: null, lastCheckedAt: null, lastSuccessAt: null };
    return Promise.resolve({
      name,
      status,
      domainId: null,
      tokens: [],
      hostedZone: '',
      mailFrom: null,
      standing: null,
      region: '',
      verification,
    });
  }
}

let now: number;
let ses: FakeSes;
let statuses: SesStatuses;

beforeEach(() => {
  now = 0;
  ses = new FakeSes();
  statuses = new SesStatuses(ses, { maxAgeMs: 60_000, timeoutMs: 1_000, clock: () => now });
});

it('answers for all domains from one listing for a minute', async () => {
  ses.listed = { 'a.com': 'success', 'b.com': 'failed' };
  expect(await Promise.all([statuses.of('a.com'), statuses.of('b.com'), statuses.of('a.com')])).toEqual([
    'success',
    'failed',
    'success',
  ]);
  now = 59_999;
  expect(await statuses.of('a.com')).toBe('success');
  expect(ses.calls).toEqual(['list']);
});

it('lists again when the listing is too old', async () => {
  ses.listed = { 'a.com': 'pending' };
  await statuses.of('a.com');
  ses.listed = { 'a.com': 'success' };
  now = 60_000;
  expect(await statuses.of('a.com')).toBe('success');
  expect(ses.calls).toEqual(['list', 'list']);
});

it('requests a domain that is not in the listing before it counts as missing', async () => {
  ses.existing = { 'new.com': 'pending' };
  expect(await statuses.of('new.com')).toBe('pending');
  expect(await statuses.of('gone.com')).toBe('identity_missing');
  expect(ses.calls).toEqual(['list', 'get new.com', 'get gone.com']);
});

it('knows no status when the listing fails, and does not overload SES', async () => {
  ses.down = true;
  expect(await Promise.all([statuses.of('a.com'), statuses.of('b.com')])).toEqual(['unavailable', 'unavailable']);
  now = 30_000;
  expect(await statuses.of('a.com')).toBe('unavailable');
  expect(ses.calls).toEqual(['list']);
  ses.down = false;
  ses.listed = { 'a.com': 'success' };
  now = 60_000;
  expect(await statuses.of('a.com')).toBe('success');
});

it('does not count a domain as missing when its request has no answer', async () => {
  ses.listed = { 'a.com': 'success' };
  await statuses.of('a.com');
  ses.down = true;
  expect(await statuses.of('b.com')).toBe('unavailable');
});

it('uses a slow listing for as long as it took, so that listings take at most half of the time', async () => {
  ses.listingTakes = () => Promise.resolve(void (now += 100_000));
  ses.listed = { 'a.com': 'success' };
  await statuses.of('a.com');
  now += 99_999;
  await statuses.of('a.com');
  expect(ses.calls).toEqual(['list']);
  now += 1;
  await statuses.of('a.com');
  expect(ses.calls).toEqual(['list', 'list']);
});

it('confirms a bad status by a request for the domain when it has something to lose', async () => {
  ses.listed = { 'a.com': 'pending', 'b.com': 'pending' };
  ses.existing = { 'a.com': 'success', 'b.com': 'success' };
  expect(await statuses.of('a.com', true)).toBe('success');
  expect(await statuses.of('b.com', false)).toBe('pending');
  expect(ses.calls).toEqual(['list', 'get a.com']);
});

it('answers from the old listing while a new one is slow, and fails a listing only when no page comes', async () => {
  statuses = new SesStatuses(ses, { maxAgeMs: 60_000, timeoutMs: 800, waitMs: 5, clock: () => now });
  const next = async (before: DkimAnswer) => {
    for (;;) {
      const answer = await statuses.of('a.com');
      if (answer !== before) return answer;
      await delay(10);
    }
  };
  ses.listed = { 'a.com': 'pending', 'b.com': 'success', 'c.com': 'success', 'd.com': 'success', 'e.com': 'success' };
  await statuses.of('a.com');
  ses.listed['a.com'] = 'success';
  // Each page arrives within the time-out, but all of them together take longer.
  ses.pageTakes = () => delay(200);
  now = 60_000;
  expect(await statuses.of('a.com')).toBe('pending');
  expect(await next('pending')).toBe('success');
  ses.pageTakes = () => delay(1_600);
  now = 180_000;
  expect(await statuses.of('a.com')).toBe('success');
  expect(await next('success')).toBe('unavailable');
  expect(ses.calls).toEqual(['list', 'list', 'list']);
});
