import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Accounts } from '@app/accounts';
import { Commands, DomainCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { consumeEvents } from '@app/messaging';
import { createApp } from '@app/process';
import { domainsProjection } from '@app/read-model';
import { loadSettings, type Settings } from '@app/runtime';
import { SesStatuses } from '@app/ses';
import { eventVersions } from '@app/subscriptions';
import { Canary, Verifier } from '@app/verification';
import type { DynamicModule } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Pool } from 'pg';
import { GatewayModule } from '../../apps/gateway/gateway.module';
import { edgeOf } from '../../apps/gateway/http/configure';
import { NotifierModule } from '../../apps/notifier/notifier.module';
import { ProvisioningTimes } from '../../apps/provisioning/provisioner';
import { ProvisioningModule } from '../../apps/provisioning/provisioning.module';
import { SandboxState, type CaughtMail, type StoredIdentity } from '../../apps/sandbox/state';
import { readAllAsJson, SandboxModule } from '../../apps/sandbox/sandbox.module';
import { Scheduler } from '../../apps/verification-scheduler/scheduler';
import { Slots } from '../../apps/verification-scheduler/slots';
import { VerificationSchedulerModule } from '../../apps/verification-scheduler/verification-scheduler.module';
import { WatchedDomains } from '../../apps/verification-scheduler/watched-domains';
import { WebhooksModule } from '../../apps/webhooks/webhooks.module';
import { commandsTo } from '../support/commands';
import { personalDataKeys } from '../support/mailbox-keys';
import { migratedDatabase } from '../support/migrated-database';
import { freePortBlock, SandboxClient } from '../support/processes';
import type { TestDatabase } from '../support/test-database';
import { addWebhook, webhookSecretKeys } from '../support/webhooks';
import { Endpoints } from './endpoints';
import type { Protocol } from './messages';
import { until } from './until';
import { Wire, type Fate, type Passing, type WireEnd } from './wire';

/** The apps whose wires are watched. */
export const apps = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'webhooks'] as const;
export type App = (typeof apps)[number];

/** The shards of SES, by their Regions. */
const shards = { default: 'eu-west-1', 'us-1': 'us-east-1' } as const;

/** Length of a cycle by the clock of the scheduler, which stands unless a scenario moves it; in milliseconds. */
export const intervalMs = 500;
const cycleOf = (time: number): number => Math.floor(time / intervalMs) * intervalMs;

/**
 * Times that are short enough for thousands of runs. What an app waits for an answer of SES is what provisioning waits
 * before it removes what an abandoned request may have done, as in an installation.
 */
const times = {
  SES_TIMEOUT: '2s',
  DOH_TIMEOUT: '2s',
  PROVISIONING_DEADLINE: '8s',
  // The listing of SES is renewed four times in it; the scheduler has a clock of its own.
  VERIFICATION_INTERVAL: '2s',
  CLAIM_GRACE: '0s',
  SES_MOVE_GRACE: '0s',
};

/** How often the start of a process is tried that fails. */
const mostStarts = 5;

/** A delay that is longer than each of these times. */
export const longDelayMs = 9_000;

/** What each app has leases on, and for how many milliseconds. */
const leases: readonly {
  readonly app: App;
  readonly table: string;
  readonly where: string;
  readonly leaseMs: number;
}[] = [
  { app: 'provisioning', table: 'tasks', where: `list = 'provisioning'`, leaseMs: 5_000 },
  { app: 'provisioning', table: 'tasks', where: `list IN ('placement', 'sender-rules')`, leaseMs: 10_000 },
  {
    app: 'notifier',
    table: 'tasks',
    where: `list NOT IN ('provisioning', 'placement', 'sender-rules')`,
    leaseMs: 10_000,
  },
  { app: 'verification-scheduler', table: 'slots', where: 'true', leaseMs: 15_000 },
  { app: 'verification-scheduler', table: 'ses_listings', where: 'true', leaseMs: 10_000 },
  { app: 'webhooks', table: 'webhook_lanes', where: 'true', leaseMs: 10_000 },
];

interface Running {
  readonly app: NestFastifyApplication;
  readonly wires: readonly Wire[];
  /** The way of the clients of the gateway. */
  readonly url: string;
}

