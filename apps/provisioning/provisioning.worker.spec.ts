import { EventEmitter } from 'node:events';
import { Logger } from '@nestjs/common';
import type { MailServer } from '@app/mail-server';
import type { HealthProbes } from '@app/runtime';
import type { ClaimedTask, TaskList } from '@app/tasks';
import type { Pool } from 'pg';
import type { Provisioner } from './provisioner';
import { ProvisioningWorker } from './provisioning.worker';

beforeAll(() => {
  Logger.overrideLogger(false);
});

it('tries again within ten seconds, however long a counterpart has been away', async () => {
  const claimed = { list: 'provisioning', key: 'mdom_1', kind: 'ProvisioningFailed', attempts: 40 } as ClaimedTask;
  const claims = [[claimed]];
  let worker!: ProvisioningWorker;
  const postponed = new Promise<number>((resolve) => {
    const tasks = {
      changed: new EventEmitter(),
      places: new Map(),
      claim: () => Promise.resolve(claims.shift() ?? []),
      nextDueInMs: () => Promise.resolve(undefined),
      postpone: (_task: ClaimedTask, delayMs: number) => Promise.resolve(resolve(delayMs)),
    };
    const provisioner = { converge: () => Promise.reject(new Error('Amazon SES does not answer')) };
    worker = new ProvisioningWorker(
      tasks as unknown as TaskList,
      provisioner as unknown as Provisioner,
      { add: () => undefined } as unknown as HealthProbes,
      {} as MailServer,
      {} as Pool,
    );
    worker.onApplicationBootstrap();
  });
  const delayMs = await postponed;
  await worker.beforeApplicationShutdown();
  expect(delayMs).toBeGreaterThan(1_000);
  expect(delayMs).toBeLessThanOrEqual(10_000);
});
