import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import { Commands, DomainCommandHandler } from '@app/commands';
import type { CommandContext } from '@app/decider';
import {
  CompleteDeletion,
  CompleteIdentityMove,
  CompleteIdentityRepair,
  CompleteProvisioning,
  CompleteRollback,
  FailIdentityMove,
  FailIdentityRepair,
  FailProvisioning,
  identityFault,
  isLive,
  type DomainCommand,
  type IdentityMove,
  type LiveDomain,
  otherShardOf,
  PrepareIdentityMove,
  SwitchIdentity,
  provisioningFailure,
  type MailDomain,
  type ProvisioningFailed,
  type ProvisioningStep,
} from '@app/mail-domain';
import { eventId } from '@app/event-store';
import { MailServer, MailServerDenied } from '@app/mail-server';
import { MailboxRuleBroken, SuspendMailbox } from '@app/mailbox';
import { haveSameTokens, mailFromName } from '@app/mail-records';
import {
  adoptedTag,
  belongsTo,
  SesDenied,
  SesRefused,
  SesUnavailable,
  type Call,
  type SesIdentity,
  type SesStatuses,
} from '@app/ses';
import type { MailboxesReadModel } from '@app/read-model';
import { CounterpartAlarm, defaultShard, sesRelay } from '@app/runtime';
import type { SesWriter } from '@app/ses-writer';
import type { ShardPlaces } from './shard-places';

/** A domain as its stream was read. */
type Known = Awaited<ReturnType<DomainCommandHandler['load']>>;
type Provisioning = Extract<MailDomain, { status: 'provisioning' }>;
type Named = Pick<Provisioning, 'id' | 'name' | 'team' | 'mode' | 'sesShard' | 'move'>;
type Ended = Named & Pick<MailDomain, 'status'>;

/** Knows the domains of a history that a restore of the log has ended: nothing but their effects is left of them. */
export interface LostDomains {
  has(domainId: string): Promise<boolean>;
}

/** The times of provisioning, in milliseconds. */
export class ProvisioningTimes {
  constructor(
    /** Wait after the first failed attempt of a step; doubled after each, up to twenty times as long. */
    readonly retryMs: number,
    /**
     * Time for which the request of an abandoned step may still take effect. The rollback removes the domain a second
     * time after it, before the name becomes available.
     */
    readonly settleMs: number,
    /** Time after a rollback or a deletion at which provisioning removes late effects once more. */
    readonly lookAgainMs: number,
    /** Shortest time between two looks whether SES has seen the DKIM records of a domain that moves. */
    readonly moveLookMs = 10_000,
    /** Time for which the old identity of a domain that has moved stays: mail that is under way has its signature. */
    readonly moveGraceMs = 3_600_000,
  ) {}
}

/** Whether a counterpart refuses because of a fault of this installation. An operator has been alarmed. */
const isOurs = (error: unknown): boolean => error instanceof SesDenied || error instanceof MailServerDenied;

/** Gives what the events of a domain say of its identity. */
const recorded = (identity: OurIdentity): CompleteProvisioning['data'] => ({
  ...recordedKeys(identity),
  sesDkimStatus: identity.status,
});
const recordedKeys = ({ tokens, hostedZone, region, mailFrom, tenant }: OurIdentity): PrepareIdentityMove['data'] => ({
  dkimTokens: tokens,
  dkimZone: hostedZone,
  sesRegion: region,
  ...(mailFrom && { mailFromDomain: mailFrom.domain }),
  ...(tenant !== undefined && { sesTenant: tenant }),
});

/** An identity of a domain of ours, with the tenant that it is associated with; undefined for none. */
type OurIdentity = SesIdentity & { readonly tenant: string | undefined };

/** Gives what changes the identities of a shard; throws `SesUnavailable` where there is no such shard. */
export interface SesOfShards {
  of(
    shard: string | undefined,
  ): Pick<SesWriter, 'get' | 'create' | 'restartDkim' | 'setMailFrom' | 'joinTenant' | 'delete'>;
}

/** What a task has come to: the milliseconds to wait where something else has to happen first, with what that is. */
export type Convergence = 'done' | { readonly retryInMs: number; readonly error: string };

/** Milliseconds until a domain is tried again that waits for another one of the name to go. */
const nameWaitMs = 300;

/** Milliseconds until a domain is tried again that waits for a place in its shard. */
const placeWaitMs = { change: 1_000, background: 10_000 };

