import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import { DomainCommandHandler, type Decided } from '@app/commands';
import { eventId } from '@app/event-store';
import {
  CompleteDeletion,
  CompleteIdentityRepair,
  CompleteProvisioning,
  CompleteRollback,
  FailProvisioning,
  isLive,
  type CommandContext,
  type MailDomain,
  type ProvisioningFailed,
  type ProvisioningStep,
} from '@app/mail-domain';
import { MailServer } from '@app/mail-server';
import { SesIdentities, SesRefused, type SesIdentity } from '@app/ses';

type Provisioning = Extract<MailDomain, { status: 'provisioning' }>;
type Named = Pick<Provisioning, 'id' | 'name'>;

/** In milliseconds. */
export class ProvisioningTimes {
  constructor(
    /** First wait between two attempts of a step; doubled up to twenty times as long. */
    readonly retryMs: number,
    /**
     * After a step that was given up without an answer, how long its request may still be on its way: the rollback looks a
     * second time after it, before the name is free.
     */
    readonly settleMs: number,
    /** After a rollback, when to look a last time for what came later still. */
    readonly lookAgainMs: number,
  ) {}
}

/** Whether something is still to be brought about, and not only to be looked at. */
export const asksForWork = (state: MailDomain): boolean =>
  ['provisioning', 'rolling_back', 'deleting'].includes(state.status) || (isLive(state) && state.inRepair);

/**
 * Brings the mail server and SES to what a domain's events say: both have it, or neither.
 *
 * Every step is idempotent and leaves the domain's id as a tag, so that doing it again after a crash at any point
 * finishes the work, and undoing touches nothing that is not ours.
 */
@Injectable()
export class Provisioner {
  private readonly logger = new Logger(Provisioner.name);

  constructor(
    private readonly commands: CommandBus,
    private readonly domains: DomainCommandHandler,
    private readonly mailServer: MailServer,
    private readonly ses: SesIdentities,
    private readonly times: ProvisioningTimes,
  ) {}

  /**
   * Does the one thing that the state asks for, if any; the event it leads to asks for the next.
   *
   * @param triedBefore an earlier try ended without an answer, and its requests may still be on their way.
   * @throws whatever keeps it from being finished now: it is to be tried again, for as long as it takes.
   */
  async converge(domainId: string, signal: AbortSignal, triedBefore = false): Promise<void> {
    const { state, last } = await this.domains.load(domainId);
    const context = (): CommandContext => ({
      at: new Date().toISOString(),
      actor: 'provisioning',
      correlationId: last?.metadata.correlationId ?? domainId,
      ...(last && { causationId: eventId(last) }),
    });
    if (state.status === 'provisioning') {
      const result = await this.provision(state, signal, context().correlationId);
      await this.commands.execute(
        'failure' in result
          ? new FailProvisioning(domainId, result.failure, context())
          : new CompleteProvisioning(domainId, result.provisioned, context()),
      );
    } else if (state.status === 'rolling_back') {
      await this.removeForGood(state, signal, triedBefore || state.failure.kind === 'deadline');
      await this.commands.execute(new CompleteRollback(domainId, context()));
    } else if (state.status === 'rolled_back' || state.status === 'deleted') {
      // By its tag: whoever has the name by now is not touched.
      await this.remove(state, signal);
    } else if (isLive(state) && state.inRepair) {
      const { tokens, hostedZone, region, status } = await this.repair(state, signal);
      const identity = { dkimTokens: tokens, dkimZone: hostedZone, sesRegion: region, sesDkimStatus: status };
      const complete = new CompleteIdentityRepair(domainId, identity, context());
      const { state: now } = await this.commands.execute<CompleteIdentityRepair, Decided>(complete);
      // A deletion that was asked for meanwhile may have looked before the identity was there.
      if (!isLive(now)) await this.remove(state, signal);
    } else if (state.status === 'deleting') {
      await this.removeForGood(state, signal, triedBefore);
      await this.commands.execute(new CompleteDeletion(domainId, context()));
    }
  }

