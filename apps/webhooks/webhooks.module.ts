import {
  Inject,
  Injectable,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { DatabaseModule, databaseUrls } from '@app/database';
import type { DohClient } from '@app/dns';
import { EventLog, EventStore, EventStoreModule, eventStoreMigrations } from '@app/event-store';
import { messagingMigrations } from '@app/messaging';
import { testBody, WebhookMessages } from '@app/presentation';
import { ProcessModule } from '@app/process';
import { checkMailboxKeyRing, mailboxKeyRingOf, MailboxKeys, mailboxKeysMigrations } from '@app/mailbox-keys';
import { readModelMigrations } from '@app/read-model';
import { HealthProbes, SettingsInvalid, type Settings } from '@app/runtime';
import { tasksMigrations } from '@app/tasks';
import {
  checkSecretKeys,
  SecretKeys,
  WebhookDeliveries,
  WebhookLanes,
  WebhookReplays,
  webhooksMigrations,
} from '@app/webhooks';
import { Pool } from 'pg';
import { EndpointClient } from './endpoint-client';
import { EventOwners } from './event-owners';
import { EventsController } from './events.controller';
import { Housekeeping } from './housekeeping';
import { LaneWorkers } from './lane-workers';
import { measureLanes } from './metrics';
import { resolversAt } from './pinned-connector';
import { ReplayFeeder } from './replay-feeder';

/** Connections to PostgreSQL: one is held by the reader of the log. */
const connections = 16;

class Resolvers {
  constructor(readonly clients: readonly DohClient[]) {}
}

/** Runs the lanes for as long as the app does. */
@Injectable()
class Lanes implements OnApplicationBootstrap, BeforeApplicationShutdown {
  constructor(
    private readonly workers: LaneWorkers,
    private readonly resolvers: Resolvers,
  ) {}

  onApplicationBootstrap(): void {
    this.workers.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.workers.stop();
    for (const client of this.resolvers.clients) client.close();
  }
}

@Module({})
export class WebhooksModule {
  constructor(probes: HealthProbes, @Inject(Pool) pool: Pool) {
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
  }

  /**
   * @throws {SettingsInvalid} without `WEBHOOK_SECRET_KEYS` or `PERSONAL_DATA_KEYS`, and at its start with a key that
   * is another one.
   */
  static forRoot(settings: Settings): DynamicModule {
    const { WEBHOOKS_ALLOW_LOOPBACK, WEBHOOKS_DENIED_ADDRESSES, DOH_RESOLVERS, DOH_TIMEOUT } = settings;
    if (!settings.WEBHOOK_SECRET_KEYS)
      throw new SettingsInvalid(
        'WEBHOOK_SECRET_KEYS is not set: without it the secrets of webhooks cannot be decrypted, and nothing can be\n' +
          'signed. Set it to what the gateway has. Where there is none yet, make one: id=key, such as\n' +
          '  WEBHOOK_SECRET_KEYS="2026-01=$(openssl rand -base64 32)"\n' +
          'docs/settings.md explains it.',
      );
    const keyRing = mailboxKeyRingOf(settings);
    return {
      module: WebhooksModule,
      imports: [
        ProcessModule.forApp('webhooks', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          connections,
          migrations: [
            ...eventStoreMigrations,
            ...readModelMigrations,
            ...mailboxKeysMigrations,
            ...messagingMigrations,
            ...tasksMigrations,
            ...webhooksMigrations,
          ],
        }),
        EventStoreModule.forRoot(),
      ],
      controllers: [EventsController],
      providers: [
        Lanes,
        Housekeeping,
        {
          provide: Resolvers,
          useFactory: () => new Resolvers(resolversAt(DOH_RESOLVERS, DOH_TIMEOUT)),
        },
        {
          provide: WebhookMessages,
          inject: [Pool],
          useFactory: async (pool: Pool) => {
            await checkMailboxKeyRing(pool, keyRing);
            return new WebhookMessages(pool, new MailboxKeys(pool, keyRing));
          },
        },
        { provide: EventOwners, inject: [EventStore], useFactory: (store: EventStore) => new EventOwners(store) },
        {
          provide: LaneWorkers,
          inject: [Pool, Resolvers, WebhookMessages],
          useFactory: async (pool: Pool, { clients }: Resolvers, messages: WebhookMessages) => {
            const lanes = new WebhookLanes(pool);
            const keys = new SecretKeys(() => settings.WEBHOOK_SECRET_KEYS!);
            await checkSecretKeys(pool, keys);
            const workers = new LaneWorkers({
              lanes,
              keys,
              messages: { bodies: (wanted) => messages.bodies(wanted), testBody },
              client: new EndpointClient({
                resolvers: clients,
                allowLoopback: WEBHOOKS_ALLOW_LOOPBACK,
                denied: WEBHOOKS_DENIED_ADDRESSES,
              }),
            });
            measureLanes(lanes, () => workers.load);
            return workers;
          },
        },
        {
          provide: WebhookDeliveries,
          inject: [Pool, LaneWorkers],
          useFactory: (pool: Pool, workers: LaneWorkers) => new WebhookDeliveries(pool, (added) => workers.wake(added)),
        },
        {
          provide: ReplayFeeder,
          inject: [Pool, EventLog, WebhookMessages, LaneWorkers],
          useFactory: (pool: Pool, log: EventLog, messages: WebhookMessages, workers: LaneWorkers) =>
            new ReplayFeeder(pool, new WebhookReplays(pool), log, messages, (webhook) =>
              workers.wake([{ webhook, lane: 'replay', count: 0 }]),
            ),
        },
      ],
    };
  }
}
