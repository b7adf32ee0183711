import { setTimeout as delay } from 'node:timers/promises';
import { LogBroken, type Seals } from '@app/audit';
import type { HealthProbes } from '@app/runtime';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { Pool } from 'pg';
import { Counter, Gauge } from '@app/runtime';
import type { SealPublisher } from './seal-publisher';

const sealed = new Counter({ name: 'sendmux_audit_seals_total', help: 'Seals that this process has made' });
const broken = new Gauge({
  name: 'sendmux_audit_log_broken',
  help: '1: an event that is not sealed yet is not what its hash says, and nothing is sealed any further',
});

/** Milliseconds that a round may take before the liveness probe fails. */
const stalledMs = 600_000;

/**
 * Seals the new events of the log at a steady interval, and publishes each seal to its witnesses: the log of this
 * process, and Kafka.
 */
export class Sealer implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('sealer');
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;
  private progressAt = performance.now();

  /** @param intervalMs milliseconds between two rounds. */
  constructor(
    pool: Pool,
    probes: HealthProbes,
    private readonly seals: Pick<Seals, 'seal'>,
    private readonly intervalMs: number,
    private readonly publisher?: Pick<SealPublisher, 'publish' | 'close'>,
  ) {
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
    // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
    probes.add('live', 'sealer', async () => {
      const standsForMs = performance.now() - this.progressAt;
      if (standsForMs > stalledMs + intervalMs)
        throw new Error(`Nothing was tried for ${Math.round(standsForMs / 1_000)} s`);
    });
  }

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
    await this.publisher?.close();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      await this.seal();
      await this.publish();
      this.progressAt = performance.now();
      await delay(this.intervalMs, undefined, { signal }).catch(() => undefined);
    }
  }

  private async seal(): Promise<void> {
    try {
      for (const seal of await this.seals.seal()) {
        sealed.inc();
        // A log archive can show later that this seal was made.
        this.logger.log({ seal }, `Sealed: ${seal.statement.trim().split('\n').slice(2).join(', ')}`);
      }
      broken.set(0);
    } catch (error) {
      if (error instanceof LogBroken) broken.set(1);
      this.logger[error instanceof LogBroken ? 'error' : 'warn']((error as Error).message);
    }
  }

  private async publish(): Promise<void> {
    try {
      await this.publisher?.publish();
    } catch (error) {
      this.logger.warn(`Seals are not published yet: ${(error as Error).message}`);
    }
  }
}