/**
 * All apps of an installation in this process, each with wires of its own to what it speaks with. A process is killed
 * by cutting its wires: what it still does reaches nobody, as nothing of a dead process does, and its connections end
 * as the kernel ends them. What it has in memory is lost, since it never gets a wire again.
 */
export class World {
  /** What is wrong with the apps themselves, such as a rejection that nobody handles. */
  readonly defects: string[] = [];
  judge: (message: Passing) => Fate = () => 'pass';
  /** How often something has broken so far, and how many of that were deaths of processes. */
  faults = 0;
  deaths = 0;
  private readonly running = new Map<App, Promise<Running>>();
  private readonly dying: Promise<unknown>[] = [];
  /** It stands at the end of the cycle before, in which all slots have been due. */
  private clock = cycleOf(Date.now()) - 1;
  /** The way of the process `webhooks` that runs now to the endpoints. */
  private endpointUrl = '';

  private constructor(
    readonly database: TestDatabase,
    readonly mailServer: TestDatabase,
    private readonly directory: string,
    private readonly sandboxApp: NestFastifyApplication,
    readonly sandbox: SandboxClient,
    private readonly ports: { readonly sandbox: number; readonly doh: number; readonly smtp: number },
    readonly endpoints: Endpoints,
    readonly pool: Pool,
  ) {}

  static async start(): Promise<World> {
    const [database, mailServer] = [await migratedDatabase('service'), await migratedDatabase('mail_server')];
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-proof-'));
    const port = await freePortBlock();
    const ports = { sandbox: port + 10, doh: port + 11, smtp: port + 12 };
    const sandboxApp = await createApp({
      host: '127.0.0.1',
      port: ports.sandbox,
      bodyLimit: 1_048_576,
      configure: readAllAsJson,
      module: SandboxModule.forRoot({
        host: '127.0.0.1',
        dohPort: ports.doh,
        smtpPort: ports.smtp,
        directory,
        logLevel: 'silent',
      }),
    });
    await sandboxApp.listen(ports.sandbox, '127.0.0.1');
    const sandbox = new SandboxClient(`http://127.0.0.1:${ports.sandbox}`);
    const endpoints = await Endpoints.open();
    const pool = openPool(database.url, 3);
    const world = new World(database, mailServer, directory, sandboxApp, sandbox, ports, endpoints, pool);
    await pool.query('UPDATE slots SET completed_cycle = $1', [cycleOf(world.clock)]);
    await Promise.all(apps.map((app) => world.startApp(app)));
    return world;
  }

  get accounts(): Accounts {
    return new Accounts(this.pool);
  }

  /** Gives commands to domains as an operator does, by no wire. */
  get commands(): Commands {
    return commandsTo(new DomainCommandHandler(new EventStore(this.pool, domainsProjection)));
  }

  identities(): StoredIdentity[] {
    return Object.values(this.sandboxApp.get(SandboxState, { strict: false }).data.identities);
  }

  mails(): readonly CaughtMail[] {
    return this.sandboxApp.get(SandboxState, { strict: false }).data.mails;
  }

  /** Deletes an identity, as somebody could in the console of SES. */
  loseIdentity(name: string): void {
    const { identities } = this.sandboxApp.get(SandboxState, { strict: false }).data;
    for (const [key, identity] of Object.entries(identities)) if (identity.name === name) delete identities[key];
  }

  /** Adds an endpoint for all messages of a team from now on. */
  async addWebhook(team: string): Promise<void> {
    const { rows } = await this.pool.query<{ head: number }>(
      'SELECT coalesce(max(position), 0)::float8 AS head FROM events',
    );
    const { id, secret } = await addWebhook(this.pool, { team, after: rows[0]!.head });
    this.endpoints.add(id, secret);
    await this.pool.query('UPDATE webhooks SET url = $1 WHERE id = $2', [`${this.endpointUrl}${id}`, id]);
  }

  /** Gives the URL of the API, by way of the wire of the gateway that runs now. */
  async api(): Promise<string> {
    return `${(await this.running.get('gateway')!).url}/api/v1`;
  }

