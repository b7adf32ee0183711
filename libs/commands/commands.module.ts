import { Module, type Type } from '@nestjs/common';
import { CommandHandler, CqrsModule } from '@nestjs/cqrs';
import { EventStore, EventStoreModule } from '@app/event-store';
import { domainCommands, type DomainCommand } from '@app/mail-domain';
import { mailboxCommands, type MailboxCommand } from '@app/mailbox';
import { domainsProjection, mailboxesProjection } from '@app/read-model';
import { Pool } from 'pg';
import { DomainCommandHandler } from './domain-command.handler';
import { MAILBOX_STORE, MailboxCommandHandler } from './mailbox-command.handler';

/** `CommandBus` finds a handler by the class of the command: one handler, registered once for each of them. */
const handlers = [
  ...domainCommands.map((command: Type<DomainCommand>) => {
    class RegisteredHandler extends DomainCommandHandler {}
    CommandHandler(command)(RegisteredHandler);
    return RegisteredHandler;
  }),
  ...mailboxCommands.map((command: Type<MailboxCommand>) => {
    class RegisteredHandler extends MailboxCommandHandler {}
    CommandHandler(command)(RegisteredHandler);
    return RegisteredHandler;
  }),
];

@Module({
  imports: [CqrsModule.forRoot(), EventStoreModule.forRoot(domainsProjection)],
  providers: [
    { provide: MAILBOX_STORE, inject: [Pool], useFactory: (pool: Pool) => new EventStore(pool, mailboxesProjection) },
    DomainCommandHandler,
    MailboxCommandHandler,
    ...handlers,
  ],
  exports: [CqrsModule, EventStoreModule, DomainCommandHandler, MailboxCommandHandler],
})
export class CommandsModule {}
