/** Commands on a mailbox. A command is complete: it carries ids, times and what is known of the domain. */
import type { CommandContext } from '@app/decider';

/** The custom domain of an address, as it was when the command was made. */
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
      /** The canonical address, as `parseAddress` gives it. */
      readonly address: string;
      readonly team: string;
      /** The team's own domain of that name; null when the team has none, and on the shared domain. */
      readonly home: Home | null;
      /** The name of a known provider; null leaves the choice to the domain. */
      readonly provider: string | null;
      /** Absent or null for none. */
      readonly displayName?: string | null;
    },
    readonly context: CommandContext,
  ) {}
}

export class SuspendMailbox {
  readonly type = 'SuspendMailbox';
  constructor(
    readonly mailboxId: string,
    readonly context: CommandContext,
    /** `domain_released`: its domain has gone to another team; absent where the customer asks for it. */
    readonly data: { readonly reason?: 'domain_released' } = {},
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

/** Erases what is personal about a mailbox that is deleted. */
export class EraseMailbox {
  readonly type = 'EraseMailbox';
  readonly data = {};
  constructor(
    readonly mailboxId: string,
    readonly context: CommandContext,
  ) {}
}

/** Changes what the customer keeps with a mailbox. A field that is absent stays as it is. */
export class UpdateMailbox {
  readonly type = 'UpdateMailbox';
  constructor(
    readonly mailboxId: string,
    readonly data: {
      readonly displayName?: string | null;
      /** The name of a known provider; null leaves the choice to the domain. */
      readonly provider?: string | null;
    },
    readonly context: CommandContext,
  ) {}
}

export type MailboxCommand =
  CreateMailbox | SuspendMailbox | ResumeMailbox | DeleteMailbox | EraseMailbox | UpdateMailbox;
