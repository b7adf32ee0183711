import { Module, type DynamicModule } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import { CommandsModule } from '@app/commands';
import { cycleMigrations } from '@app/cycle';
import { DatabaseModule } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { HealthProbes, RuntimeModule, type Settings } from '@app/runtime';
import { SesIdentities } from '@app/ses';
import { Canary, VerificationModule, Verifier } from '@app/verification';
import { Pool } from 'pg';
import { Gauge, register } from 'prom-client';
import { DomainEventsController } from './domain-events.controller';
import { Scheduler } from './scheduler';
import { SesStatuses } from './ses-statuses';
import { Slots } from './slots';
import { WatchedDomains } from './watched-domains';

/** A listing of SES pages through all identities at about one call a second, a thousand a call. */
const listingTimeoutMs = 300_000;

@Module({})
export class VerificationSchedulerModule {
  constructor(scheduler: Scheduler, probes: HealthProbes, pool: Pool) {
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
    // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
    probes.add('live', 'cycle', async () => scheduler.assertProgress());
    register.removeSingleMetric('sendmux_verification_slot_lag_seconds');
    new Gauge({
      name: 'sendmux_verification_slot_lag_seconds',
      help: 'How long ago the longest waiting open slot was due',
      async collect() {
        this.set((await scheduler.lagMs()) / 1_000);
      },
    });
  }

  static forRoot(settings: Settings): DynamicModule {
    return {
      module: VerificationSchedulerModule,
      imports: [
        RuntimeModule.forApp('verification-scheduler', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          url: settings.DATABASE_URL,
          migrations: [
            ...[...eventStoreMigrations, ...readModelMigrations, ...messagingMigrations],
            ...cycleMigrations,
          ],
        }),
        CommandsModule,
        VerificationModule.forRoot({
          resolvers: settings.DOH_RESOLVERS,
          canary: settings.VERIFICATION_CANARY,
          timeoutMs: settings.DOH_TIMEOUT,
          ses: {
            region: settings.AWS_REGION,
            endpoint: settings.AWS_ENDPOINT_URL_SESV2,
            callsPerSecond: settings.SES_CALLS_PER_SECOND,
            timeoutMs: settings.SES_TIMEOUT,
          },
        }),
      ],
      controllers: [DomainEventsController],
      providers: [
        WatchedDomains,
        Slots,
        {
          provide: SesStatuses,
          inject: [SesIdentities],
          useFactory: (ses: SesIdentities) =>
            new SesStatuses(ses, {
              maxAgeMs: Math.min(60_000, settings.VERIFICATION_INTERVAL / 4),
              timeoutMs: listingTimeoutMs,
            }),
        },
        {
          provide: Scheduler,
          inject: [Slots, WatchedDomains, Verifier, SesStatuses, CommandBus, Canary],
          useFactory: (
            slots: Slots,
            watchedDomains: WatchedDomains,
            verifier: Verifier,
            sesStatuses: SesStatuses,
            commands: CommandBus,
            canary: Canary,
          ) =>
            new Scheduler(slots, watchedDomains, verifier, sesStatuses, commands, canary, {
              intervalMs: settings.VERIFICATION_INTERVAL,
              concurrency: settings.VERIFICATION_CONCURRENCY,
              perSecond: settings.VERIFICATION_RATE,
            }),
        },
      ],
    };
  }
}
