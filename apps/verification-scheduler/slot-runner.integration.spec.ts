import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { DomainCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { domainsProjection } from '@app/read-model';
import { commandsTo } from '../../test/support/commands';
import { idInSlot, interval, minute, schedulerFixture, until } from '../../test/support/scheduler';

const fixture = schedulerFixture();
const { add, canary, clock, commands, events, look, looks, nextCycle, running, pools, settled, start, status, zone } =
  fixture;

describe('a slot that is not finished', () => {
  it('H16 is run again after a crash: no domain is lost, and no strike is counted twice', async () => {
    const slot = 100;
    const ids: string[] = [];
    for (let i = 0; i < 9; i++) ids.push((await add('right', idInSlot(slot))).id);
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    for (const name of zone.keys()) zone.set(name, 'broken');
    clock.now += interval;
    const own = openPool(fixture.database.url);
    pools.add(own);
    const commandsOfCrashed = commandsTo(new DomainCommandHandler(new EventStore(own, domainsProjection)));
    let left = 6;
    let reached: () => void = () => undefined;
    const seventh = new Promise<void>((resolve) => (reached = resolve));
    const crashed = start({
      on: own,
      leaseMs: 300,
      concurrency: 1,
      // From the seventh command on nothing is recorded, as if the process were dead.
      record: (command) =>
        left-- > 0 ? commandsOfCrashed.execute(command) : (reached(), new Promise(() => undefined)),
    });
    looks.length = 0;
    await seventh;
    const never = () => new Promise(() => undefined);
    Object.assign(own, { query: never, connect: never });
    const lapsed = async () => Promise.all(ids.map(async (id) => (await status(id)) === 'pending'));
    expect((await lapsed()).filter(Boolean)).toHaveLength(6);

    start();
    await settled();
    for (const id of ids)
      expect((await fixture.handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    expect(looks).toHaveLength(9 + 9);
    await nextCycle();
    for (const id of ids)
      expect((await events(id)).slice(2)).toEqual([
        'DnsChecked',
        'VerificationLapsed',
        'DnsChecked',
        'VerificationFailed',
      ]);
    running.delete(crashed);
  });

  it('is taken by another scheduler at once when its own stops', async () => {
    const slot = 101;
    for (let i = 0; i < 4; i++) await add('right', idInSlot(slot));
    let finishLook: () => void = () => undefined;
    const stopped = start({
      concurrency: 1,
      leaseMs: 60_000,
      check: async (name) => {
        await new Promise<void>((resolve) => (finishLook = resolve));
        return look(name);
      },
    });
    await until(() => looks.length === 1);
    const stopping = stopped.beforeApplicationShutdown();
    finishLook();
    await stopping;
    expect(looks).toHaveLength(1);
    start();
    await settled();
    expect(looks).toHaveLength(1 + 4);
  });

  it('stays open for the domain that could not be judged, and does not judge the others again', async () => {
    const short = 3_600;
    const slot = 102;
    const bad = await add('right', idInSlot(slot));
    const good = await add('right', idInSlot(slot));
    let failures = 2;
    start({
      intervalMs: short,
      check: (name) =>
        name === bad.name && failures-- > 0 ? Promise.reject(new Error('the unexpected')) : Promise.resolve(look(name)),
    });
    await settled(short);
    expect([await status(bad.id), await status(good.id)]).toEqual(['verified', 'verified']);
    expect(looks.filter((name) => name === bad.name)).toHaveLength(3);
    // The other domain gets no second look: so soon, it would count as the look of the next cycle.
    expect(looks.filter((name) => name === good.name)).toHaveLength(1);
  });
});

describe('an outage of ours', () => {
  let errors: jest.SpyInstance;
  beforeEach(() => (errors = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined)));
  afterEach(() => errors.mockRestore());
  const stateOf = async ({ id }: { id: string }) => (await fixture.handler.load(id)).state;

  it('H21 judges no domain while the canary is not found, and every domain once it is found in the same cycle', async () => {
    const { id, name } = await add('right');
    const { id: other } = await add('right');
    const scheduler = start({ retryMs: 20 });
    await settled();
    looks.length = 0;
    canary.isFound = false;
    zone.set(name, 'broken');
    clock.now += interval;
    await until(() => canary.asked > 8);
    expect(looks).toEqual([]);
    expect(await scheduler.lagMs()).toBeGreaterThan(0);
    expect(errors).toHaveBeenCalledTimes(1);
    canary.isFound = true;
    await settled();
    expect(looks).toHaveLength(2);
    expect(await stateOf({ id })).toMatchObject({ status: 'pending', strikes: 1 });
    expect(await status(other)).toBe('verified');
    expect(errors).toHaveBeenCalledTimes(1);
  });

  it('H21 discards its assessments when the canary is lost during the looks', async () => {
    const { id, name } = await add('right');
    start({
      retryMs: 20,
      check: (each) => ((canary.isFound &&= zone.get(each) === 'right'), Promise.resolve(look(each))),
    });
    await settled();
    zone.set(name, 'broken');
    clock.now += interval;
    await until(() => errors.mock.calls.length === 1);
    expect(looks).toHaveLength(2);
    expect(await stateOf({ id })).toMatchObject({ status: 'verified' });
    expect(commands).toHaveLength(1);
  });

  it('H21 stops a slot in which more than a fifth of the verified domains fail at once, with one alarm', async () => {
    const slot = 150;
    const added = [];
    for (let i = 0; i < 10; i++) added.push(await add('right', idInSlot(slot)));
    const pending = await add('broken', idInSlot(slot));
    const scheduler = start({ retryMs: 20 });
    await settled();
    const recorded = commands.length;
    for (const { name } of added) zone.set(name, 'broken');
    zone.set(pending.name, 'right');
    clock.now += interval;
    await until(() => looks.length > 60);
    expect(await scheduler.lagMs()).toBeGreaterThan(0);
    for (const each of added) expect(await stateOf(each)).toMatchObject({ status: 'verified' });
    expect(errors).toHaveBeenCalledTimes(1);
    expect(commands).toHaveLength(recorded);
    // One failure fewer is attributed to the customers.
    zone.set(added[0]!.name, 'right');
    await settled();
    expect(await status(pending.id)).toBe('verified');
    expect(await Promise.all(added.map(({ id }) => status(id)))).toEqual([
      'verified',
      ...Array<string>(9).fill('pending'),
    ]);
    expect(errors).toHaveBeenCalledTimes(1);
  });

  it('fails no domain when all resolvers are down for twelve hours: no transition, no command, one alarm', async () => {
    const added = [];
    for (let i = 0; i < 12; i++) added.push(await add('right', idInSlot(i * 30)));
    const scheduler = start({ retryMs: 20 });
    await settled();
    const recorded = commands.length;
    canary.isFound = false;
    canary.asked = 0;
    for (const { name } of added) zone.set(name, 'silent');
    for (let hours = 0; hours < 12; hours++) {
      clock.now += 60 * minute;
      await sleep(50);
    }
    await until(() => canary.asked > 24);
    expect(await scheduler.lagMs()).toBeGreaterThan(5 * 60 * minute);
    expect(commands).toHaveLength(recorded);
    for (const { id } of added) expect(await status(id)).toBe('verified');
    expect(errors).toHaveBeenCalledTimes(1);
  });
});
