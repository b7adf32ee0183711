import { setTimeout as delay } from 'node:timers/promises';
import { CommandToDomain, DomainCommandHandler } from '@app/commands';
import { EventStore } from '@app/event-store';
import { isLive, RequestIdentityRepair, type IdentityFault, type LiveDomain } from '@app/mail-domain';
import { DomainsReadModel, domainsProjection } from '@app/read-model';
import { newId } from '@app/runtime';
import type { Pool } from 'pg';

/** Milliseconds for which one domain may take; SES allows about one call a second. */
const patienceMs = 300_000;
const pollMs = 200;

/** What the identities of domains are to have besides their keys. */
export interface Wanted {
  readonly fault: IdentityFault;
  /** What it is called, as in "the MAIL FROM domain of mail.acme.com". */
  readonly called: string;
  /** Gives what a domain has; undefined where it was never given one. */
  readonly of: (domain: LiveDomain) => string | undefined;
  /** Whether a domain is to have one at all. */
  readonly isFor: (domain: LiveDomain) => boolean;
}

/** What became of a domain. */
export interface IdentityOutcome {
  readonly name: string;
  /** What SES has now; null where it has none, and an operator has to act first. */
  readonly value: string | null;
}

/** Asks for what identities are to have, by an event each, and waits until provisioning has given it to SES. */
export class IdentityRequests {
  private readonly domains: DomainCommandHandler;
  private readonly readModel: DomainsReadModel;

  constructor(
    pool: Pool,
    private readonly wanted: Wanted,
  ) {
    this.domains = new DomainCommandHandler(new EventStore(pool, domainsProjection));
    this.readModel = new DomainsReadModel(pool);
  }

  /**
   * Asks for one domain, even where SES was given it before: it is given again where it is lost.
   *
   * @throws {Error} when nobody has a domain of that name, or it is to have none.
   */
  async one(name: string): Promise<IdentityOutcome> {
    const holder = await this.readModel.holderOf(name);
    const state = holder && (await this.domains.load(holder.id)).state;
    if (state && isLive(state) && !this.wanted.isFor(state))
      throw new Error(`The shard of ${name} has no ${this.wanted.called} for it.`);
    const outcome = holder && (await this.askFor(holder.id));
    if (!outcome) throw new Error(`There is no domain ${name} that is provisioned.`);
    return outcome;
  }

  /**
   * Asks for all domains that are to have it and were never given it, one after the other, so that an add never waits
   * behind all of them for its turn at SES.
   */
  async *all(): AsyncGenerator<IdentityOutcome, void> {
    for (const id of (await this.readModel.teams()).keys()) {
      const { state } = await this.domains.load(id);
      if (!isLive(state) || this.wanted.of(state) !== undefined || !this.wanted.isFor(state)) continue;
      const outcome = await this.askFor(id);
      if (outcome) yield outcome;
    }
  }

  /** Gives undefined for a domain that is not there any more. */
  private async askFor(id: string): Promise<IdentityOutcome | undefined> {
    const { fault, called, of } = this.wanted;
    const context = { at: new Date().toISOString(), actor: 'operator', correlationId: newId('req') };
    await this.domains.execute(new CommandToDomain(new RequestIdentityRepair(id, { fault }, context)));
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const { state } = await this.domains.load(id);
      if (!isLive(state)) return undefined;
      const { name, inRepair, repairFailedAt } = state;
      if (!inRepair) return { name, value: repairFailedAt === undefined ? (of(state) ?? null) : null };
      if (performance.now() > giveUpAt)
        throw new Error(`Provisioning has not set the ${called} of ${name} yet. Does it run?`);
      await delay(pollMs);
    }
  }
}
