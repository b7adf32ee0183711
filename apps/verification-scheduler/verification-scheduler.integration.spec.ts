import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, Module, type INestMicroservice } from '@nestjs/common';
import type { CommandBus } from '@nestjs/cqrs';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { DomainCommandHandler } from '@app/commands';
import { migrate, openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations } from '@app/event-store';
import {
  AddDomain,
  checkNames,
  CompleteIdentityRepair,
  CompleteProvisioning,
  RecordCheck,
  RequestDeletion,
  type Assessment,
  type DkimAnswer,
  type DomainCommand,
  type LiveDomain,
  schemaVersions,
} from '@app/mail-domain';
import { consumeEvents, LogTransport, messagingMigrations } from '@app/messaging';
import { domainsProjection, readModelMigrations } from '@app/read-model';
import { createApp, loadSettings, newId } from '@app/runtime';
import type { Pool } from 'pg';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { cycleMigrations, dueSlots, slotOf, youngSlot } from '@app/cycle';
import { DomainEventsController } from './domain-events.controller';
import { Scheduler, type SchedulerOptions } from './scheduler';
import { Slots } from './slots';
import { VerificationSchedulerModule } from './verification-scheduler.module';
import { watched, WatchedDomains } from './watched-domains';

const interval = 6 * 3_600_000;
const minute = 60_000;

let database: TestDatabase;
let pool: Pool;
let log: EventLog;
let reader: INestMicroservice;
let handler: DomainCommandHandler;
let watchedDomains: WatchedDomains;
let now: number;
/** Names whose records are as they should be, broken, or not to be had. */
let zone: Map<string, 'right' | 'broken' | 'silent' | 'disputed'>;
let looks: string[];
let canaryIsFound: boolean;
let canaryAsked: number;
let commands: DomainCommand[];
let running: Scheduler[];
let pools: Pool[];

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await testDatabase();
  await migrate(database.url, [
    ...[...eventStoreMigrations, ...readModelMigrations, ...messagingMigrations],
    ...cycleMigrations,
  ]);
  pool = openPool(database.url);
  log = new EventLog(pool);
  handler = new DomainCommandHandler(new EventStore(pool, domainsProjection));
  watchedDomains = new WatchedDomains(pool);
});

afterAll(async () => {
  await log.close();
  await pool.end();
  await database.drop();
});

beforeEach(async () => {
  await pool.query(`
    TRUNCATE watched_domains;
    UPDATE slots SET completed_cycle = 0, completed_at = 0, lease_token = NULL, lease_until = NULL`);
  // Late events of the test before would bring its domains back.
  await pool.query('UPDATE checkpoints SET position = $1', [await log.head()]);
  now = Date.UTC(2026, 10, 23, 12) - 1;
  zone = new Map();
  looks = [];
  canaryIsFound = true;
  canaryAsked = 0;
  commands = [];
  running = [];
  pools = [];
  reader = await startReader();
});

afterEach(async () => {
  await Promise.all(running.map((scheduler) => scheduler.beforeApplicationShutdown()));
  await Promise.all(pools.map((own) => own.end()));
  await reader.close();
});

async function startReader(): Promise<INestMicroservice> {
  @Module({
    controllers: [DomainEventsController],
    providers: [
      { provide: DomainCommandHandler, useValue: handler },
      { provide: WatchedDomains, useValue: watchedDomains },
    ],
  })
  class ReaderModule {}
  const strategy = new LogTransport({ pool, log, group: 'verification-scheduler', startFrom: 'beginning' });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(ReaderModule, { strategy });
  await app.listen();
  return app;
}

function look(name: string): Assessment {
  const state = zone.get(name)!;
  if (state === 'disputed') return disputed(name);
  const outcome = ({ right: 'pass', broken: 'fail', silent: 'indeterminate' } as const)[state];
  return {
    sesDkimStatus: 'success',
    findings: checkNames.map((check) => ({
      ...{ check, outcome: check === 'mx' ? outcome : 'pass', code: state, message: state, name, type: 'MX' as const },
      ...{ expected: '10 mail.sendmux.ai', observed: [] },
    })),
  };
}

