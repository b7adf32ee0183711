import { setTimeout as sleep } from 'node:timers/promises';
import { dueSlots, slotOf } from '@app/cycle';
import type { LiveDomain } from '@app/mail-domain';
import { idInSlot, interval, minute, schedulerFixture, until } from '../../test/support/scheduler';
import { watched } from './watched-domain';

const fixture = schedulerFixture();
const { add, clock, commands, events, look, looks, nextCycle, settled, start, status, zone } = fixture;

it('looks at each domain when its slot is due, not before', async () => {
  const { name } = await add('right', idInSlot(7));
  clock.now = Date.UTC(2026, 10, 23, 12);
  start();
  await settled();
  expect(looks).toEqual([name]);
  clock.now += 7 * minute - 1;
  await settled();
  await sleep(50);
  expect(looks).toHaveLength(1);
  // The clock is one millisecond after the slot was due, so that the slot has a lag until it is done.
  clock.now = Date.UTC(2026, 10, 23, 18) + 7 * minute + 1;
  await settled();
  expect(looks).toHaveLength(2);
});

it('begins no look after a stop, however long the rate limiter makes looks wait', async () => {
  for (let i = 0; i < 10; i++) await add('right', idInSlot(300));
  // A turn in an hour: a stop that waited for the next one would not end within the time of a test.
  const scheduler = start({ perSecond: 1 / 3_600 });
  await until(() => looks.length >= 1);
  await scheduler.beforeApplicationShutdown();
  expect(looks).toHaveLength(1);
});

describe('several schedulers', () => {
  it('H17 judge every domain once', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 40; i++) ids.push((await add('right', idInSlot(200 + (i % 8)))).id);
    for (let i = 0; i < 3; i++) start({ concurrency: 2, check: async (name) => (await sleep(5), look(name)) });
    await settled();
    expect([...looks].sort()).toEqual([...zone.keys()].sort());
    for (const name of zone.keys()) zone.set(name, 'broken');
    await nextCycle();
    expect(looks).toHaveLength(80);
    for (const id of ids)
      expect(await events(id)).toEqual(['DnsChecked', 'DomainVerified', 'DnsChecked', 'VerificationLapsed']);
  });

  it('count one strike even when two hold the same slot', async () => {
    const { id, name } = await add('right', idInSlot(210));
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    zone.set(name, 'broken');
    clock.now += interval;
    looks.length = 0;
    let finishLook: () => void = () => undefined;
    // This scheduler claims once, and does not notice that its lease ends.
    const slow = start({
      pollMs: 60_000,
      leaseMs: 600_000,
      check: async () => {
        await new Promise<void>((resolve) => (finishLook = resolve));
        return look(name);
      },
    });
    await until(() => looks.length === 1);
    // Ends the lease, as if the scheduler had been suspended for a long time.
    await fixture.pool.query(`UPDATE slots SET lease_token = NULL, lease_until = NULL WHERE slot = 210`);
    const second = start();
    await settled();
    await second.beforeApplicationShutdown();
    finishLook();
    await until(() => commands.length === 3);
    await slow.beforeApplicationShutdown();
    expect((await fixture.handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    expect((await events(id)).slice(2)).toEqual(['DnsChecked', 'VerificationLapsed']);
  });
});

