import { Module, type DynamicModule } from '@nestjs/common';
import { Accounts, AccountsModule, accountsMigrations, Invitations, SetupLinks } from '@app/accounts';
import { Commands, CommandsModule, DomainCommandHandler } from '@app/commands';
import { DatabaseModule, databaseUrls } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { messagingMigrations } from '@app/messaging';
import { DomainsReadModel, readModelMigrations } from '@app/read-model';
import { ProcessModule } from '@app/process';
import { HealthProbes, publicUrlOf, type Settings } from '@app/runtime';
import { TaskList, tasksMigrations } from '@app/tasks';
import { webhooksMigrations } from '@app/webhooks';
import { Pool } from 'pg';
import { Deliveries } from './deliveries';
import { DomainEventsController, NewsTimes } from './domain-events.controller';
import { InvitationsWorker } from './invitations.worker';
import { mailTransport } from './mail-transport';
import { Notifier } from './notifier';
import { notifierMigrations } from './notifier.migration';
import { NotifierWorker } from './notifier.worker';
import { OwnerMailer } from './owner-mailer';
import { senderDomain } from './sender';
import { SetupInstructionsWorker } from './setup-instructions.worker';
import { TeamFailures } from './team-failures';
import { tracedSmtp } from './traced-smtp';
import { WebhookNoticesWorker } from './webhook-notices.worker';

@Module({})
export class NotifierModule {
  constructor(probes: HealthProbes, pool: Pool) {
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
  }

  /** @throws {Error} when `NOTIFY_FROM` is no address. */
  static forRoot(settings: Settings): DynamicModule {
    senderDomain(settings.NOTIFY_FROM);
    const smtp = tracedSmtp(mailTransport(settings));
    const mailing = { smtp, from: settings.NOTIFY_FROM, publicUrl: publicUrlOf(settings) };
    return {
      module: NotifierModule,
      imports: [
        ProcessModule.forApp('notifier', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          migrations: [
            ...eventStoreMigrations,
            ...readModelMigrations,
            ...messagingMigrations,
            ...tasksMigrations,
            ...accountsMigrations,
            ...webhooksMigrations,
            ...notifierMigrations,
          ],
        }),
        CommandsModule,
        AccountsModule,
      ],
      controllers: [DomainEventsController],
      providers: [
        TaskList,
        DomainsReadModel,
        Deliveries,
        TeamFailures,
        NotifierWorker,
        WebhookNoticesWorker,
        {
          provide: NewsTimes,
          useFactory: () => new NewsTimes(Math.min(settings.VERIFICATION_INTERVAL, settings.CLAIM_GRACE / 2)),
        },
        {
          provide: InvitationsWorker,
          inject: [TaskList, Invitations],
          useFactory: (tasks: TaskList, invitations: Invitations) => new InvitationsWorker(tasks, invitations, mailing),
        },
        {
          provide: SetupInstructionsWorker,
          inject: [TaskList, SetupLinks, DomainsReadModel],
          useFactory: (tasks: TaskList, links: SetupLinks, domains: DomainsReadModel) =>
            new SetupInstructionsWorker(tasks, links, domains, mailing),
        },
        {
          provide: OwnerMailer,
          inject: [Commands, Accounts, Deliveries],
          useFactory: (commands: Commands, accounts: Accounts, deliveries: Deliveries) =>
            new OwnerMailer(commands, accounts, deliveries, smtp, settings.NOTIFY_FROM),
        },
        {
          provide: Notifier,
          inject: [DomainCommandHandler, Deliveries, OwnerMailer, TeamFailures],
          useFactory: (
            domains: DomainCommandHandler,
            deliveries: Deliveries,
            mailer: OwnerMailer,
            failures: TeamFailures,
          ) => {
            const gathering = { failures, withinMs: settings.VERIFICATION_INTERVAL };
            return new Notifier(domains, deliveries, mailer, gathering, settings.CLAIM_GRACE);
          },
        },
      ],
    };
  }
}
