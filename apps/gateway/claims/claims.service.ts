import { Injectable, Logger } from '@nestjs/common';
import { Commands } from '@app/commands';
import type { CommandContext } from '@app/decider';
import { AddDomain, claimsActor, DomainHeld, DomainRuleBroken, RecordCheck, ReleaseDomain } from '@app/mail-domain';
import { isUndecided, ownershipSeen, type DomainMode, type OwnershipSeen } from '@app/mail-records';
import { DomainsReadModel } from '@app/read-model';
import { Counter, newId } from '@app/runtime';
import type { Verifier } from '@app/verification';
import { contextOf, type Request } from '../domains/domains.service';
import type { OpenShards } from '../domains/open-shards';
import type { Outcomes } from '../domains/outcomes.service';
import { ApiError } from '../http/api-error';
import type { Refusal, StoredClaim, StoredClaims } from './stored-claims';

const verdicts = new Counter({
  name: 'sendmux_domain_claims_total',
  help: 'Looks for claims to domains of other teams, by what they led to',
  labelNames: ['outcome'],
});

/**
 * Milliseconds after which a domain that a claim has won, and that could not be provisioned, is given up. It is long:
 * the name was taken from another team, and would be nobody's.
 */
const provisioningDeadlineMs = 7 * 86_400_000;
/** Milliseconds that a verification waits until a domain that it has won is provisioned. */
const provisioningPatienceMs = 15_000;
/** How often a claim is decided anew when the name changes hands meanwhile. */
const attempts = 5;

export const claimIdForm = /^claim_cl[0-9a-z]{25}$/;

type Holder = Awaited<ReturnType<DomainsReadModel['holderOf']>>;

/** Gives names that other teams hold to whoever proves that they are his. */
@Injectable()
export class Claims {
  private readonly logger = new Logger(Claims.name);

  /** @param graceMs milliseconds for which the ownership record of a verified domain has to be gone. */
  constructor(
    private readonly stored: StoredClaims,
    private readonly commands: Commands,
    private readonly readModel: Pick<DomainsReadModel, 'holderOf' | 'find'>,
    private readonly verifier: Pick<Verifier, 'ownership' | 'check'>,
    private readonly outcomes: Pick<Outcomes, 'expect'>,
    private readonly shards: Pick<OpenShards, 'inOne'>,
    private readonly graceMs: number,
  ) {}

  /**
   * Opens a claim to a name that another team holds, whatever it has proved.
   *
   * @throws {ApiError} `conflict` where the name is free, or the team's own, or claimed by it; `limit_exceeded`.
   */
  async open(id: string, name: string, mode: DomainMode, team: string): Promise<StoredClaim> {
    const existing = await this.stored.find(id, team);
    if (existing) return existing;
    const holder = await this.readModel.holderOf(name);
    if (!holder) throw new ApiError('conflict', `${name} is free. Add it with POST /domains.`, { param: 'domain' });
    assertNotOwn(holder, name, team);
    await this.stored.open({ id, team, name, mode, domainId: newId('mdom') });
    return this.find(id, team);
  }

  /** @throws {ApiError} `not_found` */
  async find(id: string, team: string): Promise<StoredClaim> {
    const claim = claimIdForm.test(id) ? await this.stored.find(id, team) : undefined;
    if (!claim) throw notFound(id);
    return claim;
  }

  page(team: string, limit: number, before: string | undefined): Promise<StoredClaim[]> {
    return this.stored.page(team, limit, before);
  }

  /** @throws {ApiError} `not_found` */
  async withdraw(id: string, team: string): Promise<void> {
    if (!claimIdForm.test(id) || !(await this.stored.remove(id, team))) throw notFound(id);
  }

  /**
   * Looks for the record of an open claim, and gives the name to its team where nothing stands in the way. A claim that
   * has ended is returned as it is.
   *
   * @throws {ApiError} `service_unavailable` when the DNS cannot tell; `conflict` while the name changes hands.
   * @throws {QuotaExceeded}, {InstallationFull} and {AllShardsClosed}
   */
  async verify(id: string, request: Request): Promise<StoredClaim> {
    const { team } = request.caller;
    const claim = await this.find(id, team);
    if (claim.status !== 'pending' && claim.status !== 'refused') return claim;
    const provisioned = this.outcomes.expect(claim.domainId, ['DomainProvisioned', 'ProvisioningFailed']);
    try {
      const refusal = await this.decide(claim, request);
      await this.stored.note(id, refusal);
      verdicts.inc({ outcome: refusal?.code ?? 'succeeded' });
      if (!refusal) await provisioned.within(provisioningPatienceMs);
    } finally {
      provisioned.drop();
    }
    return this.find(id, team);
  }

