import { Module, type DynamicModule } from '@nestjs/common';
import { Accounts, accountsMigrations } from '@app/accounts';
import { Commands, CommandsModule, DomainCommandHandler } from '@app/commands';
import { DatabaseModule, databaseUrls, mailServerUrls } from '@app/database';
import { eventStoreMigrations, LostHistory } from '@app/event-store';
import { MailServer, MailServerModule } from '@app/mail-server';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { messagingMigrations } from '@app/messaging';
import { DomainsReadModel, MailboxesReadModel, readModelMigrations, StoredShards, storeShards } from '@app/read-model';
import { ProcessModule } from '@app/process';
import { outboundProviders, sesShards, type Settings } from '@app/runtime';
import { SesListings, sesMigrations, SesShards, SesStatuses } from '@app/ses';
import { SesWriterModule, type SesWriter } from '@app/ses-writer';
import { senderRulesMigrations, StoredSenderRules } from '@app/sender-rules';
import { TaskList, tasksMigrations } from '@app/tasks';
import { Pool } from 'pg';
import { DomainEventsController } from './domain-events.controller';
import { MailboxEventsController } from './mailbox-events.controller';
import { OutboundRelays, PlacementWorker } from './placement.worker';
import { RoleMail } from './role-mail';
import { Provisioner, ProvisioningTimes } from './provisioner';
import { ProvisioningWorker } from './provisioning.worker';
import { SenderRulesWorker } from './sender-rules.worker';
import { ShardPlaces } from './shard-places';

@Module({})
export class ProvisioningModule {
  static forRoot(settings: Settings): DynamicModule {
    return {
      module: ProvisioningModule,
      imports: [
        ProcessModule.forApp('provisioning', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          migrations: [
            ...eventStoreMigrations,
            ...readModelMigrations,
            ...mailboxKeysMigrations,
            ...messagingMigrations,
            ...tasksMigrations,
            ...accountsMigrations,
            ...senderRulesMigrations,
            ...sesMigrations,
          ],
        }),
        CommandsModule.withMailboxes(settings),
        MailServerModule.forRoot(mailServerUrls(settings)),
        SesWriterModule.forRoot({ shards: sesShards(settings), timeoutMs: settings.SES_TIMEOUT }),
      ],
      controllers: [DomainEventsController, MailboxEventsController],
      providers: [
        {
          provide: StoredShards,
          inject: [Pool, SesShards],
          useFactory: (pool: Pool, clients: SesShards) => storeShards(pool, sesShards(settings), clients),
        },
        TaskList,
        ProvisioningWorker,
        PlacementWorker,
        SenderRulesWorker,
        { provide: StoredSenderRules, inject: [Pool], useFactory: (pool: Pool) => new StoredSenderRules(pool) },
        {
          provide: RoleMail,
          inject: [Pool, MailServer],
          useFactory: (pool: Pool, mailServer: MailServer) =>
            new RoleMail(new Accounts(pool), new DomainsReadModel(pool), mailServer, settings),
        },
        { provide: OutboundRelays, useValue: new OutboundRelays(outboundProviders(settings)) },
        {
          provide: ProvisioningTimes,
          useFactory: () => {
            const { SES_TIMEOUT: timeout, SES_MOVE_GRACE: grace } = settings;
            return new ProvisioningTimes(200, timeout, 6 * timeout, timeout, grace);
          },
        },
        {
          provide: Provisioner,
          inject: [Commands, DomainCommandHandler, MailServer, SesShards, ProvisioningTimes, Pool],
          useFactory: (
            commands: Commands,
            domains: DomainCommandHandler,
            mailServer: MailServer,
            ses: SesShards<SesWriter>,
            times: ProvisioningTimes,
            pool: Pool,
          ) => {
            const statuses = SesStatuses.ofCycle(new SesListings(pool), ses, settings.VERIFICATION_INTERVAL);
            const places = new ShardPlaces(ses.names().length);
            const mailboxes = new MailboxesReadModel(pool);
            const lost = new LostHistory(pool);
            return new Provisioner(commands, domains, mailServer, ses, times, mailboxes, statuses, places, lost);
          },
        },
      ],
    };
  }
}
