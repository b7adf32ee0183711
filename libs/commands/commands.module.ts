import { Module } from '@nestjs/common';
import { CqrsModule } from '@nestjs/cqrs';
import { EventStore, EventStoreModule } from '@app/event-store';
import { domainsProjection, mailboxesProjection } from '@app/read-model';
import { Pool } from 'pg';
import { Commands } from './commands';
import { DomainCommandHandler } from './domain-command.handler';
import { MAILBOX_STORE, MailboxCommandHandler } from './mailbox-command.handler';

@Module({
  imports: [CqrsModule.forRoot(), EventStoreModule.forRoot(domainsProjection)],
  providers: [
    { provide: MAILBOX_STORE, inject: [Pool], useFactory: (pool: Pool) => new EventStore(pool, mailboxesProjection) },
    Commands,
    DomainCommandHandler,
    MailboxCommandHandler,
  ],
  exports: [EventStoreModule, Commands, DomainCommandHandler, MailboxCommandHandler],
})
export class CommandsModule {}