/** Milliseconds between two looks at a domain whose new DKIM records nobody places. */
const longestLookMs = 6 * 3_600_000;

/** Gives that SES does not accept a name; throws every other error. */
const unlessRefused = (error: unknown): 'refused' => {
  if (error instanceof SesRefused) return 'refused';
  throw error;
};

/** A call of SES that a customer waits for, or his name. */
const awaited = (signal: AbortSignal): Call => ({ signal, priority: 'change' });

/** Whether a customer waits for what a state requires, or for the name. */
const isAwaited = ({ status }: MailDomain): boolean =>
  ['provisioning', 'rolling_back', 'deleting', 'released'].includes(status);

/** Gives the shard that most of what a state requires is done in. */
function busyShardOf(state: MailDomain): string {
  if (state.status === 'absent') return defaultShard;
  const { move, sesShard = defaultShard } = state;
  if (!move || !isLive(state) || state.inRepair) return sesShard;
  return move.step === 'moved' ? move.from : move.to;
}

/** Mailboxes that are read at once. */
const mailboxesAtOnce = 500;

/** Ignores that a mailbox was deleted meanwhile. */
const unlessGone = (error: unknown): void => {
  if (!(error instanceof MailboxRuleBroken)) throw error;
};

/** Whether the domain is being provisioned, rolled back, deleted, repaired or moved. */
export const isUnfinished = (state: MailDomain): boolean =>
  isAwaited(state) || (isLive(state) && (state.inRepair || state.move !== undefined));

/**
 * Makes the mail server and SES agree with a domain's events: both have the domain, or neither.
 *
 * Every step is idempotent and tags what it creates with the domain's id. A step that is repeated after a crash
 * completes what was begun, and a rollback removes only what this system has created.
 */
@Injectable()
export class Provisioner {
  private readonly logger = new Logger(Provisioner.name);
  private readonly foreign = new CounterpartAlarm('ses');

  constructor(
    private readonly commands: Commands,
    private readonly domains: DomainCommandHandler,
    private readonly mailServer: MailServer,
    private readonly ses: SesOfShards,
    private readonly times: ProvisioningTimes,
    private readonly mailboxes: Pick<MailboxesReadModel, 'idsOn'>,
    private readonly statuses: Pick<SesStatuses, 'listed'>,
    private readonly places: ShardPlaces,
    private readonly lost: LostDomains = { has: () => Promise.resolve(false) },
  ) {}

  /**
   * Executes the one action that the state requires, if any. Its event leads to the next action.
   *
   * @returns the milliseconds to wait where something else has to happen first, with what that is.
   * @param triedBefore an earlier attempt ended without an answer, and its requests may still take effect.
   * @throws {Error} whatever prevents completion now; the caller tries again without a limit.
   */
  async converge(domainId: string, signal: AbortSignal, triedBefore = false): Promise<Convergence> {
    const known = await this.domains.load(domainId);
    const { state } = known;
    const priority = isAwaited(state) ? 'change' : 'background';
    const giveBack = this.places.take(busyShardOf(state), priority);
    if (!giveBack) return { retryInMs: placeWaitMs[priority], error: 'Waits for other domains of its shard of SES' };
    try {
      return await this.act(domainId, known, signal, triedBefore);
    } finally {
      giveBack();
    }
  }