/** The resolvers agree about all but the ownership. */
const disputed = (name: string): Assessment => ({
  sesDkimStatus: 'success',
  findings: checkNames.map((check) => ({
    ...{ check, name, type: 'TXT' as const, message: '', expected: 'x', observed: [] },
    ...(check === 'verification_txt'
      ? { outcome: 'indeterminate' as const, code: 'resolver_disagreement' }
      : { outcome: 'pass' as const, code: 'ok' }),
  })),
});

interface Doubles extends Partial<SchedulerOptions> {
  check?: (name: string) => Promise<Assessment>;
  on?: Pool;
  record?: (command: DomainCommand) => Promise<unknown>;
  canary?: () => Promise<boolean>;
  /** By name; `success` of the others. */
  dkim?: ReadonlyMap<string, DkimAnswer>;
}

function start({
  check = (name) => Promise.resolve(look(name)),
  on = pool,
  record,
  canary = () => Promise.resolve(canaryIsFound),
  dkim = new Map(),
  ...options
}: Doubles = {}): Scheduler {
  const own = new DomainCommandHandler(new EventStore(on, domainsProjection));
  const execute = record ?? ((command: DomainCommand) => own.execute(command));
  const scheduler = new Scheduler(
    new Slots(on),
    new WatchedDomains(on),
    { check: ({ name }) => (looks.push(name), check(name)) },
    { of: (name) => Promise.resolve(dkim.get(name) ?? 'success') },
    { execute: (command: DomainCommand) => (commands.push(command), execute(command)) } as unknown as CommandBus,
    { name: 'canary.example', isFound: () => ((canaryAsked += 1), canary()) },
    { intervalMs: interval, concurrency: 10, pollMs: 10, youngAges: [], clock: () => now, ...options },
  );
  running.push(scheduler);
  scheduler.onApplicationBootstrap();
  return scheduler;
}

const context = () => ({ at: new Date(now).toISOString(), actor: 'test', correlationId: 'c' });
let domains = 0;

/** A provisioned domain that the scheduler knows. */
async function add(state: 'right' | 'broken', id = newId('mdom')): Promise<{ id: string; name: string }> {
  const name = `d${(domains += 1)}.example.com`;
  zone.set(name, state);
  await handler.execute(new AddDomain(id, { name, team: 'team_abc123', deadline: context().at }, context()));
  await handler.execute(
    new CompleteProvisioning(
      id,
      { dkimTokens: ['a', 'b', 'c'], dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'pending' },
      context(),
    ),
  );
  await known(id);
  return { id, name };
}

const idInSlot = (slot: number): string => {
  for (;;) {
    const id = newId('mdom');
    if (slotOf(id) === slot) return id;
  }
};

/** The scheduler's table is where the stream is. */
async function known(id: string): Promise<void> {
  const { version } = await handler.load(id);
  await until(async () => (await watchedDomains.version(id)) === version);
}

const verify = (id: string, name: string) =>
  handler.execute(new RecordCheck(id, { ...look(name), trigger: 'requested', cycle: null }, context()));

/** Every slot that is due has been looked at. */
const settled = (intervalMs = interval) => until(async () => (await new Slots(pool).lagMs(now, intervalMs)) === 0);

async function nextCycle(): Promise<void> {
  now += interval;
  await settled();
}

const status = async (id: string) => (await handler.load(id)).state.status;
const events = async (id: string) => {
  const { rows } = await pool.query<{ type: string }>('SELECT type FROM events WHERE stream = $1 ORDER BY version', [
    id,
  ]);
  return rows.map(({ type }) => type).slice(2);
};
const rowsOfTable = async () => (await pool.query<object>('SELECT * FROM watched_domains ORDER BY id')).rows;

async function until(condition: () => boolean | Promise<boolean>, withinMs = 10_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(5);
  }
}

