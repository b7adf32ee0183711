import { Module, type DynamicModule } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import { CommandsModule, DomainCommandHandler } from '@app/commands';
import { DatabaseModule } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { MailServer, MailServerModule } from '@app/mail-server';
import { messagingMigrations } from '@app/messaging';
import { readModelMigrations } from '@app/read-model';
import { outboundProviders, RuntimeModule, type Settings } from '@app/runtime';
import { SesIdentities, SesModule } from '@app/ses';
import { TaskList, tasksMigrations } from '@app/tasks';
import { DomainEventsController } from './domain-events.controller';
import { MailboxEventsController } from './mailbox-events.controller';
import { OutboundRelays, PlacementWorker } from './placement.worker';
import { Provisioner, ProvisioningTimes } from './provisioner';
import { ProvisioningWorker } from './provisioning.worker';

@Module({})
export class ProvisioningModule {
  static forRoot(settings: Settings): DynamicModule {
    return {
      module: ProvisioningModule,
      imports: [
        RuntimeModule.forApp('provisioning', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          url: settings.DATABASE_URL,
          migrations: [...eventStoreMigrations, ...readModelMigrations, ...messagingMigrations, ...tasksMigrations],
        }),
        CommandsModule,
        MailServerModule.forRoot({ url: settings.MAIL_SERVER_DATABASE_URL }),
        SesModule.forRoot({
          region: settings.AWS_REGION,
          endpoint: settings.AWS_ENDPOINT_URL_SESV2,
          callsPerSecond: settings.SES_CALLS_PER_SECOND,
          timeoutMs: settings.SES_TIMEOUT,
        }),
      ],
      controllers: [DomainEventsController, MailboxEventsController],
      providers: [
        TaskList,
        ProvisioningWorker,
        PlacementWorker,
        { provide: OutboundRelays, useValue: new OutboundRelays(outboundProviders(settings)) },
        {
          provide: ProvisioningTimes,
          useFactory: () => new ProvisioningTimes(200, settings.SES_TIMEOUT, 6 * settings.SES_TIMEOUT),
        },
        {
          provide: Provisioner,
          inject: [CommandBus, DomainCommandHandler, MailServer, SesIdentities, ProvisioningTimes],
          useFactory: (
            commands: CommandBus,
            domains: DomainCommandHandler,
            mailServer: MailServer,
            ses: SesIdentities,
            times: ProvisioningTimes,
          ) => new Provisioner(commands, domains, mailServer, ses, times),
        },
      ],
    };
  }
}
