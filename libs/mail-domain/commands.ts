/** Imperative, plain, and complete: ids and times come in with the command, so that a decision is a pure function. */
import type { Assessment, SesDkimStatus } from './findings';
import type { IdentityFault, ProvisioningFailureKind, ProvisioningStep, Trigger, OwnersTold } from './events';

/** Who asks, when, and why. Stored with every event the command gives. */
export interface CommandContext {
  /** ISO 8601, UTC. */
  readonly at: string;
  /** `key_…` for a customer's API key, or the name of the app. */
  readonly actor: string;
  readonly requestId?: string;
  /** Joins everything that one request set going. */
  readonly correlationId: string;
  /** `stream/version` of the event that this command answers. */
  readonly causationId?: string;
}

export class AddDomain {
  readonly type = 'AddDomain';
  constructor(
    readonly domainId: string,
    readonly data: { readonly name: string; readonly team: string; readonly deadline: string },
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
      /** ISO 8601: when the look began. A scheduled one that began before the last recorded one is overtaken. */
      readonly lookedAt?: string;
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

export class ChooseDomainOutboundProvider {
  readonly type = 'ChooseDomainOutboundProvider';
  constructor(
    readonly domainId: string,
    /** `provider`: a name that is known; null for Sendmux SES. */
    readonly data: { readonly provider: string | null },
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

export class RecordOwnersTold {
  readonly type = 'RecordOwnersTold';
  constructor(
    readonly domainId: string,
    readonly data: OwnersTold['data'],
    readonly context: CommandContext,
  ) {}
}

export const domainCommands = [
  AddDomain,
  CompleteProvisioning,
  FailProvisioning,
  CompleteRollback,
  RecordCheck,
  RequestIdentityRepair,
  CompleteIdentityRepair,
  ChooseDomainOutboundProvider,
  RecordOwnersTold,
  RequestDeletion,
  CompleteDeletion,
] as const;

export type DomainCommand = InstanceType<(typeof domainCommands)[number]>;