describe('the life of a domain in the cycle', () => {
  it('H1 H3 H4 takes it from pending to verified, lapsed and failed, and then leaves it alone', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    expect(await status(id)).toBe('verified');
    zone.set(name, 'broken');
    await nextCycle();
    expect((await handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    await nextCycle();
    expect(await status(id)).toBe('failed');
    const before = looks.length;
    await nextCycle();
    expect(looks).toHaveLength(before);
    expect(await events(id)).toEqual([
      ...['DnsChecked', 'DomainVerified', 'DnsChecked', 'VerificationLapsed', 'DnsChecked', 'VerificationFailed'],
    ]);
  });

  it('H2 leaves a domain that was never verified pending, in silence', async () => {
    const { id } = await add('broken');
    start();
    await settled();
    for (let cycle = 0; cycle < 5; cycle++) await nextCycle();
    expect(looks).toHaveLength(6);
    expect(await events(id)).toEqual(['DnsChecked']);
    expect(await status(id)).toBe('pending');
  });

  it('H5 clears the strike of a domain that recovers', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    for (const state of ['broken', 'right', 'broken', 'right'] as const) {
      zone.set(name, state);
      await nextCycle();
    }
    expect(await status(id)).toBe('verified');
    expect(await events(id)).not.toContain('VerificationFailed');
  });

  it('H10 changes nothing when nobody could tell', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    zone.set(name, 'silent');
    await nextCycle();
    zone.set(name, 'broken');
    await nextCycle();
    zone.set(name, 'silent');
    await nextCycle();
    expect((await handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
  });

  it('looks again at a failed domain that its owner has mended and verified', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    zone.set(name, 'broken');
    await nextCycle();
    await nextCycle();
    await known(id);
    zone.set(name, 'right');
    await verify(id, name);
    await known(id);
    const before = looks.length;
    await nextCycle();
    expect(looks).toHaveLength(before + 1);
    expect(await status(id)).toBe('verified');
  });

  it('forgets a domain that is being deleted', async () => {
    const { id } = await add('right');
    await handler.execute(new RequestDeletion(id, context()));
    await until(async () => (await watchedDomains.version(id)) === 0);
    start();
    await settled();
    expect(looks).toEqual([]);
  });
});

it('begins no look after it was told to stop, however long the turns of a low rate take', async () => {
  for (let i = 0; i < 10; i++) await add('right', idInSlot(300));
  const scheduler = start({ perSecond: 5 });
  await until(() => looks.length >= 2);
  const stoppedAt = performance.now();
  await scheduler.beforeApplicationShutdown();
  expect(performance.now() - stoppedAt).toBeLessThan(1_000);
  const begun = looks.length;
  await sleep(500);
  expect(looks.length).toBe(begun);
});

