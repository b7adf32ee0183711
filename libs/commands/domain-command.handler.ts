import { Command, CommandHandler, type ICommandHandler } from '@nestjs/cqrs';
import { EventStore } from '@app/event-store';
import {
  decide,
  domainEvent,
  DomainRuleBroken,
  evolve,
  initialState,
  schemaVersions,
  type DomainCommand,
  type DomainEvent,
  type MailDomain,
} from '@app/mail-domain';
import { domainRow, nameReservation, noMailboxLeft } from '@app/read-model';
import type { Decider } from './decider';
import { DeciderHandler, type Decision } from './decider.handler';
import { quotaRefusal } from './quota-errors';
import type { ReadState } from './stream-states';

/** The outcome of a command on a domain. */
export type Decided = Decision<DomainEvent, MailDomain>;

/** Carries a command on a domain over the bus. */
export class CommandToDomain extends Command<Decided> {
  constructor(
    readonly command: DomainCommand,
    readonly ifVersion?: number,
    readonly also?: DomainCommand,
    readonly known?: ReadState<MailDomain>,
  ) {
    super();
  }
}

export const domainDecider: Decider<DomainCommand, DomainEvent, MailDomain> = {
  kind: 'domain',
  initialState,
  schemaVersions,
  decide,
  evolve,
  streamOf: ({ domainId }) => domainId,
  begins: ({ type }) => type === 'AddDomain',
  eventsOf: (recorded) => Promise.resolve().then(() => recorded.map(domainEvent)),
  rowOf: domainRow,
  refusalOf: (violation, command) => {
    const { constraint, detail } = violation;
    if (constraint === nameReservation && command.type === 'AddDomain')
      return new DomainRuleBroken('conflict', `${command.data.name} is taken.`);
    if (constraint === noMailboxLeft)
      return new DomainRuleBroken(
        'conflict',
        `${detail === '1' ? '1 mailbox still lives' : `${detail} mailboxes still live`} on this domain. Delete the mailboxes first, then the domain.`,
      );
    return quotaRefusal('domains', violation);
  },
  logged: (events) => {
    const failed = events.find((event) => event.type === 'ProvisioningFailed');
    return failed ? { reason: failed.data.reason } : {};
  },
};

/**
 * Handles the commands on domains.
 *
 * @throws {DomainRuleBroken} `conflict` when the name is reserved or mailboxes are left, and whatever `decide` refuses.
 * @throws {QuotaExceeded}, {InstallationFull} and {ShardClosed}, for an add.
 */
@CommandHandler(CommandToDomain)
export class DomainCommandHandler
  extends DeciderHandler<DomainCommand, DomainEvent, MailDomain>
  implements ICommandHandler<CommandToDomain>
{
  constructor(store: EventStore) {
    super(store, domainDecider);
  }
}
