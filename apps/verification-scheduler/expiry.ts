import { setTimeout as delay } from 'node:timers/promises';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { Commands } from '@app/commands';
import { AnnounceExpiry, ExpireDomain } from '@app/mail-domain';
import type { DomainsReadModel, ExpiringDomain } from '@app/read-model';
import { trace } from '@app/tracing';
import { Counter } from '@app/runtime';
import { unlessAborted } from './rate-limiter';

const expiries = new Counter({
  name: 'sendmux_domain_expiries_total',
  help: 'Domains that were never verified, whose expiry was announced, or which have expired',
  labelNames: ['step'],
});

/** The longest time between the announcement of an expiry and the expiry, in milliseconds. */
const longestNoticeMs = 7 * 86_400_000;
/** Domains that are read at once. */
const pageSize = 500;

export interface ExpiryOptions {
  /** The age at which a domain that was never verified expires, in milliseconds; 0 for never. */
  readonly ageMs: number;
  /** Milliseconds between two passes; a hundredth of the age, at least 1,000 and at most 60,000, when absent. */
  readonly everyMs?: number;
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

/**
 * Announces that domains expire which were never verified, and lets them expire at the announced time. Both are
 * commands that change nothing the second time, so any number of schedulers may do it.
 */
export class Expiry implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(Expiry.name);
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;

  constructor(
    private readonly domains: Pick<DomainsReadModel, 'neverVerified'>,
    private readonly commands: Pick<Commands, 'execute'>,
    private readonly options: ExpiryOptions,
  ) {}

  onApplicationBootstrap(): void {
    if (this.options.ageMs > 0) this.loop = this.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
  }

  /** Gives the commands that are due now, each once. A domain whose command fails is left to the next pass. */
  async pass(): Promise<void> {
    const { ageMs, clock = Date.now } = this.options;
    const now = clock();
    const addedBy = new Date(now - ageMs + this.noticeMs);
    for (let after = '', isFull = true; isFull && !this.stopping.signal.aborted;) {
      const page = await this.domains.neverVerified(addedBy, new Date(now), after, pageSize);
      for (const domain of page) if (!this.stopping.signal.aborted) await this.handle(domain, now);
      isFull = page.length === pageSize;
      after = page.at(-1)?.id ?? after;
    }
  }

  /** The time between the announcement and the expiry, in milliseconds. */
  private get noticeMs(): number {
    return Math.min(longestNoticeMs, this.options.ageMs / 2);
  }

  private async handle({ id, addedAt, expiresAt }: ExpiringDomain, now: number): Promise<void> {
    const context = { at: new Date(now).toISOString(), actor: 'verification-scheduler', correlationId: `${id}/expiry` };
    // One that is old already, as when the setting was lowered, has the whole notice too.
    const due = Math.max(addedAt.getTime() + this.options.ageMs, now + this.noticeMs);
    const command = expiresAt
      ? new ExpireDomain(id, context)
      : new AnnounceExpiry(id, { expiresAt: new Date(due).toISOString() }, context);
    try {
      const { events } = await trace('expiry', { attributes: { 'sendmux.domain': id } }, () =>
        this.commands.execute(command),
      );
      if (events.length > 0) expiries.inc({ step: expiresAt ? 'expired' : 'announced' });
    } catch (error) {
      this.logger.warn(`The expiry of ${id} is left to the next pass: ${(error as Error).message}`);
    }
  }

  private async run(): Promise<void> {
    const { ageMs, everyMs = Math.min(60_000, Math.max(1_000, ageMs / 100)) } = this.options;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      await this.pass().catch((error: Error) =>
        this.logger.warn(`Domains that expire cannot be read just now: ${error.message}`),
      );
      await delay(everyMs, undefined, { signal }).catch(unlessAborted);
    }
  }
}
