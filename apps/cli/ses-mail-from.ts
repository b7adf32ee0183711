import { setTimeout as delay } from 'node:timers/promises';
import { CommandToDomain, DomainCommandHandler } from '@app/commands';
import { EventStore } from '@app/event-store';
import { isLive, RequestIdentityRepair, type MailDomain } from '@app/mail-domain';
import { DomainsReadModel, domainsProjection } from '@app/read-model';
import { newId } from '@app/runtime';
import type { Pool } from 'pg';

/** Milliseconds for which one domain may take; SES allows about one call a second. */
const patienceMs = 300_000;
const pollMs = 200;

/** What became of a domain: SES has its MAIL FROM domain now, or a repair found that an operator has to act first. */
export interface MailFromOutcome {
  readonly name: string;
  /** Null where it failed. */
  readonly mailFromDomain: string | null;
}

/** Asks for the MAIL FROM domains of domains, by an event each, and waits until provisioning has set them. */
export class MailFromRequests {
  private readonly domains: DomainCommandHandler;
  private readonly readModel: DomainsReadModel;

  constructor(pool: Pool) {
    this.domains = new DomainCommandHandler(new EventStore(pool, domainsProjection));
    this.readModel = new DomainsReadModel(pool);
  }

  /**
   * Asks for one domain, even where SES was given one before: it is set again where it is lost, and where SES has given
   * up on its records, it looks for them anew.
   *
   * @throws {Error} when nobody has a domain of that name.
   */
  async one(name: string): Promise<MailFromOutcome> {
    const holder = await this.readModel.holderOf(name);
    const outcome = holder && (await this.askFor(holder.id));
    if (!outcome) throw new Error(`There is no domain ${name} that is provisioned.`);
    return outcome;
  }

  /**
   * Asks for all domains for which SES was never given one, one after the other, so that an add never waits behind all
   * of them for its turn at SES.
   */
  async *all(): AsyncGenerator<MailFromOutcome, void> {
    for (const id of (await this.readModel.teams()).keys()) {
      const { state } = await this.domains.load(id);
      if (!isLive(state) || state.mailFromDomain !== undefined) continue;
      const outcome = await this.askFor(id);
      if (outcome) yield outcome;
    }
  }

  /** Gives undefined for a domain that is not there any more. */
  private async askFor(id: string): Promise<MailFromOutcome | undefined> {
    const context = { at: new Date().toISOString(), actor: 'operator', correlationId: newId('req') };
    const request = new RequestIdentityRepair(id, { fault: 'no_mail_from' }, context);
    await this.domains.execute(new CommandToDomain(request));
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const { state } = await this.domains.load(id);
      if (!isLive(state)) return undefined;
      if (!state.inRepair) return outcomeOf(state);
      if (performance.now() > giveUpAt)
        throw new Error(`Provisioning has not set the MAIL FROM domain of ${state.name} yet. Does it run?`);
      await delay(pollMs);
    }
  }
}

const outcomeOf = (state: Extract<MailDomain, { inRepair: boolean }>): MailFromOutcome => ({
  name: state.name,
  mailFromDomain: state.repairFailedAt === undefined ? (state.mailFromDomain ?? null) : null,
});