describe('every domain in every cycle', () => {
  it('H24 is judged once, by any scheduler, even if the clock jumps forward and back', async () => {
    const added: { id: string; name: string }[] = [];
    for (let i = 0; i < 12; i++) added.push(await add('right', idInSlot(i * 30)));
    for (let i = 0; i < 2; i++) start({ concurrency: 3 });
    await settled();
    const looksOf = () => added.map(({ name }) => looks.filter((each) => each === name).length);
    expect(looksOf()).toEqual(added.map(() => 1));
    // Each case is a jump of the clock, within a cycle or across several, after which a domain gets at most one look.
    for (const [jump, each] of [
      [interval, 2],
      [2.5 * interval, 3],
      [-60 * minute, 3],
      [-interval, 3],
      [3 * interval, 4],
      [30 * 24 * 60 * minute, 5],
    ] as const) {
      clock.now += jump;
      await settled();
      expect(looksOf()).toEqual(added.map(() => each));
    }
    for (const { name } of added) zone.set(name, 'broken');
    await nextCycle();
    for (const back of [30 * minute, 2 * 60 * minute]) {
      clock.now -= back;
      await settled();
      clock.now += back;
      await settled();
    }
    for (const { id } of added)
      expect((await fixture.handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    await nextCycle();
    for (const { id } of added)
      expect((await events(id)).filter((type) => type !== 'DnsChecked')).toEqual([
        'DomainVerified',
        'VerificationLapsed',
        'VerificationFailed',
      ]);
  });

  it('H22 is looked at soon, even if another slot has many domains and slow looks', async () => {
    const crowd = Array.from({ length: 1_500 }, (_, i) => ({ id: `mdom_${i}`, name: `crowd${i}.example.com` }));
    for (const { name } of crowd) zone.set(name, 'right');
    const rows = crowd.map(({ id, name }) => {
      const state = { id, name, team: 'team_abc123', status: 'verified', lastAssessment: look(name) } as LiveDomain;
      return watched({ ...state, dkimTokens: [], dkimZone: 'x', sesRegion: 'eu-west-1' }, 1);
    });
    await fixture.pool.query(
      `INSERT INTO watched_domains (id, slot, name, team, dkim_tokens, dkim_zone, status, lapsed, look, version)
       SELECT id, 0, name, 'team_abc123', '{}', 'x', 'verified', false, look, 1
       FROM unnest($1::text[], $2::text[], $3::text[]) AS crowd(id, name, look)`,
      [rows.map(({ id }) => id), rows.map(({ name }) => name), rows.map(({ look }) => look)],
    );
    const few = [await add('right', idInSlot(1)), await add('right', idInSlot(2))];
    clock.now += minute * 10;
    start({
      concurrency: 8,
      check: async (name) => (await sleep(name.startsWith('crowd') ? 5 : 0), look(name)),
    });
    await settled();
    expect(new Set(looks).size).toBe(crowd.length + few.length);
    // At most one page of the large slot is looked at before the small slots.
    for (const { name } of few) expect(looks.indexOf(name)).toBeLessThan(200);
  });
});

describe('after a downtime', () => {
  it('runs only the newest cycle', async () => {
    const { id } = await add('right');
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    looks.length = 0;
    commands.length = 0;
    zone.forEach((_, name) => zone.set(name, 'broken'));
    clock.now += 10 * interval;
    start();
    await settled();
    expect(looks).toHaveLength(1);
    const { cycle } = dueSlots(clock.now, interval).find(({ slot }) => slot === slotOf(id))!;
    expect(commands).toMatchObject([{ data: { trigger: 'scheduled', cycle } }]);
  });

  it('leaves half an interval between two looks, so that a short fault does not count twice', async () => {
    const { id, name } = await add('right', idInSlot(0));
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    zone.set(name, 'broken');
    // Slot 0 was due at noon, and this is five minutes before it is due again.
    clock.now = Date.UTC(2026, 10, 23, 18) - 5 * minute;
    start();
    await settled();
    expect(await status(id)).toBe('pending');
    clock.now += 10 * minute;
    await sleep(100);
    expect(await status(id)).toBe('pending');
    clock.now += interval / 2;
    await settled();
    expect(await status(id)).toBe('failed');
  });
});

it('reports how late the cycle is', async () => {
  await add('right', idInSlot(0));
  clock.now = Date.UTC(2026, 10, 23, 12) + 2 * minute;
  let finishLook: () => void = () => undefined;
  const scheduler = start({
    check: async (name) => {
      await new Promise<void>((resolve) => (finishLook = resolve));
      return look(name);
    },
  });
  await until(() => looks.length === 1);
  expect(await scheduler.lagMs()).toBe(2 * minute);
  expect(() => scheduler.assertProgress(60_000)).not.toThrow();
  const stalled = () => {
    try {
      scheduler.assertProgress(20);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  await until(() => stalled() !== '');
  expect(stalled()).toContain('No slot has moved');
  finishLook();
});
