import { Injectable, Logger } from '@nestjs/common';
import type { DomainConnect } from '@app/domain-connect';
import { dnsHost } from '@app/mail-records';
import type { DomainView } from '@app/read-model';
import { TookTooLong, within } from '@app/runtime';
import { PublishedRecords } from '@app/verification';
import type { DnsPlanSchema } from '../domains/plans.dto';
import { Plans } from '../domains/plans.service';
import { SharedLooks } from '../domains/shared-looks';
import { ApiError, type ErrorCode } from '../http/api-error';
import type { LookedUp } from './setup.dto';

/** Milliseconds that the setup page waits for the DNS. */
const patienceMs = 15_000;

/** What passes: a resolver gives no answer, or the team waits for too many looks, which is nothing to tell here. */
const passing: readonly ErrorCode[] = ['service_unavailable', 'rate_limit_exceeded'];

/** Looks up what the setup page shows of the DNS. What cannot be looked up in time is null. */
@Injectable()
export class SetupLookUps {
  private readonly logger = new Logger(SetupLookUps.name);
  /** Looks for the name servers, which the requests of a page share as they share its plan. */
  private readonly hosts = new SharedLooks<Awaited<ReturnType<PublishedRecords['nameserversOf']>>>();

  constructor(
    private readonly published: PublishedRecords,
    private readonly plans: Plans,
    private readonly domainConnect: DomainConnect | undefined,
  ) {}

  async of(domain: DomainView): Promise<LookedUp> {
    const [host, plan] = await Promise.all([
      this.orNull(async () => {
        const found = await this.hosts.share(domain.name, () => this.published.nameserversOf(domain.name));
        return found ? dnsHost(found.zone, found.nameservers) : null;
      }),
      this.orNull(() => this.plans.plan(domain)),
    ]);
    return { host, plan, domainConnect: plan && (await this.orNull(() => this.oneClick(domain, plan))) };
  }

  /** There is nothing to click where nothing is to be placed, or where placing it would not make the domain verify. */
  private async oneClick(domain: DomainView, { zone, complete, warnings, operations }: DnsPlanSchema) {
    if (!this.domainConnect || complete || warnings.some(({ severity }) => severity === 'blocking')) return null;
    const wanted = operations.find(({ action, name }) => action !== 'delete' && name === `_dmarc.${domain.name}`);
    const dmarc = wanted?.values[0];
    return (dmarc !== undefined && (await this.domainConnect.linkFor(domain, zone, dmarc))) || null;
  }

  private async orNull<Found>(look: () => Promise<Found>): Promise<Found | null> {
    try {
      return await within(patienceMs, look());
    } catch (error) {
      if (error instanceof TookTooLong || (error instanceof ApiError && passing.includes(error.code))) {
        this.logger.debug(`The setup page goes without a look-up: ${error.message}`);
        return null;
      }
      throw error;
    }
  }
}
