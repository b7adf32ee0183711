import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Accounts } from '@app/accounts';
import { dueSlot, slotOf, youngAges, youngSlot } from '@app/cycle';
import { openPool } from '@app/database';
import { consumeEvents } from '@app/messaging';
import { createApp } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { SesLister } from '@app/ses';
import { eventVersions } from '@app/subscriptions';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Pool } from 'pg';
import { Verifications } from '../../apps/gateway/domains/verifications.service';
import { GatewayModule } from '../../apps/gateway/gateway.module';
import { edgeOf } from '../../apps/gateway/http/configure';
import { NotifierModule } from '../../apps/notifier/notifier.module';
import { ProvisioningModule } from '../../apps/provisioning/provisioning.module';
import { readAllAsJson, SandboxModule } from '../../apps/sandbox/sandbox.module';
import { Expiry } from '../../apps/verification-scheduler/expiry';
import { Scheduler } from '../../apps/verification-scheduler/scheduler';
import { VerificationSchedulerModule } from '../../apps/verification-scheduler/verification-scheduler.module';
import { WatchedDomains } from '../../apps/verification-scheduler/watched-domains';
import { WebhooksModule } from '../../apps/webhooks/webhooks.module';
import { personalDataKeys } from './mailbox-keys';
import { migratedDatabase } from './migrated-database';
import { MovedClock } from './moved-clock';
import { ApiClient, freePortBlock, SandboxClient } from './processes';
import { webhookSecretKeys } from './webhooks';

const host = '127.0.0.1';
const consumers = ['provisioning', 'notifier', 'webhooks', 'verification-scheduler'] as const;

/** Milliseconds of database time after which the product tries again what waits for something else. */
const retryMs = 61_000;

/**
 * The whole product in this process, each app as its `main.ts` makes it, with the sandbox, on real databases. Its time
 * is `clock`. Slots of the cycle are looked at in `pass` alone: meanwhile they are held, as by another scheduler.
 */
export class Product {
  readonly sandbox: SandboxClient;

  private constructor(
    readonly clock: MovedClock,
    readonly pool: Pool,
    readonly mailServer: Pool,
    private readonly port: number,
    private readonly apps: ReadonlyMap<string, NestFastifyApplication>,
    private readonly end: () => Promise<void>,
  ) {
    this.sandbox = new SandboxClient(`http://${host}:${portOf('sandbox', port)}`);
  }

