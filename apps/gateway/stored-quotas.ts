import { Logger, type OnModuleInit } from '@nestjs/common';
import type { CommonQuotas, Quotas } from '@app/read-model';
import { queriedGauge } from '@app/runtime';

/**
 * Stores the limits of the settings when the gateway starts, and measures how many domains all teams have together. The
 * limits hold for whichever gateway takes a creation, so those of the one that was started last count.
 */
export class StoredQuotas implements OnModuleInit {
  private readonly logger = new Logger(StoredQuotas.name);

  constructor(
    private readonly quotas: Quotas,
    private readonly limits: CommonQuotas,
  ) {
    const measured = async (what: 'current' | 'limit') => [{ value: (await quotas.domainsInAll())[what] ?? 0 }];
    queriedGauge(
      { name: 'sendmux_domains', help: 'Domains of all teams, each of which may be an identity of SES' },
      () => measured('current'),
    );
    queriedGauge({ name: 'sendmux_domains_limit', help: 'The most domains that all teams may have together' }, () =>
      measured('limit'),
    );
  }

  async onModuleInit(): Promise<void> {
    await this.quotas.setCommon(this.limits);
    for (const beyond of await this.quotas.unboundedTeams())
      this.logger.warn(
        beyond,
        `${beyond.team} may have ${beyond.quota} domains, as many as all teams together: MAX_DOMAINS is ${beyond.limit}. Give it less with sendmux team quota.`,
      );
  }
}
