import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { Commands, CommandsModule } from '@app/commands';
import { cycleMigrations } from '@app/cycle';
import { DatabaseModule, databaseUrls } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { messagingMigrations } from '@app/messaging';
import { DomainsReadModel, readModelMigrations, StoredShards, storeShards } from '@app/read-model';
import { ProcessModule } from '@app/process';
import { HealthProbes, queriedGauge, sesShards, type Settings } from '@app/runtime';
import { SesLister, SesListings, SesShards, SesStatuses } from '@app/ses';
import { Canary, VerificationModule, verificationMigrations, Verifier } from '@app/verification';
import { Pool } from 'pg';
import { DomainEventsController } from './domain-events.controller';
import { Expiry } from './expiry';
import { Scheduler } from './scheduler';
import { Slots } from './slots';
import { WatchedDomains } from './watched-domains';

/** Milliseconds without a further page of a listing at SES. */
const listingTimeoutMs = 300_000;

const migrations = [
  ...eventStoreMigrations,
  ...readModelMigrations,
  ...messagingMigrations,
  ...cycleMigrations,
  ...verificationMigrations,
];

@Module({})
export class VerificationSchedulerModule {
  constructor(scheduler: Scheduler, probes: HealthProbes, pool: Pool) {
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
    // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
    probes.add('live', 'cycle', async () => scheduler.assertProgress());
    queriedGauge(
      {
        name: 'sendmux_verification_slot_lag_seconds',
        help: 'How long ago the longest waiting open slot was due',
      },
      async () => [{ value: (await scheduler.lagMs()) / 1_000 }],
    );
  }

  static forRoot(settings: Settings): DynamicModule {
    return {
      module: VerificationSchedulerModule,
      imports: [
        ProcessModule.forApp('verification-scheduler', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          migrations,
        }),
        CommandsModule,
        VerificationModule.forRoot({
          resolvers: settings.DOH_RESOLVERS,
          canary: settings.VERIFICATION_CANARY,
          timeoutMs: settings.DOH_TIMEOUT,
          ses: {
            shards: sesShards(settings),
            timeoutMs: settings.SES_TIMEOUT,
            cycleMs: settings.VERIFICATION_INTERVAL,
          },
          required: settings.MAIL_FROM_REQUIRED ? ['mail_from'] : [],
        }),
      ],
      controllers: [DomainEventsController],
      providers: [
        {
          provide: StoredShards,
          inject: [Pool, SesShards],
          useFactory: (pool: Pool, clients: SesShards) => storeShards(pool, sesShards(settings), clients),
        },
        WatchedDomains,
        Slots,
        DomainsReadModel,
        lister(settings),
        scheduler(settings),
        expiry(settings),
      ],
    };
  }
}

const lister = (settings: Settings): Provider => ({
  provide: SesLister,
  inject: [SesListings, SesShards],
  useFactory: (listings: SesListings, ses: SesShards) =>
    new SesLister(listings, ses, {
      shards: ses.names(),
      refreshMs: Math.min(60_000, settings.VERIFICATION_INTERVAL / 4),
      timeoutMs: listingTimeoutMs,
    }),
});

const expiry = (settings: Settings): Provider => ({
  provide: Expiry,
  inject: [DomainsReadModel, Commands],
  useFactory: (domains: DomainsReadModel, commands: Commands) =>
    new Expiry(domains, commands, { ageMs: settings.UNVERIFIED_DOMAIN_EXPIRY }),
});

const scheduler = (settings: Settings): Provider => ({
  provide: Scheduler,
  inject: [Slots, WatchedDomains, Verifier, SesStatuses, Commands, Canary],
  useFactory: (
    slots: Slots,
    watchedDomains: WatchedDomains,
    verifier: Verifier,
    statuses: SesStatuses,
    commands: Commands,
    canary: Canary,
  ) =>
    new Scheduler(slots, watchedDomains, verifier, statuses, commands, canary, {
      intervalMs: settings.VERIFICATION_INTERVAL,
      concurrency: settings.VERIFICATION_CONCURRENCY,
      perSecond: settings.VERIFICATION_RATE,
    }),
});