describe('a young domain', () => {
  const ages = [1, 2, 5, 10, 30].map((minutes) => minutes * minute);

  it('is looked at 1, 2, 5, 10 and 30 minutes after it was added, and no more once it is verified', async () => {
    const slot = 300;
    const { name } = await add('broken', idInSlot(slot));
    start({ youngAges: ages });
    await settled();
    looks = [];
    const added = now;
    const looksBy = async (minutes: number) => {
      now = added + minutes * minute;
      await sleep(100);
      return looks.length;
    };
    const counts = [];
    for (const minutes of [0.9, 1, 1.9, 2, 4.9, 5, 9, 10, 29, 30, 60]) counts.push(await looksBy(minutes));
    expect(counts).toEqual([0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);

    const second = await add('right', idInSlot(slot));
    const secondAdded = now;
    now = secondAdded + minute;
    await until(async () => (await status(second.id)) === 'verified');
    now = secondAdded + 2 * minute;
    await sleep(100);
    expect(looks.filter((each) => each === second.name)).toHaveLength(1);
    expect(looks.filter((each) => each === name)).toHaveLength(5);
  });

  it('is not lost while every scheduler is away, or the clock is set back, and is looked at by one of several', async () => {
    const { name, id } = await add('broken', idInSlot(300));
    const first = start({ youngAges: ages });
    await settled();
    const added = now;
    now = added + 5 * minute;
    await until(() => looks.length === 2);
    await first.beforeApplicationShutdown();
    now = added + 11 * minute;
    zone.set(name, 'right');
    start({ youngAges: ages, check: async (each) => (await sleep(50), look(each)) });
    start({ youngAges: ages, check: async (each) => (await sleep(50), look(each)) });
    await until(async () => (await status(id)) === 'verified');
    expect(looks).toHaveLength(3);

    now -= 60 * minute;
    const late = await add('right', idInSlot(300));
    now += minute;
    await until(async () => (await status(late.id)) === 'verified');
  });

  it('is looked at again when its look could not be recorded', async () => {
    const { id, name } = await add('broken', idInSlot(300));
    let failing = false;
    const record = (command: DomainCommand) =>
      failing ? Promise.reject(new Error('no database')) : handler.execute(command);
    start({ youngAges: ages, retryMs: 50, record });
    await settled();
    looks = [];
    zone.set(name, 'right');
    failing = true;
    now += minute;
    await until(() => looks.length >= 2);
    failing = false;
    await until(async () => (await status(id)) === 'verified');
  });

  it('is looked at again when no resolver answers, and not when it alone cannot be decided', async () => {
    const { id, name } = await add('broken', idInSlot(300));
    start({ youngAges: ages, retryMs: 50 });
    await settled();
    looks = [];
    zone.set(name, 'silent');
    now += minute;
    await until(() => looks.length >= 1);
    await sleep(200);
    expect(looks).toHaveLength(1);
    canaryIsFound = false;
    now += minute;
    await until(() => looks.length >= 3);
    zone.set(name, 'right');
    canaryIsFound = true;
    await until(async () => (await status(id)) === 'verified');
  });

  it('is looked at once, though there are more of them than can be looked at in the time of a lease', async () => {
    for (let i = 0; i < 12; i++) await add('broken', idInSlot(300));
    const slowly = { check: async (name: string) => (await sleep(80), look(name)), concurrency: 2, leaseMs: 150 };
    start({ youngAges: ages, ...slowly });
    start({ youngAges: ages, ...slowly });
    await settled();
    looks = [];
    now += minute;
    await until(() => looks.length >= 12);
    await sleep(300);
    expect(looks).toHaveLength(12);
  });

  it('is left to whoever has the lease', async () => {
    for (let i = 0; i < 12; i++) await add('broken', idInSlot(300));
    start({ youngAges: ages, check: async (name) => (await sleep(40), look(name)), concurrency: 1, leaseMs: 90 });
    await settled();
    looks = [];
    now += minute;
    await until(() => looks.length >= 2);
    await pool.query(
      `UPDATE slots SET lease_token = gen_random_uuid(), lease_until = now() + interval '1 hour' WHERE slot = $1`,
      [youngSlot],
    );
    await sleep(80);
    const begun = looks.length;
    await sleep(300);
    expect(looks.length).toBe(begun);
    expect(begun).toBeLessThan(8);
  });

  it('has its turn in the cycle all the same', async () => {
    const { id, name } = await add('broken', idInSlot(1));
    start({ youngAges: ages });
    await settled();
    now += minute / 2 + minute / 2;
    await until(() => looks.length >= 2);
    zone.set(name, 'right');
    now += interval;
    await settled();
    expect(await status(id)).toBe('verified');
  });
});

it('sends no command for a healthy domain that looks as before', async () => {
  const { id } = await add('right');
  start();
  await settled();
  expect(commands).toHaveLength(1);
  for (let cycle = 0; cycle < 3; cycle++) await nextCycle();
  expect(looks).toHaveLength(4);
  expect(commands).toHaveLength(1);
  expect(await events(id)).toEqual(['DnsChecked', 'DomainVerified']);
});

it('decides once about a look that is kept in the form of another release, and not in every cycle', async () => {
  const { id } = await add('right');
  start();
  await settled();
  await known(id);
  const before = await rowsOfTable();
  await pool.query(`UPDATE watched_domains SET look = 'in another form'`);
  commands = [];
  for (let cycle = 0; cycle < 3; cycle++) await nextCycle();
  expect(commands).toHaveLength(1);
  expect(await rowsOfTable()).toEqual(before);
  expect(await events(id)).toEqual(['DnsChecked', 'DomainVerified']);
});

it('writes no row for healthy domains but those of the slots', async () => {
  for (let i = 0; i < 30; i++) await add('right', idInSlot(i % 3));
  start({ perSecond: 1_000 });
  await settled();
  // Who wrote each row last, and where it lies: a row that is written again, even as it was, changes both.
  const rows = async () =>
    Promise.all(
      ['watched_domains', 'domains', 'events'].map(
        async (table) => (await pool.query<object>(`SELECT xmin::text, ctid::text FROM ${table} ORDER BY ctid`)).rows,
      ),
    );
  for (const { id } of await watchedDomains.page(0, '', 500)) await known(id);
  const before = await rows();
  expect(before[0]).toHaveLength(30);
  looks = [];
  await nextCycle();
  expect(looks).toHaveLength(30);
  expect(await rows()).toEqual(before);
});

it('looks at each domain when its slot is due, not before', async () => {
  const { name } = await add('right', idInSlot(7));
  now = Date.UTC(2026, 10, 23, 12);
  start();
  await settled();
  expect(looks).toEqual([name]);
  now += 7 * minute - 1;
  await settled();
  await sleep(50);
  expect(looks).toHaveLength(1);
  // A millisecond late, so that it has a lag until it is done.
  now = Date.UTC(2026, 10, 23, 18) + 7 * minute + 1;
  await settled();
  expect(looks).toHaveLength(2);
});

it('reads the events again, and old ones late, without a change', async () => {
  const first = await add('right');
  const second = await add('broken');
  start();
  await settled();
  zone.set(first.name, 'broken');
  await nextCycle();
  await handler.execute(new RequestDeletion(second.id, context()));
  await known(first.id);
  await until(async () => (await watchedDomains.version(second.id)) === 0);
  const before = await rowsOfTable();
  await reader.close();
  await pool.query(`UPDATE checkpoints SET position = 0 WHERE name = 'verification-scheduler'`);
  await pool.query(`DELETE FROM watched_domains`);
  reader = await startReader();
  const head = await log.head();
  await until(async () => {
    const { rows } = await pool.query<{ position: string }>('SELECT position FROM checkpoints');
    return Number(rows[0]!.position) >= head;
  });
  const after = (await rowsOfTable()) as { id: string }[];
  expect(after.filter(({ id }) => id === first.id || id === second.id)).toEqual(before);
});

describe('a slot that is not finished', () => {
  it('H16 is done again after a crash in the middle: no domain is lost, no strike is counted twice', async () => {
    const slot = 100;
    const ids: string[] = [];
    for (let i = 0; i < 9; i++) ids.push((await add('right', idInSlot(slot))).id);
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    for (const name of zone.keys()) zone.set(name, 'broken');
    now += interval;
    const own = openPool(database.url);
    pools.push(own);
    const handlerOfCrashed = new DomainCommandHandler(new EventStore(own, domainsProjection));
    let left = 6;
    let reached: () => void = () => undefined;
    const seventh = new Promise<void>((resolve) => (reached = resolve));
    const crashed = start({
      on: own,
      leaseMs: 300,
      concurrency: 1,
      // The seventh is never recorded: the process is dead.
      record: (command) => (left-- > 0 ? handlerOfCrashed.execute(command) : (reached(), new Promise(() => undefined))),
    });
    looks = [];
    await seventh;
    const never = () => new Promise(() => undefined);
    Object.assign(own, { query: never, connect: never });
    const lapsed = async () => Promise.all(ids.map(async (id) => (await status(id)) === 'pending'));
    expect((await lapsed()).filter(Boolean)).toHaveLength(6);

    start();
    await settled();
    for (const id of ids) expect((await handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    expect(looks).toHaveLength(9 + 9);
    await nextCycle();
    for (const id of ids)
      expect((await events(id)).slice(2)).toEqual([
        'DnsChecked',
        'VerificationLapsed',
        'DnsChecked',
        'VerificationFailed',
      ]);
    running = running.filter((scheduler) => scheduler !== crashed);
  });

  it('goes to another scheduler at once when its own stops', async () => {
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

  it('stays open for the domain that could not be judged, and loses no other', async () => {
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
    // The other one is not looked at again: a second look so soon could not be told from the next cycle's.
    expect(looks.filter((name) => name === good.name)).toHaveLength(1);
  });
});

describe('an outage of ours', () => {
  let errors: jest.SpyInstance;
  beforeEach(() => (errors = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined)));
  afterEach(() => errors.mockRestore());
  const stateOf = async ({ id }: { id: string }) => (await handler.load(id)).state;

  it('H21 judges nobody while the canary is not found, and everybody when it is again in the same cycle', async () => {
    const { id, name } = await add('right');
    const { id: other } = await add('right');
    const scheduler = start({ retryMs: 20 });
    await settled();
    looks = [];
    canaryIsFound = false;
    zone.set(name, 'broken');
    now += interval;
    await until(() => canaryAsked > 8);
    expect(looks).toEqual([]);
    expect(await scheduler.lagMs()).toBeGreaterThan(0);
    expect(errors).toHaveBeenCalledTimes(1);
    canaryIsFound = true;
    await settled();
    expect(looks).toHaveLength(2);
    expect(await stateOf({ id })).toMatchObject({ status: 'pending', strikes: 1 });
    expect(await status(other)).toBe('verified');
    expect(errors).toHaveBeenCalledTimes(1);
  });

  it('H21 forgets what it saw when the canary is lost while it was looking', async () => {
    const { id, name } = await add('right');
    start({
      retryMs: 20,
      check: (each) => ((canaryIsFound &&= zone.get(each) === 'right'), Promise.resolve(look(each))),
    });
    await settled();
    zone.set(name, 'broken');
    now += interval;
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
    now += interval;
    await until(() => looks.length > 60);
    expect(await scheduler.lagMs()).toBeGreaterThan(0);
    for (const each of added) expect(await stateOf(each)).toMatchObject({ status: 'verified' });
    expect(errors).toHaveBeenCalledTimes(1);
    expect(commands).toHaveLength(recorded);
    // One fewer may well be the customers' own doing.
    zone.set(added[0]!.name, 'right');
    await settled();
    expect(await status(pending.id)).toBe('verified');
    expect(await Promise.all(added.map(({ id }) => status(id)))).toEqual([
      'verified',
      ...Array<string>(9).fill('pending'),
    ]);
    expect(errors).toHaveBeenCalledTimes(1);
  });

  it('takes all resolvers being down for twelve hours for nobody’s failure: no transition, no command, one alarm', async () => {
    const added = [];
    for (let i = 0; i < 12; i++) added.push(await add('right', idInSlot(i * 30)));
    const scheduler = start({ retryMs: 20 });
    await settled();
    const recorded = commands.length;
    canaryIsFound = false;
    canaryAsked = 0;
    for (const { name } of added) zone.set(name, 'silent');
    for (let hours = 0; hours < 12; hours++) {
      now += 60 * minute;
      await sleep(50);
    }
    await until(() => canaryAsked > 24);
    expect(await scheduler.lagMs()).toBeGreaterThan(5 * 60 * minute);
    expect(commands).toHaveLength(recorded);
    for (const { id } of added) expect(await status(id)).toBe('verified');
    expect(errors).toHaveBeenCalledTimes(1);
  }, 30_000);
});

it('G2 tells an operator of an ownership that only one resolver goes on seeing, and verifies nothing', async () => {
  const warnings = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  const told = () => warnings.mock.calls.filter(([text]) => String(text).includes('who owns'));
  const { id, name } = await add('broken', idInSlot(0));
  zone.set(name, 'disputed');
  start();
  await settled();
  await known(id);
  // It may be propagating.
  expect(told()).toEqual([]);
  await nextCycle();
  await nextCycle();
  expect(told()).toHaveLength(2);
  expect(told()[0]![0]).toContain(`${name} (${id})`);
  expect(await status(id)).toBe('pending');
  warnings.mockRestore();
});

describe('F9 a domain that SES has lost', () => {
  const repairs = () => commands.filter(({ type }) => type === 'RequestIdentityRepair');

  it('is asked to be repaired, once until it is, and moves nowhere for that', async () => {
    const { id, name } = await add('right', idInSlot(0));
    const { id: other } = await add('right', idInSlot(0));
    start();
    await settled();
    const dkim = new Map<string, DkimAnswer>([[name, 'identity_missing']]);
    await running.pop()!.beforeApplicationShutdown();
    start({ dkim });
    zone.set(name, 'silent');
    await nextCycle();
    await nextCycle();
    expect(repairs().map(({ domainId, data }) => ({ domainId, data }))).toEqual(
      [1, 2].map(() => ({ domainId: id, data: { fault: 'missing' } })),
    );
    expect((await events(id)).filter((type) => type.startsWith('Identity'))).toEqual(['IdentityRepairRequested']);
    expect([await status(id), await status(other)]).toEqual(['verified', 'verified']);

    const identity = { dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'pending' as const };
    await handler.execute(new CompleteIdentityRepair(id, { ...identity, dkimTokens: ['d', 'e', 'f'] }, context()));
    await known(id);
    expect((await watchedDomains.page(0, '', 10)).find((domain) => domain.id === id)!.dkimTokens).toEqual([
      'd',
      'e',
      'f',
    ]);
  });

  it('is not believed of many at once: that is another account, or ours to mend', async () => {
    const errors = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const dkim = new Map<string, DkimAnswer>();
    for (let i = 0; i < 12; i++) dkim.set((await add('right', idInSlot(0))).name, 'identity_missing');
    const scheduler = start({ dkim, retryMs: 20 });
    await until(() => errors.mock.calls.length > 0);
    expect(errors.mock.calls[0]![0]).toMatch(/not in SES as they should be/);
    expect(repairs()).toEqual([]);
    expect(await scheduler.lagMs()).toBeGreaterThan(0);
    errors.mockRestore();
  });
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
    now += interval;
    looks = [];
    let finishLook: () => void = () => undefined;
    start({
      check: async () => {
        await new Promise<void>((resolve) => (finishLook = resolve));
        return look(name);
      },
    });
    await until(() => looks.length === 1);
    // Its lease ends, as if it had been asleep for long.
    await pool.query(`UPDATE slots SET lease_token = NULL, lease_until = NULL WHERE slot = 210`);
    const second = start();
    await settled();
    await second.beforeApplicationShutdown();
    finishLook();
    await until(() => commands.length === 3);
    await running[1]!.beforeApplicationShutdown();
    expect((await handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    expect((await events(id)).slice(2)).toEqual(['DnsChecked', 'VerificationLapsed']);
  });
});

describe('every domain in every cycle', () => {
  it('H24 is judged once, by whichever scheduler, though the clock jumps forward and back', async () => {
    const added: { id: string; name: string }[] = [];
    for (let i = 0; i < 12; i++) added.push(await add('right', idInSlot(i * 30)));
    for (let i = 0; i < 2; i++) start({ concurrency: 3 });
    await settled();
    const looksOf = () => added.map(({ name }) => looks.filter((each) => each === name).length);
    expect(looksOf()).toEqual(added.map(() => 1));
    /** Whole cycles, with jumps within and across them; each brings everybody one look at most. */
    for (const [jump, each] of [
      [interval, 2],
      [2.5 * interval, 3],
      [-60 * minute, 3],
      [-interval, 3],
      [3 * interval, 4],
      [30 * 24 * 60 * minute, 5],
    ] as const) {
      now += jump;
      await settled();
      expect(looksOf()).toEqual(added.map(() => each));
    }
    for (const { name } of added) zone.set(name, 'broken');
    await nextCycle();
    for (const back of [30 * minute, 2 * 60 * minute]) {
      now -= back;
      await settled();
      now += back;
      await settled();
    }
    for (const { id } of added) expect((await handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    await nextCycle();
    for (const { id } of added)
      expect((await events(id)).filter((type) => type !== 'DnsChecked')).toEqual([
        ...['DomainVerified', 'VerificationLapsed', 'VerificationFailed'],
      ]);
  }, 30_000);

  it('H22 comes soon, however many share another slot, and however long the looks at those take', async () => {
    const crowd = Array.from({ length: 1_500 }, (_, i) => ({ id: `mdom_${i}`, name: `crowd${i}.example.com` }));
    for (const { name } of crowd) zone.set(name, 'right');
    const rows = crowd.map(({ id, name }) => {
      const state = { id, name, team: 'team_abc123', status: 'verified', lastAssessment: look(name) } as LiveDomain;
      return watched({ ...state, dkimTokens: [], dkimZone: 'x' }, 1);
    });
    await pool.query(
      `INSERT INTO watched_domains (id, slot, name, team, dkim_tokens, dkim_zone, status, lapsed, look, version)
       SELECT id, 0, name, 'team_abc123', '{}', 'x', 'verified', false, look, 1
       FROM unnest($1::text[], $2::text[], $3::text[]) AS crowd(id, name, look)`,
      [rows.map(({ id }) => id), rows.map(({ name }) => name), rows.map(({ look }) => look)],
    );
    const few = [await add('right', idInSlot(1)), await add('right', idInSlot(2))];
    now += minute * 10;
    start({
      concurrency: 8,
      check: async (name) => (await sleep(name.startsWith('crowd') ? 5 : 0), look(name)),
    });
    await settled();
    expect(new Set(looks).size).toBe(crowd.length + few.length);
    // At most a page of the crowd goes first.
    for (const { name } of few) expect(looks.indexOf(name)).toBeLessThan(200);
  }, 30_000);
});

describe('after a downtime', () => {
  it('does only the newest cycle', async () => {
    const { id } = await add('right');
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    looks = [];
    commands = [];
    zone.forEach((_, name) => zone.set(name, 'broken'));
    now += 10 * interval;
    start();
    await settled();
    expect(looks).toHaveLength(1);
    const { cycle } = dueSlots(now, interval).find(({ slot }) => slot === slotOf(id))!;
    expect(commands).toMatchObject([{ data: { trigger: 'scheduled', cycle } }]);
  });

  it('leaves half an interval between two looks, so that one short fault is not found twice', async () => {
    const { id, name } = await add('right', idInSlot(0));
    const first = start();
    await settled();
    await first.beforeApplicationShutdown();
    zone.set(name, 'broken');
    // Slot 0 was due at noon, and is done five minutes before it is due again.
    now = Date.UTC(2026, 10, 23, 18) - 5 * minute;
    start();
    await settled();
    expect(await status(id)).toBe('pending');
    now += 10 * minute;
    await sleep(100);
    expect(await status(id)).toBe('pending');
    now += interval / 2;
    await settled();
    expect(await status(id)).toBe('failed');
  });
});

it('tells how late the cycle is', async () => {
  await add('right', idInSlot(0));
  now = Date.UTC(2026, 10, 23, 12) + 2 * minute;
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
  await sleep(30);
  expect(() => scheduler.assertProgress(20)).toThrow('No slot has moved');
  finishLook();
});

it('runs as an app that is live and ready, follows the events and shows its metrics', async () => {
  await reader.close();
  const env = { DATABASE_URL: database.url, MAIL_SERVER_DATABASE_URL: database.url, SMTP_URL: 'smtp://127.0.0.1:1' };
  const settings = loadSettings({ ...env, DOH_RESOLVERS: 'http://127.0.0.1:1/dns-query', LOG_LEVEL: 'silent' });
  const app = await createApp({
    ...{ host: '127.0.0.1', port: 0, module: VerificationSchedulerModule.forRoot(settings) },
    configure: (created) => consumeEvents(created, 'verification-scheduler', schemaVersions, settings),
  });
  try {
    await app.init();
    const { id } = await add('right');
    expect(await watchedDomains.version(id)).toBe(2);
    for (const path of ['/health/live', '/health/ready']) expect((await app.inject(path)).statusCode).toBe(200);
    expect((await app.inject('/metrics')).body).toContain('sendmux_verification_slot_lag_seconds{app=');
  } finally {
    await app.close();
    reader = await startReader();
  }
});
