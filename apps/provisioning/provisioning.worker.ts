import { Inject, Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { Pool } from 'pg';
import { MailServer } from '@app/mail-server';
import { HealthProbes } from '@app/runtime';
import { provisioningLists, TaskList, TaskWorker } from '@app/tasks';
import { Provisioner } from './provisioner';
import { concurrency } from './shard-places';

export const provisioningTasks = provisioningLists.provisioning;

@Injectable()
export class ProvisioningWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly worker: TaskWorker;

  constructor(
    tasks: TaskList,
    provisioner: Provisioner,
    probes: HealthProbes,
    mailServer: MailServer,
    @Inject(Pool) pool: Pool,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: provisioningTasks,
      concurrency,
      leaseMs: 5_000,
      // A customer may be waiting for the name, so retries follow soon after the mail server or SES is available again.
      backOff: { baseMs: 500, capMs: 10_000 },
      handle: ({ key, attempts }, signal) => provisioner.converge(key, signal, attempts > 1),
    });
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
    probes.add('ready', 'mail-server', () => mailServer.ping());
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }
}
