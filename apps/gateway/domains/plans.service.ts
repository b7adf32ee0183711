import { Injectable } from '@nestjs/common';
import {
  dnsPlan,
  preflight,
  registrableDomain,
  zoneFile,
  zoneFileFormats,
  type ZoneFileFormat,
} from '@app/mail-domain';
import { DomainsReadModel, type DomainView } from '@app/read-model';
import { DnsUnanswered, PublishedRecords } from '@app/verification';
import { ApiError } from '../http/api-error';
import { presentPlan, presentPreflight, type DnsPlanSchema, type PreflightSchema } from './plans.dto';

/** What a customer's zone needs, read from the DNS as it is now. Changes nothing of ours. */
@Injectable()
export class Plans {
  constructor(
    private readonly published: PublishedRecords,
    private readonly readModel: DomainsReadModel,
  ) {}

  /** Asks the DNS for the zone only where the text depends on it; never fails for want of an answer. */
  async zoneFile(view: DomainView, format: ZoneFileFormat): Promise<string> {
    const { relative } = zoneFileFormats[format];
    const zone = relative ? await this.published.zoneOf(view.name) : registrableDomain(view.name);
    return zoneFile(format, view, zone);
  }

  /** @throws {ApiError} `service_unavailable` when an answer is missing: a plan is never made from the rest. */
  async plan(view: DomainView): Promise<DnsPlanSchema> {
    const { zone, published } = await this.look(view.name, view.dkimTokens);
    return presentPlan(view.name, zone, dnsPlan(view, published));
  }

  /**
   * @param name canonical.
   * @throws {ApiError} `service_unavailable`
   */
  async preflight(name: string, team: string): Promise<PreflightSchema> {
    const [{ zone, published }, hasAddress, holder] = await Promise.all([
      this.look(name, []),
      answered(this.published.hasAddress(name)),
      this.readModel.holderOf(name),
    ]);
    const taken =
      holder &&
      (holder.team === team
        ? `Your team has ${name} already, as ${holder.id}.`
        : `${name} is in use and cannot be added.`);
    return presentPreflight(name, zone, preflight(name, published, zone, hasAddress), taken);
  }

  private async look(name: string, dkimTokens: readonly string[]) {
    const [zone, published] = await answered(
      Promise.all([this.published.zoneOf(name), this.published.of(name, dkimTokens)]),
    );
    return { zone, published };
  }
}

async function answered<Answer>(answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    throw error instanceof DnsUnanswered ? unanswered(error) : error;
  }
}

function unanswered({ type, at, reason }: DnsUnanswered): ApiError {
  const said = {
    unreachable: `We could not look up ${type} at ${at} just now, and make no plan from a missing answer. Try again in a minute.`,
    servfail: `The name servers of ${at} fail (SERVFAIL), so nobody can tell what it has as ${type}. Check the zone and its DNSSEC signatures with your DNS provider.`,
    disagreement: `Resolvers still give different answers for ${type} at ${at}: a change is propagating. Wait 2–5 minutes and retry.`,
  };
  const errors = [{ code: `dns_${reason}`, message: said[reason] }];
  return new ApiError('service_unavailable', said[reason], {
    retryAfter: reason === 'disagreement' ? 120 : 60,
    errors,
  });
}