  private async act(domainId: string, known: Known, signal: AbortSignal, triedBefore: boolean): Promise<Convergence> {
    const { state, last } = known;
    const execute = (command: DomainCommand) => this.commands.execute(command, undefined, known);
    const context = (): CommandContext => ({
      at: new Date().toISOString(),
      actor: 'provisioning',
      correlationId: last?.metadata.correlationId ?? domainId,
      ...(last && { causationId: eventId(last) }),
    });
    if (state.status === 'provisioning') {
      if (state.replaces !== undefined && !(await this.hasEnded(state.replaces)))
        return { retryInMs: nameWaitMs, error: 'Waits for another domain of the name to go' };
      const result = await this.provision(state, signal, context().correlationId);
      await execute(
        'failure' in result
          ? new FailProvisioning(domainId, result.failure, context())
          : new CompleteProvisioning(domainId, result.provisioned, context()),
      );
    } else if (state.status === 'rolling_back') {
      await this.removeForGood(state, awaited(signal), triedBefore || state.failure.kind === 'deadline');
      await execute(new CompleteRollback(domainId, context()));
    } else if (state.status === 'rolled_back' || state.status === 'deleted') {
      // Removal goes by the tag, so another domain that has the name by now is not affected.
      await this.remove(state, { signal });
    } else if (isLive(state) && state.inRepair) {
      const repaired = await this.repair(state, { signal });
      if ('failure' in repaired) {
        this.logger.error(`${domainId} cannot be repaired, and an operator has to settle why: ${repaired.failure}`);
        const reason = `${repaired.failure}; an operator has to settle that.`;
        const { state: now } = await this.commands.execute(new FailIdentityRepair(domainId, { reason }, context()));
        return isLive(now) && now.move ? this.move(now, now.move, signal, context) : 'done';
      }
      const complete = new CompleteIdentityRepair(domainId, recorded(repaired), context());
      const { state: now } = await this.commands.execute(complete);
      // A deletion that was requested meanwhile may have finished before the identity existed.
      if (!isLive(now)) await this.remove(now.status === 'absent' ? state : now, awaited(signal));
      else if (now.move) return this.move(now, now.move, signal, context);
    } else if (isLive(state) && state.move) {
      return this.move(state, state.move, signal, context);
    } else if (state.status === 'deleting' || state.status === 'released') {
      if (state.status === 'released') await this.suspendMailboxes(domainId, signal, context);
      await this.removeForGood(state, awaited(signal), triedBefore);
      await execute(new CompleteDeletion(domainId, context()));
    }
    return 'done';
  }

  /**
   * Takes a move of the identity one step further. Each step is idempotent, and its event says that it is done: what is
   * repeated after a crash finds the identity that was made, or that it is gone. Until SES has seen the records of the
   * new identity the old one is left alone.
   */
  private async move(
    domain: LiveDomain,
    move: IdentityMove,
    signal: AbortSignal,
    context: () => CommandContext,
  ): Promise<Convergence> {
    const next = async (command: DomainCommand): Promise<Convergence> => {
      const { state } = await this.commands.execute(command);
      if (isLive(state)) return state.move ? this.move(state, state.move, signal, context) : 'done';
      // A deletion that was requested meanwhile may have finished before the identity existed.
      if (state.status !== 'absent') await this.remove(state, { signal });
      return 'done';
    };
    const removeNew = () => this.removeIdentity({ ...domain, status: 'rolling_back' }, move.to, { signal });
    const fail = async (reason: string) => {
      await removeNew();
      return next(new FailIdentityMove(domain.id, { reason }, context()));
    };
    const there = { ...domain, sesShard: move.to };
    const waitedMs = Date.now() - Date.parse(move.since);
    switch (move.step) {
      case 'requested': {
        const made = await this.identify(there, { signal }).catch(unlessRefused);
        if (typeof made !== 'string') return next(new PrepareIdentityMove(domain.id, recordedKeys(made), context()));
        const why = made === 'foreign' ? 'has the name without our tag there' : 'refuses the name there';
        return fail(`Amazon SES ${why}; an operator has to settle that`);
      }
      case 'prepared': {
        const lookAgain = {
          retryInMs: Math.min(longestLookMs, Math.max(this.times.moveLookMs, waitedMs / 10)),
          error: `Waits until Amazon SES has seen the DKIM records of the shard ${move.to}`,
        };
        // A status that calls for something is confirmed by a request: the listing may be older than the identity.
        const listed = await this.statuses.listed(domain.name, move.to);
        if (listed === undefined) return { ...lookAgain, retryInMs: this.times.moveLookMs };
        if (listed === 'pending' || listed === 'temporary_failure') return lookAgain;
        const identity = await this.ses.of(move.to).get(domain.name, { signal });
        const isMade = identity && belongsTo(identity, domain.id);
        if (!isMade || !haveSameTokens(identity.tokens, move.identity!.dkimTokens))
          return fail('Amazon SES has lost the new identity');
        const { status } = identity;
        if (status === 'success') return next(new SwitchIdentity(domain.id, context()));
        if (identityFault(status, 'requested')) await this.ses.of(move.to).restartDkim(domain.name, { signal });
        return lookAgain;
      }
      case 'moved': {
        const leftMs = this.times.moveGraceMs - waitedMs;
        if (leftMs > 0) return { retryInMs: leftMs, error: 'Waits for mail that is signed with the old keys' };
        await this.removeIdentity({ ...domain, status: 'deleting' }, move.from, { signal });
        return next(new CompleteIdentityMove(domain.id, context()));
      }
      case 'cancelled': {
        if (!move.identity) {
          await removeNew();
          // A request that was abandoned without an answer could still take effect.
          await delay(this.times.settleMs, undefined, { signal });
        }
        return fail('An operator has cancelled it');
      }
    }
  }

