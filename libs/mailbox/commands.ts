/** Imperative, plain, and complete: ids, times and what is known of the domain come in with the command. */
import type { CommandContext } from '@app/mail-domain';

/** The custom domain of an address, as it stood when the command was made. */
export interface Home {
  /** `mdom_…` */
  readonly domainId: string;
  readonly status: string;
}

export class CreateMailbox {
  readonly type = 'CreateMailbox';
  constructor(
    readonly mailboxId: string,
    readonly data: {
      /** Canonical, as `parseAddress` gives it. */
      readonly address: string;
      readonly team: string;
      /** The team's own domain of that name; null when the team has none, and on the shared domain. */
      readonly home: Home | null;
      /** A name that is known; null leaves it to the domain. */
      readonly provider: string | null;
    },
    readonly context: CommandContext,
  ) {}
}

export class SuspendMailbox {
  readonly type = 'SuspendMailbox';
  readonly data = {};
  constructor(
    readonly mailboxId: string,
    readonly context: CommandContext,
  ) {}
}

export class ResumeMailbox {
  readonly type = 'ResumeMailbox';
  readonly data = {};
  constructor(
    readonly mailboxId: string,
    readonly context: CommandContext,
  ) {}
}

export class DeleteMailbox {
  readonly type = 'DeleteMailbox';
  readonly data = {};
  constructor(
    readonly mailboxId: string,
    readonly context: CommandContext,
  ) {}
}

export class ChooseOutboundProvider {
  readonly type = 'ChooseOutboundProvider';
  constructor(
    readonly mailboxId: string,
    /** `provider`: a name that is known; null leaves it to the domain. */
    readonly data: { readonly provider: string | null },
    readonly context: CommandContext,
  ) {}
}

export const mailboxCommands = [
  CreateMailbox,
  SuspendMailbox,
  ResumeMailbox,
  DeleteMailbox,
  ChooseOutboundProvider,
] as const;

export type MailboxCommand = InstanceType<(typeof mailboxCommands)[number]>;
