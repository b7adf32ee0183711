import type { ConstraintViolation } from '@app/event-store';
import { installationQuota, shardCapacity, singular, teamQuota, type QuotaKind } from '@app/read-model';

interface Count {
  readonly current: number;
  readonly limit: number;
}

/** Thrown when a team has as many as it may have. Nothing was appended. The message says what to do. */
export class QuotaExceeded extends Error {
  override readonly name = 'QuotaExceeded';
  constructor(
    readonly kind: QuotaKind,
    readonly count: Count,
  ) {
    super(said(kind, count));
  }
}

/** Thrown when all teams together have as many domains as the installation may have. Nothing was appended. */
export class InstallationFull extends Error {
  override readonly name = 'InstallationFull';
  constructor(readonly count: Count) {
    super(`All teams together have ${count.current} domains, and MAX_DOMAINS is ${count.limit}.`);
  }
}

/** Thrown when a shard of SES takes no more identities: it is full, or drained. Nothing was appended. */
export class ShardClosed extends Error {
  override readonly name = 'ShardClosed';
  constructor(readonly shard: string) {
    super(`The shard ${shard} of SES takes no more identities.`);
  }
}

/** Gives the error for the violation of a limit; undefined when another constraint is violated. */
export function quotaRefusal(kind: QuotaKind, { constraint, detail = '' }: ConstraintViolation): Error | undefined {
  if (constraint === shardCapacity) return new ShardClosed(detail);
  if (constraint !== teamQuota && constraint !== installationQuota) return undefined;
  const [current, limit] = detail.split('/').map(Number) as [number, number];
  return constraint === teamQuota
    ? new QuotaExceeded(kind, { current, limit })
    : new InstallationFull({ current, limit });
}

function said(kind: QuotaKind, { current, limit }: Count): string {
  if (limit === 0) return `Your team may have no ${kind}. Ask support to allow some.`;
  const number = (count: number) => count.toLocaleString('en-AU');
  return `Your team has ${number(current)} ${current === 1 ? singular[kind] : kind}, and ${number(limit)} is the most that it may have. Delete a ${singular[kind]} that you no longer need, or ask support for a higher limit.`;
}