  /** Suspends what lives on a domain whose name another team has. No mailbox is created on it any more. */
  private async suspendMailboxes(domainId: string, signal: AbortSignal, context: () => CommandContext): Promise<void> {
    for (let after = '', isFull = true; isFull;) {
      const ids = await this.mailboxes.idsOn(domainId, after, mailboxesAtOnce);
      for (const id of ids) {
        signal.throwIfAborted();
        await this.commands.execute(new SuspendMailbox(id, context(), { reason: 'domain_released' })).catch(unlessGone);
      }
      isFull = ids.length === mailboxesAtOnce;
      after = ids.at(-1) ?? after;
    }
  }

  /**
   * Provisions the mail server and then SES; each step is tried until the deadline. Reports a failure without rolling
   * back, which is an action of its own.
   */
  private async provision(
    domain: Provisioning,
    signal: AbortSignal,
    correlationId: string,
  ): Promise<{ provisioned: CompleteProvisioning['data'] } | { failure: ProvisioningFailed['data'] }> {
    const left = Date.parse(domain.deadline) - Date.now();
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(Math.max(0, left))]);
    let step: ProvisioningStep = 'mail_server';
    // A team that has won the name by a claim keeps it until an operator has mended what is ours.
    const isDefinite = (error: unknown) =>
      error instanceof SesRefused || (isOurs(error) && domain.replaces === undefined);
    const attempt = async <T>(work: () => Promise<T>): Promise<T> => {
      for (let wait = this.times.retryMs; ; wait = Math.min(wait * 2, this.times.retryMs * 20)) {
        try {
          inTime.throwIfAborted();
          return await work();
        } catch (error) {
          if (isDefinite(error) || inTime.aborted) throw error;
          this.logger.warn(
            { domain: domain.id, correlation_id: correlationId, step, error: (error as Error).message },
            'a provisioning step is tried again',
          );
          await delay(wait, undefined, { signal: inTime });
        }
      }
    };
    try {
      if ((await attempt(() => this.register(domain))) === 'foreign')
        return { failure: provisioningFailure(step, 'foreign') };
      step = 'ses';
      const identity = await attempt(() => this.identify(domain, awaited(inTime)));
      if (identity === 'foreign') {
        this.foreign.raise(
          'foreign_identity',
          `SES has ${domain.name} without a tag of ours: bin/sendmux ses show ${domain.name} says what can be done`,
        );
        return { failure: provisioningFailure(step, 'foreign') };
      }
      return { provisioned: recorded(identity) };
    } catch (error) {
      signal.throwIfAborted();
      return { failure: provisioningFailure(step, isDefinite(error) ? 'refused' : 'deadline', isOurs(error)) };
    }
  }

  /**
   * Adds the domain to the mail server. An entry for a deleted or rolled back domain of ours is the late effect of an
   * abandoned request, and is replaced; so is one for a domain that the log has lost. Any other entry is foreign, and
   * stays.
   */
  private async register(domain: Named): Promise<'registered' | 'foreign'> {
    const added = await this.mailServer.add(domain.name, domain.id, domain.mode !== 'send_only');
    if (added.outcome === 'added') {
      // What its mail leaves through; a later event that says otherwise has a higher version than the first one.
      if (domain.sesShard !== undefined && domain.sesShard !== defaultShard)
        await this.mailServer.chooseProvider(domain.id, null, 1, { relay: sesRelay(domain.sesShard) });
      return 'registered';
    }
    if (!(await this.hasEnded(added.domainId))) return 'foreign';
    await this.mailServer.remove(domain.name, added.domainId);
    return this.register(domain);
  }

  /**
   * Creates the identity in SES, with its MAIL FROM domain and tenant. An identity with the tag of a deleted or rolled
   * back domain is replaced, as `register` does.
   */
  private async identify(domain: Named, call: Call): Promise<OurIdentity | 'foreign'> {
    const identity = await this.ses.of(domain.sesShard).create(domain.name, domain.id, call);
    if (belongsTo(identity, domain.id)) return this.complete(identity, domain, call);
    if (identity.domainId === null || !(await this.hasEnded(identity.domainId))) return 'foreign';
    await this.ses.of(domain.sesShard).delete(domain.name, call);
    return this.identify(domain, call);
  }

  /** Gives an identity of a domain what it is to have besides its keys. */
  private async complete(identity: SesIdentity, domain: Named, call: Call): Promise<OurIdentity> {
    const sending = await this.withMailFrom(identity, domain.sesShard, call);
    const tenant = await this.ses.of(domain.sesShard).joinTenant(sending, domain.team, call);
    return { ...sending, tenant };
  }

  /**
   * Gives the identity its MAIL FROM domain, and has SES look for its records anew where it gave up. An adopted
   * identity keeps the one that it has: others send with it.
   */
  private async withMailFrom(identity: SesIdentity, shard: string | undefined, call: Call): Promise<SesIdentity> {
    const { name, mailFrom, domainId } = identity;
    const wanted = mailFromName(name);
    const isTheirs = domainId === adoptedTag && mailFrom !== null && mailFrom.domain !== wanted;
    if (isTheirs || (mailFrom?.domain === wanted && mailFrom.status !== 'failed')) return identity;
    const set = await this.ses.of(shard).setMailFrom(name, wanted, call);
    if (!set) throw new SesUnavailable(`SES has ${name} no more: it is changed by somebody else right now`);
    return { ...identity, mailFrom: set };
  }

  /**
   * Creates the identity again where SES has none, and restarts the DKIM detection where SES has given it up. The
   * status is `pending` from then on, so a repetition restarts nothing. An identity that is not ours, or no longer uses
   * Easy DKIM, stays as it is.
   *
   * A repair that is about the MAIL FROM domain or the tenant alone restarts no detection of DKIM records, which nobody
   * may have placed.
   *
   * @returns the identity, or the reason why an operator has to act first.
   * @throws {SesUnavailable | SesDenied} when SES gave no answer, or refuses this installation; the caller tries again.
   */
  private async repair(
    domain: Named & Pick<LiveDomain, 'repairLeavesDkim'>,
    call: Call,
  ): Promise<OurIdentity | { readonly failure: string }> {
    const ses = this.ses.of(domain.sesShard);
    const existing = await ses.get(domain.name, call);
    try {
      if (existing && belongsTo(existing, domain.id)) {
        if (existing.tokens.length !== 3) return { failure: `Amazon SES has ${domain.name} without Easy DKIM` };
        if (domain.repairLeavesDkim) return await this.complete(existing, domain, call);
        if (identityFault(existing.status, 'requested')) await ses.restartDkim(domain.name, call);
      }
      const identity = await this.identify(domain, call);
      return identity === 'foreign' ? { failure: `Amazon SES has ${domain.name} without our tag` } : identity;
    } catch (error) {
      if (!(error instanceof SesRefused)) throw error;
      return { failure: `Amazon SES refuses ${domain.name}` };
    }
  }

  private async hasEnded(domainId: string): Promise<boolean> {
    const { state } = await this.domains.load(domainId);
    if (state.status === 'absent') return this.lost.has(domainId);
    return state.status === 'rolled_back' || state.status === 'deleted';
  }

  /**
   * Removes the domain before its name becomes available. A request that was abandoned without an answer could still
   * take effect, on the next domain with the name. So it is waited out, and removed as well.
   */
  private async removeForGood(domain: Ended, call: Call, somethingOnItsWay: boolean): Promise<void> {
    await this.remove(domain, call);
    if (!somethingOnItsWay) return;
    await delay(this.times.settleMs, undefined, { signal: call.signal });
    await this.remove(domain, call);
  }

  /**
   * Removes what carries the domain's tag. The mail server is first, since it must not accept mail for a domain that is
   * gone. An adopted identity is removed with the domain that a customer deletes, and stays when an add is rolled back.
   */
  private async remove(domain: Ended, call: Call): Promise<void> {
    await this.mailServer.remove(domain.name, domain.id);
    await this.removeIdentity(domain, domain.sesShard, call);
    const other = otherShardOf(domain);
    if (other !== undefined) await this.removeIdentity(domain, other, call);
  }

  private async removeIdentity(domain: Ended, shard: string | undefined, call: Call): Promise<void> {
    const ses = this.ses.of(shard);
    const identity = await ses.get(domain.name, call).catch((error: unknown) => {
      // SES has no identity of a name that it does not accept.
      if (error instanceof SesRefused) return null;
      throw error;
    });
    if (!identity) return;
    const goes = domain.status === 'deleting' || domain.status === 'released';
    const isIts = goes ? belongsTo(identity, domain.id) : identity.domainId === domain.id;
    if (isIts) await ses.delete(domain.name, call);
  }
}