  /** Kills the process of an app, lets the leases that it had end, and starts it again. */
  killApp(app: App): void {
    this.deaths++;
    const before = this.running.get(app)!;
    const started = before.then(async ({ app: dead, wires }) => {
      for (const wire of wires) wire.cut();
      // A statement that had arrived may still take a lease.
      await delay(50);
      for (const { table, where } of leases.filter((each) => each.app === app))
        await this.pool.query(`UPDATE ${table} SET lease_until = now() WHERE ${where} AND lease_until > now()`);
      if (app === 'gateway')
        await this.pool.query('UPDATE idempotency_keys SET claimed_until = now() WHERE claimed_until > now()');
      this.dying.push(Promise.race([dead.close().catch(() => undefined), delay(15_000, undefined, { ref: false })]));
      return this.startApp(app);
    });
    // A start that fails is noticed by whoever waits for the app.
    started.catch((error: Error) => this.defects.push(`${app} does not start again: ${error.stack}`));
    this.running.set(app, started);
  }

  /** Waits until every app that was killed runs again. */
  async allRun(): Promise<void> {
    await Promise.all(this.running.values());
  }

  /**
   * Moves the clock of the scheduler to the next cycle, in which this slot alone is due, and waits until the slot is
   * closed for it. A slot is closed at the time of the clock, and not due again before half a cycle has passed.
   */
  async passCycle(slot: number): Promise<void> {
    await this.closed(slot);
    const next = cycleOf(Date.now()) + intervalMs;
    await delay(next - Date.now());
    await this.pool.query('UPDATE slots SET completed_cycle = $1 WHERE slot <> $2', [next - intervalMs, slot]);
    this.clock = next - 1;
    await this.closed(slot);
  }

  /**
   * Lets time pass: leases end that their holders do not renew, since they never heard that they have one, and waits
   * after failures end. A lease is renewed at each third of it, so that one that is older was given up.
   */
  async passTime(): Promise<void> {
    for (const { table, where, leaseMs } of leases)
      await this.pool.query(
        `UPDATE ${table} SET lease_until = now()
         WHERE ${where} AND lease_until > now() AND lease_until < now() + $1 * interval '1 ms'`,
        [0.6 * leaseMs],
      );
    await this.pool.query('UPDATE tasks SET due = now() WHERE attempts > 0 AND lease_token IS NULL AND due > now()');
    for (const table of ['webhook_queues', 'webhook_lanes'])
      await this.pool.query(`UPDATE ${table} SET due = now() WHERE due > now()`);
  }

