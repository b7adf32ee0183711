import { Commands, DomainCommandHandler, MailboxCommandHandler } from '@app/commands';
import type { ModuleRef } from '@nestjs/core';
import { InstanceWrapper } from '@nestjs/core/injector/instance-wrapper.js';
import { CommandBus } from '@nestjs/cqrs';

/** Gives the `Commands` of the product over handlers of the test, without Nest's container. */
export function commandsTo(
  domains: Pick<DomainCommandHandler, 'execute'>,
  mailboxes?: Pick<MailboxCommandHandler, 'execute'>,
): Commands {
  const bus = new CommandBus({} as ModuleRef);
  bus.register([new InstanceWrapper({ metatype: DomainCommandHandler, instance: domains, isResolved: true })]);
  if (mailboxes)
    bus.register([new InstanceWrapper({ metatype: MailboxCommandHandler, instance: mailboxes, isResolved: true })]);
  return new Commands(bus);
}
