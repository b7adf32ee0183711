import { Module, type DynamicModule } from '@nestjs/common';
import { Accounts, AccountsModule, accountsMigrations } from '@app/accounts';
import { CommandsModule, DomainCommandHandler } from '@app/commands';
import { DatabaseModule } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { HealthProbes, RuntimeModule, type Settings } from '@app/runtime';
import { TaskList, tasksMigrations } from '@app/tasks';
import { createTransport } from 'nodemailer';
import { Pool } from 'pg';
import { Deliveries } from './deliveries';
import { DomainEventsController } from './domain-events.controller';
import { Notifier } from './notifier';
import { notifierMigrations } from './notifier.migration';
import { NotifierWorker } from './notifier.worker';
import { senderDomain } from './sender';
import { TeamFailures } from './team-failures';

/** Milliseconds. */
const smtpTimeouts = { connectionTimeout: 10_000, greetingTimeout: 10_000, socketTimeout: 30_000 };

@Module({})
export class NotifierModule {
  constructor(probes: HealthProbes, pool: Pool) {
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
  }

  /** @throws {Error} when `NOTIFY_FROM` is no address. */
  static forRoot(settings: Settings): DynamicModule {
    senderDomain(settings.NOTIFY_FROM);
    return {
      module: NotifierModule,
      imports: [
        RuntimeModule.forApp('notifier', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          url: settings.DATABASE_URL,
          migrations: [
            ...[...eventStoreMigrations, ...readModelMigrations, ...messagingMigrations, ...tasksMigrations],
            ...[...accountsMigrations, ...notifierMigrations],
          ],
        }),
        CommandsModule,
        AccountsModule,
      ],
      controllers: [DomainEventsController],
      providers: [
        TaskList,
        Deliveries,
        TeamFailures,
        NotifierWorker,
        {
          provide: Notifier,
          inject: [DomainCommandHandler, Accounts, Deliveries, TeamFailures],
          useFactory: (
            domains: DomainCommandHandler,
            accounts: Accounts,
            deliveries: Deliveries,
            failures: TeamFailures,
          ) => {
            const smtp = createTransport({
              ...smtpTimeouts,
              url: settings.SMTP_URL,
              disableFileAccess: true,
              disableUrlAccess: true,
            });
            return new Notifier(domains, accounts, deliveries, smtp, settings.NOTIFY_FROM, {
              failures,
              withinMs: settings.VERIFICATION_INTERVAL,
            });
          },
        },
      ],
    };
  }
}
