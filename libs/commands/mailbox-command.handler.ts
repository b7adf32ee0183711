import { Inject } from '@nestjs/common';
import { Command, CommandHandler, type ICommandHandler } from '@nestjs/cqrs';
import { EventStore } from '@app/event-store';
import {
  decideMailbox,
  evolveMailbox,
  hasPersonalData,
  mailboxEvent,
  MailboxRuleBroken,
  mailboxSchemaVersions,
  noMailbox,
  sharedDomain,
  storedData,
  type CreateMailbox,
  type Mailbox,
  type MailboxCommand,
  type MailboxEvent,
} from '@app/mailbox';
import { MailboxKeys } from '@app/mailbox-keys';
import { addressReservation, liveHome, mailboxRow, oneSharedMailbox } from '@app/read-model';
import type { Decider } from './decider';
import { DeciderHandler, type Decision } from './decider.handler';
import { quotaRefusal } from './quota-errors';

/** Injects the store whose rows go to `mailboxes`. */
export const MAILBOX_STORE = Symbol('MAILBOX_STORE');

/** The outcome of a command on a mailbox. */
export type MailboxDecided = Decision<MailboxEvent, Mailbox>;

/** Carries a command on a mailbox over the bus. */
export class CommandToMailbox extends Command<MailboxDecided> {
  constructor(
    readonly command: MailboxCommand,
    readonly ifVersion?: number,
  ) {
    super();
  }
}

/** What it takes to read and to write the personal data of mailboxes. */
export type PersonalDataKeys = Pick<MailboxKeys, 'openerOf' | 'sealerFor'>;

export const mailboxDecider = (keys: PersonalDataKeys): Decider<MailboxCommand, MailboxEvent, Mailbox> => ({
  kind: 'mailbox',
  initialState: noMailbox,
  schemaVersions: mailboxSchemaVersions,
  decide: decideMailbox,
  evolve: evolveMailbox,
  streamOf: ({ mailboxId }) => mailboxId,
  eventsOf: async (recorded) => {
    const open = await keys.openerOf(recorded);
    return recorded.map((event) => mailboxEvent(event, open));
  },
  storedData: async (mailboxId, events) => {
    const seal = events.some(hasPersonalData) ? await keys.sealerFor(mailboxId) : () => '';
    return events.map((event) => storedData(event, seal));
  },
  rowOf: mailboxRow,
  refusalOf: (violation, command) => {
    const { constraint, detail } = violation;
    if (command.type !== 'CreateMailbox') return undefined;
    if (constraint === addressReservation)
      return new MailboxRuleBroken('conflict', `${command.data.address} is a mailbox already.`, 'address');
    if (constraint === oneSharedMailbox)
      return new MailboxRuleBroken(
        'conflict',
        `Your team has a mailbox on ${sharedDomain} already, and one is the most. Delete it first, or create this one on a custom domain.`,
        'address',
      );
    return constraint === liveHome ? refusedBy(command, detail) : quotaRefusal('mailboxes', violation);
  },
});

/**
 * Decides again with the domain's new status when the domain has changed since the command was made, so that the model
 * gives the error.
 */
function refusedBy({ data, ...command }: CreateMailbox, status: string | undefined): Error | undefined {
  const home = data.home && status ? { ...data.home, status } : null;
  try {
    decideMailbox({ ...command, data: { ...data, home } }, noMailbox);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/**
 * Handles the commands on mailboxes.
 *
 * @throws {MailboxRuleBroken} `conflict` when the address or the domain is not available, {QuotaExceeded}, and whatever
 * `decideMailbox` refuses.
 */
@CommandHandler(CommandToMailbox)
export class MailboxCommandHandler
  extends DeciderHandler<MailboxCommand, MailboxEvent, Mailbox>
  implements ICommandHandler<CommandToMailbox>
{
  constructor(@Inject(MAILBOX_STORE) store: EventStore, @Inject(MailboxKeys) keys: PersonalDataKeys) {
    super(store, mailboxDecider(keys));
  }
}
