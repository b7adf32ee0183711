/** The commands of a mail domain. Ids and times come in with a command, so that a decision is a pure function. */
import type { CommandContext } from '@app/decider';
import type { Assessment, Expected, OwnershipSeen, SesDkimStatus } from '@app/mail-records';
import type {
  ExpiryAnnounced,
  IdentityFault,
  IdentityMovePrepared,
  Notice,
  OwnersTold,
  ProvisioningFailureKind,
  ProvisioningStep,
  SenderFilterMode,
  SenderFiltersChanged,
  Trigger,
} from './events';

export class AddDomain {
  readonly type = 'AddDomain';
  constructor(
    readonly domainId: string,
    /** `mode`: absent for a domain that sends and receives. */
    readonly data: {
      readonly name: string;
      readonly team: string;
      readonly deadline: string;
      readonly mode?: 'send_only';
      /** The claim that has won the name. */
      readonly claim?: string;
      /** The domain that it was won from, where another team had it. */
      readonly replaces?: string;
      /** The shard of SES that has its identity. */
      readonly sesShard?: string;
    },
    readonly context: CommandContext,
  ) {}
}

export class CompleteProvisioning {
  readonly type = 'CompleteProvisioning';
  constructor(
    readonly domainId: string,
    readonly data: {
      readonly dkimTokens: readonly string[];
      readonly dkimZone: string;
      readonly sesRegion: string;
      readonly sesDkimStatus: SesDkimStatus;
      /** Absent when SES has none for it. */
      readonly mailFromDomain?: string;
      /** Absent when it is associated with none. */
      readonly sesTenant?: string;
    },
    readonly context: CommandContext,
  ) {}
}

export class FailProvisioning {
  readonly type = 'FailProvisioning';
  constructor(
    readonly domainId: string,
    readonly data: { readonly step: ProvisioningStep; readonly kind: ProvisioningFailureKind; readonly reason: string },
    readonly context: CommandContext,
  ) {}
}

export class CompleteRollback {
  readonly type = 'CompleteRollback';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

export class RecordCheck {
  readonly type = 'RecordCheck';
  constructor(
    readonly domainId: string,
    readonly data: Assessment & {
      readonly trigger: Trigger;
      readonly cycle: number | null;
      /** ISO 8601: when the look began. A scheduled look that began before the last recorded one changes nothing. */
      readonly lookedAt?: string;
      /** The domain as it was when the look began. Where it wants other records by now, the look says nothing of it. */
      readonly of?: Pick<Expected, 'mode' | 'dkimTokens'>;
      /**
       * Whether a domain was looked at that had nothing to lose, as far as whoever looked knew: it was never verified.
       * Then a bad status on the list of SES, which may be old, was not confirmed by a request for the domain.
       */
      readonly hadNothingToLose?: boolean;
    },
    readonly context: CommandContext,
  ) {}
}

export class RequestIdentityRepair {
  readonly type = 'RequestIdentityRepair';
  constructor(
    readonly domainId: string,
    readonly data: { readonly fault: IdentityFault },
    readonly context: CommandContext,
  ) {}
}

export class CompleteIdentityRepair {
  readonly type = 'CompleteIdentityRepair';
  constructor(
    readonly domainId: string,
    readonly data: CompleteProvisioning['data'],
    readonly context: CommandContext,
  ) {}
}

export class FailIdentityRepair {
  readonly type = 'FailIdentityRepair';
  constructor(
    readonly domainId: string,
    /** `reason`: a sentence for people. */
    readonly data: { readonly reason: string },
    readonly context: CommandContext,
  ) {}
}

export class MoveIdentity {
  readonly type = 'MoveIdentity';
  constructor(
    readonly domainId: string,
    /** The names of two shards of SES: that of the domain, and the one that is to have it. */
    readonly data: { readonly from: string; readonly to: string },
    readonly context: CommandContext,
  ) {}
}

/** Records the new identity, in the shard that is to have the domain. */
export class PrepareIdentityMove {
  readonly type = 'PrepareIdentityMove';
  constructor(
    readonly domainId: string,
    readonly data: IdentityMovePrepared['data'],
    readonly context: CommandContext,
  ) {}
}

/** Has the domain send with the new identity, whose DKIM records SES has seen. */
export class SwitchIdentity {
  readonly type = 'SwitchIdentity';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

export class CompleteIdentityMove {
  readonly type = 'CompleteIdentityMove';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

export class CancelIdentityMove {
  readonly type = 'CancelIdentityMove';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

export class FailIdentityMove {
  readonly type = 'FailIdentityMove';
  constructor(
    readonly domainId: string,
    /** `reason`: a sentence for people. */
    readonly data: { readonly reason: string },
    readonly context: CommandContext,
  ) {}
}

export class ChooseDomainOutboundProvider {
  readonly type = 'ChooseDomainOutboundProvider';
  constructor(
    readonly domainId: string,
    /** `provider`: the name of a configured provider; null for Sendmux SES. */
    readonly data: { readonly provider: string | null },
    readonly context: CommandContext,
  ) {}
}

export class EnableReceiving {
  readonly type = 'EnableReceiving';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

/** Replaces the rules about senders. The rules themselves are stored before, under their digest. */
export class ChangeSenderFilters {
  readonly type = 'ChangeSenderFilters';
  constructor(
    readonly domainId: string,
    readonly data: SenderFiltersChanged['data'] & { readonly mode: SenderFilterMode },
    readonly context: CommandContext,
  ) {}
}

export class RequestDeletion {
  readonly type = 'RequestDeletion';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

export class CompleteDeletion {
  readonly type = 'CompleteDeletion';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

export class AnnounceExpiry {
  readonly type = 'AnnounceExpiry';
  constructor(
    readonly domainId: string,
    /** `expiresAt`: ISO 8601, UTC, milliseconds. */
    readonly data: ExpiryAnnounced['data'],
    readonly context: CommandContext,
  ) {}
}

export class ExpireDomain {
  readonly type = 'ExpireDomain';
  readonly data = {};
  constructor(
    readonly domainId: string,
    readonly context: CommandContext,
  ) {}
}

/** Gives the name to the claim of another team, which has proved that it is its own. */
export class ReleaseDomain {
  readonly type = 'ReleaseDomain';
  constructor(
    readonly domainId: string,
    readonly data: {
      readonly claim: string;
      /** What a look for the claim has found of the ownership record of this domain's team. */
      readonly ownership: OwnershipSeen;
      /** Milliseconds for which the ownership record of a domain that was ever verified has to be gone. */
      readonly graceMs: number;
    },
    readonly context: CommandContext,
  ) {}
}

export class RecordOwnersTold {
  readonly type = 'RecordOwnersTold';
  constructor(
    readonly domainId: string,
    readonly data: OwnersTold['data'] & { readonly about: Notice },
    readonly context: CommandContext,
  ) {}
}

export type DomainCommand =
  | AddDomain
  | CompleteProvisioning
  | FailProvisioning
  | CompleteRollback
  | RecordCheck
  | RequestIdentityRepair
  | CompleteIdentityRepair
  | FailIdentityRepair
  | MoveIdentity
  | PrepareIdentityMove
  | SwitchIdentity
  | CompleteIdentityMove
  | CancelIdentityMove
  | FailIdentityMove
  | ChooseDomainOutboundProvider
  | EnableReceiving
  | ChangeSenderFilters
  | RecordOwnersTold
  | AnnounceExpiry
  | ExpireDomain
  | ReleaseDomain
  | RequestDeletion
  | CompleteDeletion;