  /** Stops everything. The databases stay, and nobody is connected to them. */
  async stop(): Promise<void> {
    const all = await Promise.allSettled(this.running.values());
    await Promise.all(
      all.map(async (one) => {
        if (one.status === 'fulfilled') await one.value.app.close().catch(() => undefined);
      }),
    );
    await Promise.all(this.dying);
    for (const one of all) if (one.status === 'fulfilled') for (const wire of one.value.wires) wire.cut();
    await this.sandboxApp.close();
    this.endpoints.close();
    await this.pool.end();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async end(): Promise<void> {
    await this.stop();
    await this.drop();
  }

  async drop(): Promise<void> {
    await this.database.drop();
    await this.mailServer.drop();
  }

  private async closed(slot: number): Promise<void> {
    const isClosed = 'SELECT FROM slots WHERE slot = $1 AND completed_cycle >= $2 AND lease_token IS NULL';
    await until(`slot ${slot} is closed`, async () => {
      return (await this.pool.query(isClosed, [slot, cycleOf(this.clock)])).rowCount! > 0;
    });
  }

  private startApp(app: App): Promise<Running> {
    const started = this.startAgain(app, mostStarts);
    this.running.set(app, started);
    return started;
  }

  /** Starts a process until it runs, as whatever runs an installation does: a busy machine may be too slow at first. */
  private async startAgain(app: App, triesLeft: number): Promise<Running> {
    try {
      return await this.createApp(app);
    } catch (error) {
      if (triesLeft === 1) throw error;
      await delay(500);
      return this.startAgain(app, triesLeft - 1);
    }
  }

  private async createApp(name: App): Promise<Running> {
    const wires: Wire[] = [];
    const open = async (to: string, protocol: Protocol, end: WireEnd): Promise<number> => {
      const wire = await Wire.open(`${name}-${to}`, protocol, end, (message) => this.judge(message));
      wires.push(wire);
      return wire.port;
    };
    const local = (port: number): WireEnd => ({ host: '127.0.0.1', port });
    const throughTo = async (to: string, url: string): Promise<string> => {
      const through = new URL(url);
      through.host = `127.0.0.1:${await open(to, 'postgres', { host: through.hostname, port: Number(through.port) })}`;
      return through.href;
    };
    const doh = `http://127.0.0.1:${await open('doh', 'http2', local(this.ports.doh))}`;
    const ses = `http://127.0.0.1:${await open('ses', 'http', local(this.ports.sandbox))}`;
    if (name === 'webhooks') {
      this.endpointUrl = `http://127.0.0.1:${await open('endpoints', 'http', local(this.endpoints.port))}/`;
      await this.pool.query('UPDATE webhooks SET url = $1 || id', [this.endpointUrl]);
    }
    const settings = loadSettings({
      PORT: '3000',
      SENDMUX_DATA_DIR: this.directory,
      PUBLIC_URL: 'https://app.example.com',
      DATABASE_URL: await throughTo('postgres', this.database.url),
      MAIL_SERVER_DATABASE_URL: await throughTo('mail-server', this.mailServer.url),
      DOH_RESOLVERS: `${doh}/resolver-a/dns-query,${doh}/resolver-b/dns-query`,
      SMTP_URL: `smtp://127.0.0.1:${await open('smtp', 'smtp', local(this.ports.smtp))}`,
      SES_SHARDS: JSON.stringify(
        Object.entries(shards).map(([shard, region]) => ({
          name: shard,
          region,
          endpoint: ses,
          callsPerSecond: 10_000,
        })),
      ),
      PERSONAL_DATA_KEYS: personalDataKeys,
      WEBHOOK_SECRET_KEYS: webhookSecretKeys,
      WEBHOOKS_ALLOW_LOOPBACK: 'true',
      MAX_DOMAINS_PER_TEAM: '1000000',
      MAX_DOMAINS: '10000000',
      RATE_LIMIT_PER_MINUTE: '1000000',
      LOG_LEVEL: process.env.PROOF_LOG ?? 'silent',
      ...times,
    });
    const common = { host: '127.0.0.1', port: 0 };
    const consuming = (app: NestFastifyApplication) => consumeEvents(app, name, eventVersions.written, settings);
    const app =
      name === 'gateway'
        ? await createApp({ ...common, module: GatewayModule.forRoot(settings), ...edgeOf('https://app.example.com') })
        : await createApp({ ...common, module: this.moduleOf(name, settings), configure: consuming });
    await app.listen(0, '127.0.0.1');
    const { port } = app.getHttpServer().address() as AddressInfo;
    const url = name === 'gateway' ? `http://127.0.0.1:${await open('client', 'http', local(port))}` : '';
    return { app, wires, url };
  }

  private moduleOf(app: Exclude<App, 'gateway'>, settings: Settings): DynamicModule {
    switch (app) {
      case 'provisioning': {
        const module = ProvisioningModule.forRoot(settings);
        const { SES_TIMEOUT: timeout } = settings;
        module.providers!.push({
          provide: ProvisioningTimes,
          useFactory: () => new ProvisioningTimes(50, timeout, 1.2 * timeout, 100, settings.SES_MOVE_GRACE),
        });
        return module;
      }
      case 'verification-scheduler': {
        const module = VerificationSchedulerModule.forRoot(settings);
        module.providers!.push({
          provide: Scheduler,
          inject: [Slots, WatchedDomains, Verifier, SesStatuses, Commands, Canary],
          useFactory: (
            slots: Slots,
            watched: WatchedDomains,
            verifier: Verifier,
            statuses: SesStatuses,
            commands: Commands,
            canary: Canary,
          ) =>
            new Scheduler(slots, watched, verifier, statuses, commands, canary, {
              intervalMs,
              concurrency: 10,
              pollMs: 100,
              retryMs: 200,
              youngAges: [],
              clock: () => this.clock,
            }),
        });
        return module;
      }
      case 'notifier':
        return NotifierModule.forRoot(settings);
      case 'webhooks':
        return WebhooksModule.forRoot(settings);
    }
  }
}
