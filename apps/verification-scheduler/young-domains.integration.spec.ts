import { setTimeout as sleep } from 'node:timers/promises';
import { youngSlot } from '@app/cycle';
import type { DomainCommand } from '@app/mail-domain';
import { idInSlot, interval, minute, schedulerFixture, until } from '../../test/support/scheduler';

const fixture = schedulerFixture();
const { add, canary, clock, look, looks, settled, start, status, zone } = fixture;

describe('a young domain', () => {
  const ages = [1, 2, 5, 10, 30].map((minutes) => minutes * minute);

  it('is looked at 1, 2, 5, 10 and 30 minutes after it was added, and no more once it is verified', async () => {
    const slot = 300;
    const { name } = await add('broken', idInSlot(slot));
    start({ youngAges: ages });
    await settled();
    looks.length = 0;
    const added = clock.now;
    const looksBy = [
      [0.9, 0],
      [1, 1],
      [1.9, 1],
      [2, 2],
      [4.9, 2],
      [5, 3],
      [9, 3],
      [10, 4],
      [29, 4],
      [30, 5],
      [60, 5],
    ] as const;
    for (const [minutes, count] of looksBy) {
      clock.now = added + minutes * minute;
      await until(() => looks.length >= count);
      await sleep(50);
      expect([minutes, looks.length]).toEqual([minutes, count]);
    }

    const second = await add('right', idInSlot(slot));
    const secondAdded = clock.now;
    clock.now = secondAdded + minute;
    await until(async () => (await status(second.id)) === 'verified');
    clock.now = secondAdded + 2 * minute;
    await sleep(100);
    expect(looks.filter((each) => each === second.name)).toHaveLength(1);
    expect(looks.filter((each) => each === name)).toHaveLength(5);
  });

  it('is looked at after all schedulers were down or the clock was set back, and by one of several', async () => {
    const { name, id } = await add('broken', idInSlot(300));
    const first = start({ youngAges: ages });
    await settled();
    const added = clock.now;
    clock.now = added + 5 * minute;
    await until(() => looks.length === 2);
    await first.beforeApplicationShutdown();
    clock.now = added + 11 * minute;
    zone.set(name, 'right');
    start({ youngAges: ages, check: async (each) => (await sleep(50), look(each)) });
    start({ youngAges: ages, check: async (each) => (await sleep(50), look(each)) });
    await until(async () => (await status(id)) === 'verified');
    expect(looks).toHaveLength(3);

    clock.now -= 60 * minute;
    const late = await add('right', idInSlot(300));
    clock.now += minute;
    await until(async () => (await status(late.id)) === 'verified');
  });

  it('is looked at again when its look could not be recorded', async () => {
    const { id, name } = await add('broken', idInSlot(300));
    let failing = false;
    const record = (command: DomainCommand) =>
      failing ? Promise.reject(new Error('no database')) : fixture.door.execute(command);
    start({ youngAges: ages, retryMs: 50, record });
    await settled();
    looks.length = 0;
    zone.set(name, 'right');
    failing = true;
    clock.now += minute;
    await until(() => looks.length >= 2);
    failing = false;
    await until(async () => (await status(id)) === 'verified');
  });

  it('is looked at again when no resolver answers, and not when it alone cannot be decided', async () => {
    const { id, name } = await add('broken', idInSlot(300));
    start({ youngAges: ages, retryMs: 50 });
    await settled();
    looks.length = 0;
    zone.set(name, 'silent');
    clock.now += minute;
    await until(() => looks.length >= 1);
    await sleep(200);
    expect(looks).toHaveLength(1);
    canary.isFound = false;
    clock.now += minute;
    await until(() => looks.length >= 3);
    zone.set(name, 'right');
    canary.isFound = true;
    await until(async () => (await status(id)) === 'verified');
  });

  it('is looked at once, even if the looks at all of them take longer than a lease', async () => {
    for (let i = 0; i < 12; i++) await add('broken', idInSlot(300));
    const slowly = { check: async (name: string) => (await sleep(80), look(name)), concurrency: 2, leaseMs: 150 };
    start({ youngAges: ages, ...slowly });
    start({ youngAges: ages, ...slowly });
    await settled();
    looks.length = 0;
    clock.now += minute;
    await until(() => looks.length >= 12);
    await sleep(300);
    expect(looks).toHaveLength(12);
  });

  it('is left to whoever has the lease', async () => {
    for (let i = 0; i < 60; i++) await add('broken', idInSlot(300));
    start({ youngAges: ages, check: async (name) => (await sleep(40), look(name)), concurrency: 1, leaseMs: 90 });
    await settled();
    looks.length = 0;
    clock.now += minute;
    await until(() => looks.length >= 2);
    await fixture.pool.query(
      `UPDATE slots SET lease_token = gen_random_uuid(), lease_until = now() + interval '1 hour' WHERE slot = $1`,
      [youngSlot],
    );
    await sleep(80);
    const begun = looks.length;
    await sleep(300);
    expect(looks.length).toBe(begun);
    expect(begun).toBeLessThan(60);
  });

  it('is looked at in the cycle as well', async () => {
    const { id, name } = await add('broken', idInSlot(1));
    start({ youngAges: ages });
    await settled();
    clock.now += minute / 2 + minute / 2;
    await until(() => looks.length >= 2);
    zone.set(name, 'right');
    clock.now += interval;
    await settled();
    expect(await status(id)).toBe('verified');
  });
});
