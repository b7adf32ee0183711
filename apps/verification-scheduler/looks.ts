import { Logger } from '@nestjs/common';
import { identityFault, type IdentityFault } from '@app/mail-domain';
import { checkNamed, isUndecided, ownership, type Assessment } from '@app/mail-records';
import type { SesStatuses } from '@app/ses';
import { carried } from '@app/tracing';
import type { Verifier } from '@app/verification';
import { disagreements, lookSeconds, ownershipDisputes, type Outcome } from './metrics';
import { changesNothing, hasSomethingToLose, type WatchedDomain } from './watched-domain';
import type { DueDomain } from './watched-domains';

/** A domain with an assessment that has to be recorded. */
export interface AssessedDomain {
  readonly domain: WatchedDomain;
  readonly assessment: Assessment;
  /** Milliseconds since the epoch. */
  readonly lookedAt: number;
  /** The span of the look, as W3C `traceparent`; absent where it was not traced. */
  readonly traceparent?: string;
}

/** A domain whose identity at SES is not as it should be. */
export interface FaultyIdentity {
  readonly id: string;
  readonly fault: IdentityFault;
  /** The span of the look, as W3C `traceparent`; absent where it was not traced. */
  readonly traceparent?: string;
}

/** Whether only one resolver sees the proof of ownership, while all agree about the rest (case G2). */
function isOwnershipDisputed({ findings }: Assessment): boolean {
  const inDns = findings.filter(({ check }) => checkNamed(check)?.authority === 'dns');
  return inDns.every(({ check, outcome, code }) =>
    check === ownership.name ? code === 'resolver_disagreement' : outcome === 'pass',
  );
}

/**
 * Looks at single domains: queries SES and the resolvers, and finds out whether there is anything to record. Records
 * nothing itself.
 */
export class Looks {
  private readonly logger = new Logger(Looks.name);

  constructor(
    private readonly verifier: Pick<Verifier, 'check'>,
    private readonly sesStatuses: Pick<SesStatuses, 'of'>,
    /** Milliseconds since the epoch. */
    private readonly clock: () => number,
  ) {}

  /**
   * Gives the assessment, or the outcome when there is nothing to record. Never rejects.
   *
   * @param onFault called when the domain's identity at SES is not as it should be, whatever the assessment.
   */
  async at(domain: DueDomain, onFault?: (faulty: FaultyIdentity) => void): Promise<AssessedDomain | Outcome> {
    try {
      const lookedAt = this.clock();
      const dkim = await this.sesStatuses.of(domain, hasSomethingToLose(domain));
      const fault = identityFault(dkim, 'scheduled');
      if (fault) onFault?.({ id: domain.id, fault, ...carried() });
      const startedAt = performance.now();
      const assessment = await this.verifier.check(domain, dkim);
      lookSeconds.observe((performance.now() - startedAt) / 1_000);
      if (assessment.findings.some(({ code }) => code === 'resolver_disagreement')) disagreements.inc();
      if (isUndecided(assessment)) return 'undecided';
      if (!changesNothing(domain, assessment)) return { domain, assessment, lookedAt, ...carried() };
      if (isOwnershipDisputed(assessment)) this.reportDispute(domain);
      return 'unchanged';
    } catch (error) {
      this.logger.warn(`${domain.id} could not be looked at: ${(error as Error).message}`);
      return 'error';
    }
  }

  /**
   * Alarms an operator, without effect on the domain: one of the resolvers, or the connection to it, may be
   * compromised.
   */
  private reportDispute({ id, name }: WatchedDomain): void {
    ownershipDisputes.inc();
    this.logger.warn(
      `Resolvers go on giving different answers about who owns ${name} (${id}), with all else in place: ask each of them by hand`,
    );
  }
}
