import { Inject, Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { Pool } from 'pg';
import { MailServer } from '@app/mail-server';
import { HealthProbes } from '@app/runtime';
import { TaskList, TaskWorker } from '@app/tasks';
import { Provisioner } from './provisioner';

/** The list of domains that ask something of the mail server or of SES; a key is a domain's id. */
export const provisioningTasks = 'provisioning';

/** Domains worked on at once. A step that waits for SES holds one place, so there are many. */
const concurrency = 64;

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
      // Somebody waits for the name: soon after the counterpart is well, it is free.
      backOff: { baseMs: 500, capMs: 10_000 },
      handle: async ({ key, attempts }, signal) => {
        await provisioner.converge(key, signal, attempts > 1);
        return 'done';
      },
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