  /** Decides a claim. Where the name changes hands between a read and the append, the store notices: it begins anew. */
  private async decide(claim: StoredClaim, request: Request): Promise<Refusal | null> {
    const { name, team, domainId } = claim;
    for (let attempt = 1; ; attempt++) {
      const holder = await this.readModel.holderOf(name);
      if (holder?.id === domainId) return null;
      if (holder) assertNotOwn(holder, name, team);
      if (holder && passing.has(holder.status)) throw changesHands(name);
      const [mine, theirs] = await this.verifier.ownership(name, [team, holder?.team ?? team]);
      if (mine!.outcome === 'indeterminate')
        throw new ApiError('service_unavailable', `${mine!.message} Nothing has changed.`, {
          retryAfter: 10,
          errors: [{ code: mine!.code, param: mine!.check, message: mine!.message }],
        });
      if (mine!.outcome === 'fail') return { code: mine!.code, message: mine!.message };
      const ownership = ownershipSeen([theirs!]);
      try {
        await this.take(claim, holder, ownership, request);
        return null;
      } catch (error) {
        if (error instanceof DomainHeld) return await this.refusalOf(error, claim, holder!);
        if (!(error instanceof DomainRuleBroken)) throw error;
        if (attempt === attempts) throw changesHands(name);
      }
    }
  }

  /** Takes the name: from the team that holds it, in one transaction, or as it is, where nobody does any more. */
  private async take(
    { id: claim, name, mode, domainId }: StoredClaim,
    holder: Holder,
    ownership: OwnershipSeen,
    request: Request,
  ): Promise<void> {
    const now = Date.now();
    const context = contextOf(request, now);
    const add = (sesShard: string, replaces?: string) =>
      new AddDomain(
        domainId,
        {
          name,
          team: request.caller.team,
          deadline: new Date(now + provisioningDeadlineMs).toISOString(),
          ...(mode === 'send_only' && { mode }),
          claim,
          sesShard,
          ...(replaces !== undefined && { replaces }),
        },
        context,
      );
    if (!holder) {
      await this.shards.inOne((shard) => this.commands.execute(add(shard)));
      return;
    }
    const release = new ReleaseDomain(holder.id, { claim, ownership, graceMs: this.graceMs }, forOthers(claim, now));
    await this.shards.inOne((shard) => this.commands.executeBoth(release, add(shard, holder.id)));
    this.logger.log({ claim, domain: domainId, replaces: holder.id }, 'a claim has won a name');
  }

  private async refusalOf({ why, goneSince }: DomainHeld, { id, name }: StoredClaim, holder: NonNullable<Holder>) {
    const at = `_sendmux.${name}`;
    if (why === 'unknown')
      throw new ApiError(
        'service_unavailable',
        `Resolvers still give different answers for TXT at ${at}: the change is propagating. Wait 2–5 minutes and retry. Nothing has changed.`,
        { retryAfter: 10 },
      );
    if (why === 'record') {
      if (goneSince !== undefined) await this.notice(holder, id);
      return {
        code: 'held_by_record',
        message: `${name} is verified by another team, and its ownership record still stands at ${at}. If the name is yours, remove the other value there, and verify this claim again once it is gone for ${days(this.graceMs)}.`,
      };
    }
    const since = goneSince ?? (await this.notice(holder, id));
    const until = since === undefined ? undefined : new Date(Date.parse(since) + this.graceMs).toISOString();
    return {
      code: 'held_in_grace',
      message: `${name} is verified by another team, whose ownership record is gone, but not for ${days(this.graceMs)}. Verify this claim again ${until === undefined ? `then` : `after ${until}`}.`,
    };
  }

  /**
   * Looks at a domain that is not verified, so that its events say that its ownership record is gone, or is back. No
   * cycle looks at one that has failed; one that is verified is left to the cycle.
   *
   * @returns the time since which the time of grace runs; undefined where it has not begun.
   */
  private async notice(holder: NonNullable<Holder>, claim: string): Promise<string | undefined> {
    if (holder.status === 'verified') return undefined;
    const view = await this.readModel.find(holder.id, holder.team);
    if (!view) return undefined;
    const assessment = await this.verifier.check(view);
    if (isUndecided(assessment)) return undefined;
    const check = { ...assessment, trigger: 'requested' as const, cycle: null, of: view };
    const { state } = await this.commands.execute(new RecordCheck(view.id, check, forOthers(claim, Date.now())));
    return 'ownershipGoneSince' in state ? state.ownershipGoneSince : undefined;
  }
}

/** The context of what a claim does to the domain of another team, which is not told whose claim it was. */
const forOthers = (claim: string, now: number): CommandContext => ({
  at: new Date(now).toISOString(),
  actor: claimsActor,
  correlationId: claim,
});

const notFound = (id: string) => new ApiError('not_found', `There is no claim ${id.slice(0, 100)}.`);

function assertNotOwn({ id, team }: NonNullable<Holder>, name: string, own: string): void {
  if (team === own) throw new ApiError('conflict', `Your team has ${name} already, as ${id}.`, { param: 'domain' });
}

/** The statuses of domains whose name is free shortly, or theirs. */
const passing: ReadonlySet<string> = new Set(['provisioning', 'rolling_back', 'deleting']);

const changesHands = (name: string) =>
  new ApiError('conflict', `${name} is changing hands just now. Try again shortly.`, {
    retryable: true,
    retryAfter: 5,
  });

function days(ms: number): string {
  const count = ms / 86_400_000;
  return count === 1 ? '1 day' : `${Number(count.toFixed(2))} days`;
}
