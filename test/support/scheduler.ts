import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, Module, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { DomainCommandHandler, type Commands, type Decided } from '@app/commands';
import { cycleMigrations, slotOf } from '@app/cycle';
import { migrate, openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations } from '@app/event-store';
import type { CommandContext } from '@app/decider';
import { AddDomain, CompleteProvisioning, RecordCheck, type DomainCommand } from '@app/mail-domain';
import { checkNames, type Assessment, type DkimAnswer } from '@app/mail-records';
import { LogTransport, messagingMigrations } from '@app/messaging';
import { domainsProjection, readModelMigrations } from '@app/read-model';
import { newId } from '@app/runtime';
import { sesMigrations } from '@app/ses';
import type { Pool } from 'pg';
import { DomainEventsController } from '../../apps/verification-scheduler/domain-events.controller';
import { Scheduler } from '../../apps/verification-scheduler/scheduler';
import type { SchedulerOptions } from '../../apps/verification-scheduler/scheduler-options';
import { Slots } from '../../apps/verification-scheduler/slots';
import { WatchedDomains } from '../../apps/verification-scheduler/watched-domains';
import { commandsTo } from './commands';
import { testDatabase, type TestDatabase } from './test-database';

export const interval = 6 * 3_600_000;
export const minute = 60_000;

/** Replaces parts and options of one scheduler. */
export interface Doubles extends Partial<SchedulerOptions> {
  readonly check?: (name: string) => Promise<Assessment>;
  readonly on?: Pool;
  readonly record?: (command: DomainCommand) => Promise<Decided>;
  /** The DKIM status by domain name; `success` for other names. */
  readonly dkim?: ReadonlyMap<string, DkimAnswer>;
}

/** Runs schedulers on a database of their own. Tests set the records of the domains and the clock. */
class SchedulerFixture {
  database!: TestDatabase;
  pool!: Pool;
  log!: EventLog;
  handler!: DomainCommandHandler;
  door!: Commands;
  watchedDomains!: WatchedDomains;
  /** Follows the events, as the app does. */
  reader!: INestMicroservice;
  readonly clock = { now: 0 };
  readonly canary = { isFound: true, asked: 0 };
  /**
   * The records of each domain name: as they should be, broken, without an answer, or agreed by all resolvers except
   * for the ownership.
   */
  readonly zone = new Map<string, 'right' | 'broken' | 'silent' | 'disputed'>();
  /** The names of the domains that were looked at. */
  readonly looks: string[] = [];
  /** The commands of the schedulers. */
  readonly commands: DomainCommand[] = [];
  /** The schedulers to stop after the test. */
  readonly running = new Set<Scheduler>();
  /** The additional pools to end after the test. */
  readonly pools = new Set<Pool>();
  private domains = 0;

  async open(): Promise<void> {
    Logger.overrideLogger(false);
    this.database = await testDatabase();
    await migrate(this.database.url, [
      ...eventStoreMigrations,
      ...readModelMigrations,
      ...messagingMigrations,
      ...cycleMigrations,
      ...sesMigrations,
    ]);
    this.pool = openPool(this.database.url);
    this.log = new EventLog(this.pool);
    this.handler = new DomainCommandHandler(new EventStore(this.pool, domainsProjection));
    this.door = commandsTo(this.handler);
    this.watchedDomains = new WatchedDomains(this.pool);
  }

  async close(): Promise<void> {
    await this.log.close();
    await this.pool.end();
    await this.database.drop();
  }

  async begin(): Promise<void> {
    await this.pool.query(`
      TRUNCATE watched_domains;
      UPDATE slots SET completed_cycle = 0, completed_at = 0, lease_token = NULL, lease_until = NULL`);
    // Late events of the test before would add its domains again.
    await this.pool.query('UPDATE checkpoints SET position = $1', [await this.log.head()]);
    this.clock.now = Date.UTC(2026, 10, 23, 12) - 1;
    this.zone.clear();
    this.looks.length = 0;
    this.commands.length = 0;
    Object.assign(this.canary, { isFound: true, asked: 0 });
    this.running.clear();
    this.pools.clear();
    this.reader = await this.startReader();
  }

  async end(): Promise<void> {
    await Promise.all([...this.running].map((scheduler) => scheduler.beforeApplicationShutdown()));
    await Promise.all([...this.pools].map((own) => own.end()));
    await this.reader.close();
  }

  async startReader(): Promise<INestMicroservice> {
    @Module({
      controllers: [DomainEventsController],
      providers: [
        { provide: DomainCommandHandler, useValue: this.handler },
        { provide: WatchedDomains, useValue: this.watchedDomains },
      ],
    })
    class ReaderModule {}
    const { pool, log } = this;
    const strategy = new LogTransport({ pool, log, group: 'verification-scheduler', startFrom: 'beginning' });
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(ReaderModule, { strategy });
    await app.listen();
    return app;
  }

