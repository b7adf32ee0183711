import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { Invitations, Sessions, SetupLinks } from '@app/accounts';
import { Checks } from '@app/cycle';
import { isStreamSql } from '@app/event-store';
import { removeUnusedMailboxKeys } from '@app/mailbox-keys';
import { isGoneSql, isMailboxSql } from '@app/read-model';
import { WebhookEndpoints } from '@app/webhooks';
import { Pool } from 'pg';
import { StoredClaims } from './claims/stored-claims';
import { removeOldCounts } from './http/shared-rate-limit';

const purgeEveryMs = 3_600_000;

/**
 * Removes links, sessions, invitations, claims, secrets of webhooks, counts and keys that are over or unused, and when
 * domains were looked at that are gone: at the start and every hour.
 */
@Injectable()
export class Purge implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly logger = new Logger(Purge.name);
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly links: SetupLinks,
    private readonly sessions: Sessions,
    private readonly invitations: Invitations,
    private readonly claims: StoredClaims,
    private readonly checks: Checks,
    @Inject(Pool) private readonly pool: Pool,
    private readonly webhooks: WebhookEndpoints,
  ) {}

  onApplicationBootstrap(): void {
    void this.run();
    this.timer = setInterval(() => void this.run(), purgeEveryMs).unref();
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
  }

  /** Never rejects: what is left is removed the next time. */
  async run(): Promise<void> {
    try {
      await this.links.purge();
      await this.sessions.purge();
      await this.invitations.purge();
      await this.claims.purge();
      await this.checks.forgetRequested(isGoneSql);
      await removeOldCounts(this.pool);
      await this.webhooks.forgetOldSecrets();
      await removeUnusedMailboxKeys(this.pool, [isStreamSql, isMailboxSql]);
    } catch (error) {
      this.logger.warn(`What is over will be removed later: ${(error as Error).message}`);
    }
  }
}
