import { Injectable } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import type { DomainCommand, MailDomain } from '@app/mail-domain';
import type { MailboxCommand } from '@app/mailbox';
import { CommandToDomain, type Decided } from './domain-command.handler';
import type { ReadState } from './stream-states';
import { CommandToMailbox, type MailboxDecided } from './mailbox-command.handler';

/**
 * Executes every command of the product. `CommandBus` passes it to the handler of its model, and returns the decision.
 */
@Injectable()
export class Commands {
  constructor(private readonly bus: CommandBus) {}

  /**
   * Executes a command on a domain.
   *
   * @param ifVersion the only version of the domain that it may be decided on; absent: any.
   * @param known the domain as the caller has just read it: where nothing has changed since, it is not read again.
   * @throws {DomainRuleBroken} and whatever {@link DomainCommandHandler} throws; nothing has changed then.
   */
  execute(command: DomainCommand, ifVersion?: number, known?: ReadState<MailDomain>): Promise<Decided>;
  /**
   * Executes a command on a mailbox.
   *
   * @param ifVersion the only version of the mailbox that it may be decided on; absent: any.
   * @throws {MailboxRuleBroken} and whatever {@link MailboxCommandHandler} throws; nothing has changed then.
   */
  execute(command: MailboxCommand, ifVersion?: number): Promise<MailboxDecided>;
  execute(
    command: DomainCommand | MailboxCommand,
    ifVersion?: number,
    known?: ReadState<MailDomain>,
  ): Promise<Decided | MailboxDecided> {
    return 'mailboxId' in command
      ? this.bus.execute(new CommandToMailbox(command, ifVersion))
      : this.bus.execute(new CommandToDomain(command, ifVersion, undefined, known));
  }

  /**
   * Executes two commands on two domains in one transaction: the events of both are recorded, or none. Where one of the
   * two changes nothing, neither does.
   *
   * @returns the decision on the first; without events where nothing has changed.
   * @throws {DomainRuleBroken} and whatever {@link DomainCommandHandler} throws; nothing has changed then.
   */
  executeBoth(first: DomainCommand, second: DomainCommand): Promise<Decided> {
    return this.bus.execute(new CommandToDomain(first, undefined, second));
  }
}
