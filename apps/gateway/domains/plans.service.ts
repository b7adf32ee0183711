import { Injectable } from '@nestjs/common';
import {
  dnsPlan,
  mailTaken,
  planWarnings,
  preflight,
  registrableDomain,
  zoneFile,
  zoneFileFormats,
  type DomainMode,
  type PreflightFinding,
  type Step,
  type ToRead,
  type ZoneFileFormat,
} from '@app/mail-records';
import { DomainsReadModel, type DomainView } from '@app/read-model';
import { DnsUnanswered, PublishedRecords } from '@app/verification';
import { TookTooLong, within } from '@app/runtime';
import { ApiError } from '../http/api-error';
import { SharedLooks } from './shared-looks';
import { TeamTurns } from './team-turns';
import { presentPlan, presentPreflight, type DnsPlanSchema, type PreflightSchema } from './plans.dto';

/** Milliseconds that an add or an upgrade waits for the DNS. */
const warningPatienceMs = 3_000;

/** Plans and preflights of a team that run at a time, and that wait, in one process. */
const looksOfTeam = 8;
const waitingOfTeam = 64;

/** Plans what to place in a customer's zone, from what the DNS answers now. Changes no domain. */
@Injectable()
export class Plans {
  private readonly plans = new SharedLooks<DnsPlanSchema>();
  private readonly turns = new TeamTurns(looksOfTeam, waitingOfTeam);

  constructor(
    private readonly published: PublishedRecords,
    private readonly readModel: DomainsReadModel,
  ) {}

  /** Queries the DNS for the zone's name only where the text depends on it. A missing answer is no error. */
  async zoneFile(view: DomainView, format: ZoneFileFormat): Promise<string> {
    const { relative } = zoneFileFormats[format];
    const zone = relative ? await this.published.zoneOf(view.name) : registrableDomain(view.name);
    return zoneFile(format, view, zone);
  }

  /**
   * Plans the changes to the zone of a domain. Requests for one domain share a look, as its verifications do.
   *
   * @throws {ApiError} `service_unavailable` when an answer is missing: a partial plan could break the zone.
   */
  plan(view: DomainView): Promise<DnsPlanSchema> {
    const { id, mode, dkimTokens } = view;
    return this.plans.share(JSON.stringify([id, mode, dkimTokens]), () => this.planNow(view));
  }

  private async planNow(view: DomainView): Promise<DnsPlanSchema> {
    const { zone, published } = await this.look(view, view.team);
    const operations = dnsPlan(view, published);
    const warnings = [...mailTaken(view, operations), ...planWarnings(view, published, operations)];
    return presentPlan(view.name, zone, operations, warnings);
  }

  /**
   * @param name in canonical form.
   * @throws {ApiError} `service_unavailable`
   */
  async preflight(name: string, mode: DomainMode, team: string): Promise<PreflightSchema> {
    const [{ zone, published }, hasAddress, holder] = await Promise.all([
      this.look({ name, mode, dkimTokens: [] }, team),
      answered(this.published.hasAddress(name)),
      this.readModel.holderOf(name),
    ]);
    const taken =
      holder &&
      (holder.team === team
        ? `Your team has ${name} already, as ${holder.id}.`
        : `${name} is in use and cannot be added. If it is yours, claim it with POST /domains/claims.`);
    return presentPreflight(name, zone, preflight({ name, mode }, published, zone, hasAddress), taken);
  }

  /**
   * Warns of a domain whose mail somebody else receives now, which ends once its MX is placed. Gives nothing where the
   * DNS does not answer in time: the domain is added, or upgraded, all the same.
   */
  async warningsOf(name: string, mode: DomainMode, step: Step): Promise<PreflightFinding[]> {
    if (mode === 'send_only') return [];
    try {
      const published = await within(warningPatienceMs, this.published.mailHosts(name));
      const { findings } = preflight({ name, mode }, published, registrableDomain(name), false, step);
      return findings.filter(({ code }) => code === 'mail_is_received');
    } catch (error) {
      if (error instanceof DnsUnanswered || error instanceof TookTooLong) return [];
      throw error;
    }
  }

  /** Looks up what a zone has, once the team has its turn: slow and hostile zones take long. */
  private look(domain: ToRead, team: string) {
    return this.turns.run(team, async () => {
      const [zone, published] = await answered(
        Promise.all([this.published.zoneOf(domain.name), this.published.of(domain)]),
      );
      return { zone, published };
    });
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
  const errors = [{ code: `dns_${reason}`, param: 'domain', message: said[reason] }];
  return new ApiError('service_unavailable', said[reason], {
    retryAfter: reason === 'disagreement' ? 120 : 60,
    errors,
  });
}
