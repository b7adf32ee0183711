import { Injectable, Logger } from '@nestjs/common';
import { dnsHost } from '@app/mail-records';
import type { DomainView } from '@app/read-model';
import { TookTooLong, within } from '@app/runtime';
import { PublishedRecords } from '@app/verification';
import { Plans } from '../domains/plans.service';
import { ApiError } from '../http/api-error';
import type { LookedUp } from './setup.dto';

/** Milliseconds that the setup page waits for the DNS. */
const patienceMs = 15_000;

/** Looks up what the setup page shows of the DNS. What cannot be looked up in time is null. */
@Injectable()
export class SetupLookUps {
  private readonly logger = new Logger(SetupLookUps.name);

  constructor(
    private readonly published: PublishedRecords,
    private readonly plans: Plans,
  ) {}

  async of(domain: DomainView): Promise<LookedUp> {
    const [host, plan] = await Promise.all([
      this.orNull(async () => {
        const found = await this.published.nameserversOf(domain.name);
        return found ? dnsHost(found.zone, found.nameservers) : null;
      }),
      this.orNull(() => this.plans.plan(domain)),
    ]);
    return { host, plan, domainConnect: null };
  }

  private async orNull<Found>(look: () => Promise<Found>): Promise<Found | null> {
    try {
      return await within(patienceMs, look());
    } catch (error) {
      if (error instanceof TookTooLong || (error instanceof ApiError && error.code === 'service_unavailable')) {
        this.logger.debug(`The setup page goes without a look-up: ${error.message}`);
        return null;
      }
      throw error;
    }
  }
}
