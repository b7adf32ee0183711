import { Inject, Injectable } from '@nestjs/common';
import { EventStore } from '@app/event-store';
import {
  decideMailbox,
  evolveMailbox,
  mailboxEvent,
  MailboxRuleBroken,
  mailboxSchemaVersions,
  noMailbox,
  sharedDomain,
  type CreateMailbox,
  type Mailbox,
  type MailboxCommand,
  type MailboxEvent,
} from '@app/mailbox';
import { addressReservation, liveHome, mailboxRow, oneSharedMailbox } from '@app/read-model';
import type { Decider } from './decider';
import { DeciderHandler, type Decision } from './decider.handler';

/** The store whose rows go to `mailboxes`. */
export const MAILBOX_STORE = Symbol('MAILBOX_STORE');

/** What a command of a mailbox led to. */
export type MailboxDecided = Decision<MailboxEvent, Mailbox>;

export const mailboxDecider: Decider<MailboxCommand, MailboxEvent, Mailbox> = {
  kind: 'mailbox',
  ...{ initialState: noMailbox, schemaVersions: mailboxSchemaVersions, decide: decideMailbox, evolve: evolveMailbox },
  streamOf: ({ mailboxId }) => mailboxId,
  eventOf: mailboxEvent,
  rowOf: mailboxRow,
  refusalOf: ({ constraint, detail }, command) => {
    if (command.type !== 'CreateMailbox') return undefined;
    if (constraint === addressReservation)
      return new MailboxRuleBroken('conflict', `${command.data.address} is a mailbox already.`, 'address');
    if (constraint === oneSharedMailbox)
      return new MailboxRuleBroken(
        'conflict',
        `Your team has a mailbox on ${sharedDomain} already, and one is the most. Delete it first, or create this one on a custom domain.`,
        'address',
      );
    return constraint === liveHome ? refusedBy(command, detail) : undefined;
  },
};

/** The domain is no longer what it was when the command was made: the model says of the new state what it says of any. */
function refusedBy({ data, ...command }: CreateMailbox, status: string | undefined): Error | undefined {
  const home = data.home && status ? { ...data.home, status } : null;
  try {
    decideMailbox({ ...command, data: { ...data, home } }, noMailbox);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** @throws {MailboxRuleBroken} `conflict` when the address or the domain is not to be had, and whatever `decideMailbox` refuses. */
@Injectable()
export class MailboxCommandHandler extends DeciderHandler<MailboxCommand, MailboxEvent, Mailbox> {
  constructor(@Inject(MAILBOX_STORE) store: EventStore) {
    super(store, mailboxDecider);
  }
}