  /** Both steps, each tried until the deadline. Says how it ended; leaves the undoing to the next turn. */
  private async provision(
    domain: Provisioning,
    signal: AbortSignal,
    correlationId: string,
  ): Promise<{ provisioned: CompleteProvisioning['data'] } | { failure: ProvisioningFailed['data'] }> {
    const left = Date.parse(domain.deadline) - Date.now();
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(Math.max(0, left))]);
    let step: ProvisioningStep = 'mail_server';
    let trouble = 'it was not tried in time';
    const attempt = async <T>(work: () => Promise<T>): Promise<T> => {
      for (let wait = this.times.retryMs; ; wait = Math.min(wait * 2, this.times.retryMs * 20)) {
        try {
          inTime.throwIfAborted();
          return await work();
        } catch (error) {
          if (error instanceof SesRefused || inTime.aborted) throw error;
          trouble = (error as Error).message;
          this.logger.warn(
            { domain: domain.id, correlation_id: correlationId, step, error: trouble },
            'a provisioning step is tried again',
          );
          await delay(wait, undefined, { signal: inTime });
        }
      }
    };
    try {
      if ((await attempt(() => this.register(domain))) === 'foreign')
        return { failure: { step, kind: 'foreign', reason: `The mail server has ${domain.name} for somebody else.` } };
      step = 'ses';
      const identity = await attempt(() => this.identify(domain, inTime));
      if (identity === 'foreign')
        return { failure: { step, kind: 'foreign', reason: `Amazon SES has ${domain.name} for somebody else.` } };
      const { tokens, hostedZone, region, status } = identity;
      return { provisioned: { dkimTokens: tokens, dkimZone: hostedZone, sesRegion: region, sesDkimStatus: status } };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SesRefused) return { failure: { step, kind: 'refused', reason: error.message } };
      const part = step === 'ses' ? 'Amazon SES' : 'The mail server';
      return {
        failure: { step, kind: 'deadline', reason: `${part} was not ready in time: ${trouble.replace(/\.$/, '')}.` },
      };
    }
  }

  /**
   * Puts the domain into the mail server. An entry of a domain of ours that has ended is the late effect of a request
   * that was given up: it is replaced. Any other is foreign, and stays as it is.
   */
  private async register(domain: Named): Promise<'registered' | 'foreign'> {
    const added = await this.mailServer.add(domain.name, domain.id);
    if (added.outcome === 'added') return 'registered';
    if (!(await this.hasEnded(added.domainId))) return 'foreign';
    await this.mailServer.remove(domain.name, added.domainId);
    return this.register(domain);
  }

  /** The same in SES, by the identity's tag. */
  private async identify(domain: Named, signal: AbortSignal): Promise<SesIdentity | 'foreign'> {
    const identity = await this.ses.create(domain.name, domain.id, { signal });
    if (identity.domainId === domain.id) return identity;
    if (identity.domainId === null || !(await this.hasEnded(identity.domainId))) return 'foreign';
    await this.ses.delete(domain.name, { signal });
    return this.identify(domain, signal);
  }

  /**
   * Makes the identity anew where SES has none, and has SES begin to look for the DKIM records where it has not. One that is
   * somebody else's by now stays as it is: an operator has to settle that, and is told again and again.
   */
  private async repair(domain: Named, signal: AbortSignal): Promise<SesIdentity> {
    const existing = await this.ses.get(domain.name, { signal });
    if (existing?.domainId === domain.id && existing.status === 'not_started')
      await this.ses.restartDkim(domain.name, { signal });
    const identity = await this.identify(domain, signal);
    if (identity !== 'foreign') return identity;
    this.logger.error(
      `Amazon SES has lost ${domain.name}, and has it for somebody else now: ${domain.id} cannot be repaired`,
    );
    throw new Error(`Amazon SES has ${domain.name} for somebody else`);
  }

  private async hasEnded(domainId: string): Promise<boolean> {
    const { state } = await this.domains.load(domainId);
    return state.status === 'rolled_back' || state.status === 'deleted';
  }

  /**
   * Before the name is free: a request that was given up without an answer could take effect on whoever has the name
   * next, so it is waited out, and looked at again.
   */
  private async removeForGood(domain: Named, signal: AbortSignal, somethingOnItsWay: boolean): Promise<void> {
    await this.remove(domain, signal);
    if (!somethingOnItsWay) return;
    await delay(this.times.settleMs, undefined, { signal });
    await this.remove(domain, signal);
  }

  /** Takes from both what carries the domain's tag. The mail server first: it must not take mail that nobody serves. */
  private async remove(domain: Named, signal: AbortSignal): Promise<void> {
    await this.mailServer.remove(domain.name, domain.id);
    const identity = await this.ses.get(domain.name, { signal });
    if (identity?.domainId === domain.id) await this.ses.delete(domain.name, { signal });
  }
}
