import { Module, type Type } from '@nestjs/common';
import { CommandHandler, CqrsModule } from '@nestjs/cqrs';
import { EventStoreModule } from '@app/event-store';
import { domainCommands, type DomainCommand } from '@app/mail-domain';
import { domainsProjection } from '@app/read-model';
import { DomainCommandHandler } from './domain-command.handler';

/** `CommandBus` finds a handler by the class of the command: one handler, registered once for each of them. */
const handlers = domainCommands.map((command: Type<DomainCommand>) => {
  class RegisteredHandler extends DomainCommandHandler {}
  CommandHandler(command)(RegisteredHandler);
  return RegisteredHandler;
});

@Module({
  imports: [CqrsModule.forRoot(), EventStoreModule.forRoot(domainsProjection)],
  providers: [DomainCommandHandler, ...handlers],
  exports: [CqrsModule, EventStoreModule, DomainCommandHandler],
})
export class CommandsModule {}