  /** @param changes settings that replace those of the product. */
  static async start(changes: NodeJS.ProcessEnv = {}): Promise<Product> {
    const service = await migratedDatabase('service');
    const mails = await migratedDatabase('mail_server');
    const clock = await MovedClock.of(service.url);
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-product-'));
    const port = await freePortBlock();
    const doh = `http://${host}:${portOf('sandbox-doh', port)}`;
    const environment = {
      PORT: String(port),
      SENDMUX_DATA_DIR: directory,
      DATABASE_URL: service.url,
      MAIL_SERVER_DATABASE_URL: mails.url,
      DOH_RESOLVERS: `${doh}/resolver-a/dns-query,${doh}/resolver-b/dns-query`,
      AWS_ENDPOINT_URL_SESV2: `http://${host}:${portOf('sandbox', port)}`,
      SES_CALLS_PER_SECOND: '10000',
      RATE_LIMIT_PER_MINUTE: '1000000',
      RATE_LIMIT_PER_TEAM: '1000000',
      MAX_DOMAINS: '10000000',
      PERSONAL_DATA_KEYS: personalDataKeys,
      WEBHOOK_SECRET_KEYS: webhookSecretKeys,
      WEBHOOKS_ALLOW_LOOPBACK: 'true',
      SMTP_URL: `smtp://${host}:${portOf('sandbox-smtp', port)}`,
      LOG_LEVEL: 'silent',
      ...changes,
    };
    // The AWS SDK reads these from the environment.
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'sandbox', AWS_SECRET_ACCESS_KEY: 'sandbox' });
    const settings = loadSettings(environment);
    const apps = new Map<string, NestFastifyApplication>();
    const pools = [openPool(service.url, 4), openPool(mails.url, 2)] as const;
    const end = async () => {
      // The sandbox is the first, and what the others still ask is answered.
      for (const app of [...apps.values()].reverse()) await app.close();
      await Promise.all(pools.map((pool) => pool.end()));
      await Promise.all([service.drop(), mails.drop()]);
      clock.stop();
      rmSync(directory, { recursive: true, force: true });
    };
    try {
      const sandbox = await createApp({
        host,
        port: 0,
        configure: readAllAsJson,
        module: SandboxModule.forRoot({
          host,
          dohPort: portOf('sandbox-doh', port),
          smtpPort: portOf('sandbox-smtp', port),
          directory: join(directory, 'sandbox'),
          logLevel: 'silent',
          port: portOf('sandbox', port),
        }),
      });
      apps.set('sandbox', sandbox);
      await sandbox.listen(portOf('sandbox', port), host);
      const gateway = await createApp({
        host,
        port: 0,
        module: GatewayModule.forRoot(settings),
        ...edgeOf(`http://${host}:${port}`, undefined),
      });
      apps.set('gateway', gateway);
      await gateway.listen(port, host);
      const modules = {
        provisioning: ProvisioningModule,
        notifier: NotifierModule,
        webhooks: WebhooksModule,
        'verification-scheduler': VerificationSchedulerModule,
      };
      for (const group of consumers) {
        const app = await createApp({
          host,
          port: 0,
          module: modules[group].forRoot(settings),
          configure: async (app) => {
            if (group === 'verification-scheduler') hasten(app);
            await consumeEvents(app, group, eventVersions.written, settings);
          },
        });
        apps.set(group, app);
        await app.listen(portOf(group, port), host);
      }
      const product = new Product(clock, ...pools, port, apps, end);
      await product.hold();
      return product;
    } catch (error) {
      await end();
      throw error;
    }
  }

  /** Creates a team with a key that may do everything. */
  async team(owners: string[]): Promise<{ id: string; api: ApiClient }> {
    const accounts = this.app('gateway').get(Accounts, { strict: false });
    const { id } = await accounts.createTeam('Acme', owners);
    const { key } = await accounts.createKey(id, { role: 'root:full' });
    return { id, api: new ApiClient(`http://${host}:${this.port}/api/v1`, key) };
  }

  /** Lets the gateway look, and ask for repairs, as an hour after what it did before. */
  forgetLooks(): void {
    const { lost, looks } = this.app('gateway').get<{
      lost: Map<string, number>;
      looks: { recent: Map<string, unknown> };
    }>(Verifications, { strict: false });
    lost.clear();
    looks.recent.clear();
  }

  /**
   * Moves the time, and has looked at what is due in it: the slots of these domains and the young domains, then what
   * expires. The list of SES is a new one when the looks begin.
   *
   * @param ms milliseconds.
   * @param domains the ids of those whose slots are looked at, once each.
   */
  async pass(ms: number, domains: readonly string[]): Promise<void> {
    this.clock.moveProcess(ms);
    await this.clock.moveDatabase(ms);
    await this.listed();
    await this.settled();
    const slots = [...new Set(domains.map(slotOf))];
    const { interval } = this;
    const now = this.clock.now();
    await this.pool.query('UPDATE slots SET lease_token = NULL, lease_until = NULL WHERE slot = ANY ($1)', [
      [...slots, youngSlot],
    ]);
    await this.until('the slots are done', async () => {
      const { rows } = await this.pool.query<{ slot: number; cycle: number }>(
        'SELECT slot, completed_cycle::float8 AS cycle FROM slots WHERE slot = ANY ($1) AND lease_token IS NULL',
        [slots],
      );
      return (
        rows.length === slots.length && rows.every(({ slot, cycle }) => cycle >= dueSlot(slot, now, interval).cycle)
      );
    });
    await this.until('the young domains are done', async () => {
      const { rows } = await this.pool.query<{ until: number; isHeld: boolean }>(
        'SELECT completed_at::float8 AS until, lease_token IS NOT NULL AS "isHeld" FROM slots WHERE slot = $1',
        [youngSlot],
      );
      const from = Math.max(rows[0]!.until, now - youngAges.at(-1)!);
      const watched = this.app('verification-scheduler').get(WatchedDomains);
      return !rows[0]!.isHeld && (await watched.young(youngAges, from, now, '', 1)).length === 0;
    });
    await this.hold();
    await this.settled();
    await this.app('verification-scheduler').get(Expiry).pass();
    await this.settled();
  }

  /** Waits until every app has done what it can do now, and what waits for something else has tried once more. */
  async settled(): Promise<void> {
    await this.quiet();
    const { rowCount } = await this.pool.query(
      `SELECT FROM tasks WHERE due <= now() + interval '${retryMs} ms' LIMIT 1`,
    );
    if (rowCount === 0) return;
    await this.clock.moveDatabase(retryMs);
    await this.quiet();
  }

  async stop(): Promise<void> {
    await this.end();
  }

  private get interval(): number {
    return this.app('verification-scheduler').get<{ options: { intervalMs: number } }>(Scheduler).options.intervalMs;
  }

  private app(name: string): NestFastifyApplication {
    return this.apps.get(name)!;
  }

  private async hold(): Promise<void> {
    await this.pool.query(`UPDATE slots SET lease_token = gen_random_uuid(), lease_until = 'infinity'`);
  }

  /** Has the identities of SES listed anew. */
  private async listed(): Promise<void> {
    await this.pool.query(`UPDATE ses_listings SET due_at = '-infinity'`);
    await this.until('SES is listed', async () => {
      const { rowCount } = await this.pool.query(
        `SELECT FROM ses_listings WHERE due_at = '-infinity' OR lease_token IS NOT NULL`,
      );
      return rowCount === 0;
    });
  }

  private async quiet(): Promise<void> {
    let before = '';
    await this.until('all apps are quiet', async () => {
      const { rows } = await this.pool.query<{ head: string; isQuiet: boolean }>(
        `WITH head AS (SELECT coalesce(max(position), 0) AS position FROM events)
         SELECT head.position::text AS head,
           (SELECT count(*) FROM checkpoints WHERE name = ANY ($1) AND checkpoints.position >= head.position) = $2
           AND NOT EXISTS (SELECT FROM tasks WHERE due <= now() OR lease_until > now())
           AND NOT EXISTS (SELECT FROM webhook_queues) AS "isQuiet"
         FROM head`,
        [consumers, consumers.length],
      );
      const { head, isQuiet } = rows[0]!;
      const stays = isQuiet && head === before;
      before = head;
      return stays;
    });
  }

  private async until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (const begun = performance.now(); !(await isSo());) {
      const passed = performance.now() - begun;
      if (passed > 60_000) throw new Error(`Not within a minute: ${what}`);
      await delay(Math.min(50, 5 + passed / 8));
    }
  }
}

/** Has the scheduler poll as often as a test wants to go on, and leaves the expiry to `pass`. */
function hasten(app: NestFastifyApplication): void {
  Object.assign(app.get(SesLister), { pollMs: 20 });
  const { options } = app.get<{ options: object }>(Scheduler);
  Object.assign(options, { pollMs: 50 });
  app.get(Expiry).onApplicationBootstrap = () => undefined;
}