  /** Starts a scheduler, which is stopped after the test. */
  readonly start = (doubles: Doubles = {}): Scheduler => {
    const {
      check = (name) => Promise.resolve(this.look(name)),
      on = this.pool,
      record,
      dkim = new Map<string, DkimAnswer>(),
      ...options
    } = doubles;
    const { canary, clock, commands, looks } = this;
    const own = commandsTo(new DomainCommandHandler(new EventStore(on, domainsProjection)));
    const execute = record ?? ((command: DomainCommand) => own.execute(command));
    const scheduler = new Scheduler(
      new Slots(on),
      new WatchedDomains(on),
      { check: ({ name }) => (looks.push(name), check(name)) },
      { of: ({ name }) => Promise.resolve(dkim.get(name) ?? 'success') },
      commandsTo({ execute: ({ command }) => (commands.push(command), execute(command)) }),
      { name: 'canary.example', isFound: () => ((canary.asked += 1), Promise.resolve(canary.isFound)) },
      {
        intervalMs: interval,
        concurrency: 10,
        pollMs: 10,
        // In tests slots are tried again every few milliseconds. A longer pause of a slow machine must not end the
        // alarm.
        alarmMs: 60_000,
        youngAges: [],
        clock: () => clock.now,
        ...options,
      },
    );
    this.running.add(scheduler);
    scheduler.onApplicationBootstrap();
    return scheduler;
  };

  readonly context = (): CommandContext => ({
    at: new Date(this.clock.now).toISOString(),
    actor: 'test',
    correlationId: 'c',
  });

  /** Adds a provisioned domain, and waits until the scheduler knows it. */
  readonly add = async (
    state: 'right' | 'broken',
    id = newId('mdom'),
    more: Pick<AddDomain['data'], 'mode'> = {},
  ): Promise<{ id: string; name: string }> => {
    const name = `d${(this.domains += 1)}.example.com`;
    this.zone.set(name, state);
    const context = this.context();
    const identity = { dkimTokens: ['a', 'b', 'c'], dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' };
    await this.door.execute(new AddDomain(id, { name, team: 'team_abc123', deadline: context.at, ...more }, context));
    await this.door.execute(new CompleteProvisioning(id, { ...identity, sesDkimStatus: 'pending' }, context));
    await this.known(id);
    return { id, name };
  };

  /** Waits until the scheduler's table has the version of the stream. */
  readonly known = async (id: string): Promise<void> => {
    const { version } = await this.handler.load(id);
    await until(async () => (await this.watchedDomains.version(id)) === version);
  };

  /** Gives the assessment of a look at the domain. */
  readonly look = (name: string): Assessment => {
    const state = this.zone.get(name)!;
    return state === 'disputed' ? disputed(name) : assessment(name, state);
  };

  /** Waits until every due slot has been completed. */
  readonly settled = (intervalMs = interval): Promise<void> =>
    until(async () => (await new Slots(this.pool).lagMs(this.clock.now, intervalMs)) === 0);

  readonly nextCycle = async (): Promise<void> => {
    this.clock.now += interval;
    await this.settled();
  };

  readonly status = async (id: string) => (await this.handler.load(id)).state.status;

  /** Reads the types of the domain's events after its provisioning. */
  readonly events = async (id: string): Promise<string[]> => {
    const { rows } = await this.pool.query<{ type: string }>(
      'SELECT type FROM events WHERE stream = $1 ORDER BY version',
      [id],
    );
    return rows.map(({ type }) => type).slice(2);
  };

  /** Records a look at the domain now, as a customer's request does. */
  readonly verify = async (id: string, name: string): Promise<void> => {
    const check = { ...this.look(name), trigger: 'requested' as const, cycle: null };
    await this.door.execute(new RecordCheck(id, check, this.context()));
  };

  readonly rowsOfTable = async (): Promise<object[]> =>
    (await this.pool.query<object>('SELECT * FROM watched_domains ORDER BY id')).rows;
}

/** Opens a fixture for the tests of a file, and resets it before each of them. */
export function schedulerFixture(): SchedulerFixture {
  const fixture = new SchedulerFixture();
  beforeAll(() => fixture.open());
  afterAll(() => fixture.close());
  beforeEach(() => fixture.begin());
  afterEach(() => fixture.end());
  return fixture;
}

function assessment(name: string, state: 'right' | 'broken' | 'silent'): Assessment {
  const outcome = ({ right: 'pass', broken: 'fail', silent: 'indeterminate' } as const)[state];
  return {
    sesDkimStatus: 'success',
    findings: checkNames.map((check) => ({
      check,
      outcome: check === 'mx' ? outcome : 'pass',
      code: state,
      message: state,
      name,
      type: 'MX' as const,
      expected: '10 mail.sendmux.ai',
      observed: [],
    })),
  };
}

/** Makes an assessment in which the resolvers agree about everything except the ownership. */
const disputed = (name: string): Assessment => ({
  sesDkimStatus: 'success',
  findings: checkNames.map((check) => ({
    check,
    name,
    type: 'TXT' as const,
    message: '',
    expected: 'x',
    observed: [],
    ...(check === 'verification_txt'
      ? { outcome: 'indeterminate' as const, code: 'resolver_disagreement' }
      : { outcome: 'pass' as const, code: 'ok' }),
  })),
});

export function idInSlot(slot: number): string {
  for (;;) {
    const id = newId('mdom');
    if (slotOf(id) === slot) return id;
  }
}

/** @throws {Error} when the condition does not hold within the time, in milliseconds. */
export async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(5);
  }
}
