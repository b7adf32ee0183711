import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { freePortBlock, startSystem, type ApiClient, type System } from './support/processes';
import { query } from './support/both-or-neither';
import { sample } from './support/sample';

interface Judged {
  stream: string;
  type: string;
  cycle: string | null;
}

describe('the cycle of a running system', () => {
  let system: System;
  let api: ApiClient;
  const names = Array.from({ length: 40 }, (_, i) => `c${i}.acme.com`);
  const added: { id: string; answer: unknown }[] = [];

  beforeAll(async () => {
    system = await startSystem({
      env: { VERIFICATION_INTERVAL: '4s', SES_CALLS_PER_SECOND: '10000', RATE_LIMIT_PER_MINUTE: '100000' },
    });
    ({ api } = await system.team());
    for (const name of names) {
      const answer: unknown = (await api.add(name)).body;
      await system.sandbox.place(answer);
      added.push({ id: (answer as { data: { id: string } }).data.id, answer });
    }
  });
  let second: ChildProcess | undefined;
  /** Starts another verification-scheduler besides the one of the system. */
  const startSecond = async () => {
    const main = join(__dirname, '../dist/apps/verification-scheduler/main.js');
    const env = { ...system.settings, PORT: String(await freePortBlock()) };
    second = spawn(process.execPath, [main], { env, stdio: 'ignore' });
  };
  const killSecond = async () => {
    const child = second;
    second = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  afterAll(async () => {
    await killSecond();
    await system.end();
  });

  const statuses = async () => {
    const list = (await api.list('?limit=100')).body as { data: { verification_status: string }[] };
    const all = list.data.map((each) => each.verification_status);
    return Object.fromEntries(
      [...new Set(all)].map((status) => [status, all.filter((each) => each === status).length]),
    );
  };
  const allAre = (status: string) =>
    system.until(`all are ${status}`, async () => (await statuses())[status] === names.length);

  /** Counts the failure mails about each domain, in the order of the names. */
  const tellings = async () => {
    const failures = (await system.sandbox.mails()).filter(({ subject }) => subject.includes('no longer verified'));
    return added.map(({ id }) => failures.filter(({ text }) => text.includes(`/domains/${id}/verify`)).length);
  };

  const killed = sample(8, 20);
  it(`H16 H17 loses no domain and counts no strike twice when two schedulers are killed ${killed} times`, async () => {
    await allAre('verified');
    await startSecond();
    for (const { answer } of added) await system.sandbox.remove(answer);
    // Slow resolvers keep the scheduler in the middle of its slots.
    await system.sandbox.fault('doh-a', { mode: 'late', after_ms: 300 });
    for (let kill = 0; kill < killed; kill++) {
      await new Promise((later) => setTimeout(later, 150 + (kill % 5) * 130));
      if (kill % 2) {
        await system.kill('verification-scheduler');
        await system.start('verification-scheduler');
      } else {
        await killSecond();
        await startSecond();
      }
    }
    expect(second?.exitCode).toBeNull();
    await system.sandbox.allWell();
    await allAre('failed');

    const events = await query<Judged>(
      system.databaseUrl,
      `SELECT stream, type, data->>'cycle' AS cycle FROM events ORDER BY stream, version`,
    );
    for (const { id } of added) {
      const life = events.filter(({ stream }) => stream === id);
      const judged = life
        .filter(({ type, cycle }) => type === 'DnsChecked' && cycle !== null)
        .map(({ cycle }) => cycle);
      expect(new Set(judged).size).toBe(judged.length);
      const turns = life.map(({ type }) => type).filter((type) => /Verified|Lapsed|VerificationFailed/.test(type));
      expect(turns).toEqual(['DomainVerified', 'VerificationLapsed', 'VerificationFailed']);
    }
    await system.until('the owner is told of each', async () => (await tellings()).every((times) => times > 0));
    // Each failure is mailed once, and failures of the same cycle share a mail.
    expect(await tellings()).toEqual(names.map(() => 1));
    expect((await system.sandbox.mails()).length).toBeLessThan(names.length);
    await killSecond();
  });

  it('changes no status while all resolvers are down', async () => {
    for (const { id, answer } of added) {
      await system.sandbox.place(answer);
      expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified' } });
    }
    // Reads the version and the check times of a healthy domain. A look at it changes the times only.
    const look = async () => {
      const answer = await api.get(added[0]!.id);
      const body = answer.body as unknown;
      const { last_checked_at, next_check_at } = (body as { data: { last_checked_at: string; next_check_at: string } })
        .data;
      return {
        version: answer.headers.get('etag'),
        last: Date.parse(last_checked_at),
        next: Date.parse(next_check_at),
      };
    };
    const before = await look();
    await system.until('it is looked at again', async () => (await look()).last > before.last);
    const after = await look();
    expect(after.version).toBe(before.version);
    expect(after.next).toBeGreaterThanOrEqual(after.last);
    expect(after.next).toBeLessThan(after.last + 10_000);

    await system.sandbox.fault('doh-a', { mode: 'http_500' });
    await system.sandbox.fault('doh-b', { mode: 'refused' });
    await new Promise((later) => setTimeout(later, 9_000));
    expect(await statuses()).toEqual({ verified: names.length });
    const undecided = await api.verify(added[0]!.id);
    expect(undecided).toMatchObject({ status: 503, body: { error: { code: 'service_unavailable', retryable: true } } });
    expect(undecided.headers.get('retry-after')).toMatch(/^\d+$/);
    await system.sandbox.allWell();
  });

  it('mails each episode once, or once more for each kill of the notifier', async () => {
    await system.sandbox.clearMails();
    for (const { answer } of added) await system.sandbox.remove(answer);
    const kills = 5;
    await system.until('the first is told', async () => (await system.sandbox.mails()).length > 0);
    for (let kill = 0; kill < kills; kill++) {
      await system.kill('notifier');
      await system.start('notifier');
    }
    await allAre('failed');
    await system.until('all are told', async () => (await tellings()).every((times) => times > 0));
    expect(Math.max(...(await tellings()))).toBeLessThanOrEqual(1 + kills);
  });
});
