import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { dueSlot, slotCount, slotOf } from '@app/cycle';
import { query } from './support/both-or-neither';
import { freePortBlock, startSystem, type ApiClient, type System } from './support/processes';
import { sample } from './support/sample';

const minute = 60_000;
/**
 * The interval of the cycle: a slot is due every forty minutes, so that during the test slots only become due when the
 * clock jumps.
 */
const interval = 10 * 24 * 60 * minute;

describe('two schedulers that are killed repeatedly while the clock jumps', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-clock-'));
  const clockFile = join(directory, 'ahead');
  const added: { id: string; answer: unknown }[] = [];
  const schedulers: (ChildProcess | undefined)[] = [undefined, undefined];
  let system: System;
  let api: ApiClient;
  let aheadMs = 0;

  /** Moves the clock of the schedulers. The file is replaced by a rename, so that a process never reads half of it. */
  const jump = (ms: number) => {
    aheadMs += ms;
    writeFileSync(`${clockFile}.new`, String(aheadMs));
    renameSync(`${clockFile}.new`, clockFile);
  };
  const start = async (which: number) => {
    const dist = join(__dirname, '../dist');
    const env = { ...system.settings, PORT: String(await freePortBlock()), CLOCK_AHEAD_FILE: clockFile };
    const clock = join(__dirname, 'support/shifted-clock.cjs');
    const preloads = ['--require', clock, '--require', join(dist, 'local/leave-with-parent.js')];
    const main = join(dist, 'apps/verification-scheduler/main.js');
    schedulers[which] = spawn(process.execPath, [...preloads, main], {
      env,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
  };
  const kill = async (which: number) => {
    const child = schedulers[which];
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };

  const addVerified = async (name: string) => {
    const { body: answer } = (await api.add(name)) as { body: { data: { id: string } } };
    await system.sandbox.place(answer);
    const { id } = answer.data;
    const verify = async () => (await api.verify(id)).body as { data?: { status: string } };
    await system.until(`${name} is verified`, async () => (await verify()).data?.status === 'verified');
    added.push({ id, answer });
  };

  beforeAll(async () => {
    const slotLength = interval / slotCount;
    jump(slotLength + minute - (Date.now() % slotLength));
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning', 'notifier'],
      env: {
        VERIFICATION_INTERVAL: '10d',
        VERIFICATION_CONCURRENCY: '10',
        SES_CALLS_PER_SECOND: '10000',
        RATE_LIMIT_PER_MINUTE: '100000',
      },
    });
    ({ api } = await system.team());
    // A killed scheduler's slots wait until their leases end. There are enough domains that other slots remain for the
    // next scheduler.
    const names = Array.from({ length: 300 }, (_, i) => `k${i}.acme.com`);
    while (names.length > 0) await Promise.all(names.splice(0, 20).map(addVerified));
  });
  afterAll(async () => {
    await Promise.all([kill(0), kill(1)]);
    await system.end();
    rmSync(directory, { recursive: true });
  });

  /** Reads the cycles in which schedulers have recorded a look at each domain. */
  const judged = async () => {
    const rows = await query<{ stream: string; cycle: number }>(
      system.databaseUrl,
      `SELECT stream, (data->>'cycle')::float8 AS cycle FROM events
       WHERE type = 'DnsChecked' AND data->>'cycle' IS NOT NULL ORDER BY stream, version`,
    );
    return added.map(({ id }) => rows.filter(({ stream }) => stream === id).map(({ cycle }) => cycle));
  };
  const cyclesNow = () => added.map(({ id }) => dueSlot(slotOf(id), Date.now() + aheadMs, interval).cycle);
  /** Reads for each domain the last cycle that its slot has completed. */
  const finished = async () => {
    const rows = await query<{ cycle: number }>(
      system.databaseUrl,
      'SELECT completed_cycle::float8 AS cycle FROM slots ORDER BY slot',
    );
    return added.map(({ id }) => rows[slotOf(id)]!.cycle);
  };
  const watched = async () => (await query(system.databaseUrl, 'SELECT FROM watched_domains')).length;
  const leases = async () => {
    const rows = await query<{ token: string }>(
      system.databaseUrl,
      'SELECT lease_token AS token FROM slots WHERE lease_token IS NOT NULL',
    );
    return new Set(rows.map(({ token }) => token));
  };
  const nextCycle = async (jumpMs: number, kills = 0): Promise<number[]> => {
    await Promise.all([kill(0), kill(1)]);
    jump(jumpMs);
    const cycles = cyclesNow();
    const open = async () => (await finished()).filter((each, i) => each !== cycles[i]).length;
    await Promise.all([start(0), start(1)]);
    let before = new Set<string>();
    for (let n = 0; n < kills; n++) {
      // The kill comes while the scheduler is working on slots that it has taken.
      await system.until('more slots are taken', async () => [...(await leases())].some((each) => !before.has(each)));
      await sleep((n % 5) * 100);
      before = await leases();
      await kill(n % 2);
      // The clock goes back and forward again: a scheduler whose clock is behind must not look again at domains that
      // another has finished.
      jump(n % 2 ? interval / 8 : -interval / 8);
      await start(n % 2);
    }
    if (kills > 0) expect(await open()).toBeGreaterThan(0);
    await system.until('every slot is finished', async () => (await open()) === 0);
    return cycles;
  };

  it('judge every domain in every cycle, count no strike twice, and mail each episode once', async () => {
    await nextCycle(0);
    // A slot whose domains are not known yet is finished at once.
    await system.until('the schedulers know every domain', async () => (await watched()) === added.length);
    expect(await judged()).toEqual(added.map(() => []));
    for (const { answer } of added) await system.sandbox.remove(answer);
    // Slow resolvers keep the schedulers in the middle of their slots.
    await system.sandbox.fault('doh-a', { mode: 'late', after_ms: 400 });
    const first = await nextCycle(interval, sample(10, 20));
    await system.sandbox.allWell();
    const second = await nextCycle(3 * interval);
    expect(await judged()).toEqual(added.map((_, i) => [first[i], second[i]]));
    const types = await query<{ stream: string; type: string }>(
      system.databaseUrl,
      `SELECT stream, type FROM events WHERE type ~ 'Verified|Lapsed|VerificationFailed' ORDER BY stream, version`,
    );
    for (const { id } of added)
      expect(types.filter(({ stream }) => stream === id).map(({ type }) => type)).toEqual([
        'DomainVerified',
        'VerificationLapsed',
        'VerificationFailed',
      ]);
    const tellings = async () =>
      (await system.sandbox.mails())
        .filter(({ subject }) => subject.includes('no longer verified'))
        .reduce((sum, { subject }) => sum + Number(/^(\d+) domains/.exec(subject)?.[1] ?? 1), 0);
    await system.until('the owner is told of each', async () => (await tellings()) >= added.length);
    expect(await tellings()).toBe(added.length);
  });
});
