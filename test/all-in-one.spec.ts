import { spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { portOf } from '@app/runtime';
import { OtlpReceiver } from './support/otlp-receiver';
import { ended, isRunning, spawnApp, startSystem, statusOf, type System } from './support/processes';

const apps = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'sealer', 'webhooks'] as const;
type Part = (typeof apps)[number];

/** A metric of each app that no other one has. */
const own: Record<Part, RegExp> = {
  gateway: /^sendmux_http_request_duration_seconds_count\{/m,
  provisioning: /^sendmux_tasks\{list="provisioning",/m,
  'verification-scheduler': /^sendmux_verification_interval_seconds\{/m,
  notifier: /^sendmux_notifier_alarms_total\{/m,
  sealer: /^sendmux_audit_log_broken\{/m,
  webhooks: /^sendmux_webhook_held_lanes\{/m,
};

/**
 * The names of the metrics that have samples. Those of the handles and requests that are active have a sample for each
 * kind that is active at that moment, which may be none, and the waits for SES once a call has waited: the identities
 * are listed by the scheduler that comes first.
 */
const namesIn = (metrics: string): Set<string> =>
  new Set([...metrics.matchAll(/^(?!nodejs_active_|sendmux_ses_wait_)(\w+)[{ ]/gm)].map(([, name]) => name!));

describe('the apps of a small installation in one process', () => {
  let system: System;
  let receiver: OtlpReceiver;
  let child: ChildProcess;
  let logFile: string;
  const alone = new Map<Part, Set<string>>();

  const metricsOf = async (app: Part) => (await fetch(`http://127.0.0.1:${portOf(app, system.port)}/metrics`)).text();
  const lines = () =>
    readFileSync(logFile, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { app?: string; msg: string; level: number; req?: { id?: string } });

  beforeAll(async () => {
    receiver = await OtlpReceiver.open();
    system = await startSystem({
      apps: ['sandbox'],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_BSP_SCHEDULE_DELAY: '100' },
    });
    for (const app of apps) {
      await system.start(app);
      alone.set(app, namesIn(await metricsOf(app)));
      await system.stop(app);
    }
    logFile = join(system.settings.SENDMUX_DATA_DIR!, 'all-in-one.log');
    child = spawnApp('all-in-one', system.settings, logFile);
    for (const app of apps)
      await system.until(
        `${app} is ready`,
        async () => {
          if (!isRunning(child)) throw new Error(readFileSync(logFile, 'utf8'));
          return (await statusOf(`http://127.0.0.1:${portOf(app, system.port)}/health/ready`)) === 200;
        },
        120_000,
      );
  });
  afterAll(async () => {
    await ended(child, 'SIGKILL');
    await receiver.close();
    await system.end();
  });

  it('takes a domain through its life', async () => {
    const { api } = await system.team();
    const added = await api.add('mail.acme.com', { 'x-request-id': 'one-process-1' });
    expect(added.status).toBe(201);
    await system.sandbox.place(added.body);
    const { id } = (added.body as { data: { id: string } }).data;
    expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified' } });
    expect((await api.delete(id)).status).toBe(200);
  });

  it.each(apps)('%s has its health, and the metrics that it has in a process of its own', async (app) => {
    expect(await statusOf(`http://127.0.0.1:${portOf(app, system.port)}/health/live`)).toBe(200);
    const metrics = await metricsOf(app);
    expect([...new Set([...metrics.matchAll(/\bapp="([\w-]*)"/g)].map(([, name]) => name))]).toEqual([app]);
    expect([...alone.get(app)!].filter((name) => !namesIn(metrics).has(name))).toEqual([]);
    for (const [other, form] of Object.entries(own))
      expect([other, form.test(metrics)]).toEqual([other, other === app]);
  });

  it('counts what each app has done where that app shows it', async () => {
    expect(await metricsOf('provisioning')).toMatch(/^sendmux_events_handled_total\{group="provisioning",.*\} [1-9]/m);
    expect(await metricsOf('provisioning')).toMatch(/^sendmux_ses_wait_seconds_count\{.*priority="change".*\} [1-9]/m);
    expect(await metricsOf('notifier')).not.toMatch(/^sendmux_ses_wait_seconds_count/m);
    expect(await metricsOf('gateway')).not.toMatch(/^sendmux_events_handled_total/m);
  });

  it('names the app of each line of the log', async () => {
    await system.until('all are there', () => apps.every((app) => lines().some((line) => line.app === app)));
    expect(lines().filter(({ app }) => !apps.includes(app as Part))).toEqual([]);
    for (const app of apps)
      expect(lines().filter(({ msg }) => msg === `${app} listens on port ${portOf(app, system.port)}`)).toEqual([
        expect.objectContaining({ app }),
      ]);
    expect(lines().filter(({ msg }) => msg === 'request completed')).toEqual(
      expect.arrayContaining([expect.objectContaining({ app: 'gateway' })]),
    );
  });

  it('names the app of each span', async () => {
    const services = () => new Set(receiver.spans.map(({ service }) => service));
    await system.until('both are there', () =>
      ['sendmux-gateway', 'sendmux-provisioning'].every((name) => services().has(name)),
    );
    const served = receiver.spans.filter(({ name }) => name === 'POST /api/v1/domains');
    expect(new Set(served.map(({ service }) => service))).toEqual(new Set(['sendmux-gateway']));
  });

  it('ends by SIGTERM in order, and says so', async () => {
    await ended(child, 'SIGTERM');
    expect(child.signalCode).toBe('SIGTERM');
    expect(lines().at(-1)).toMatchObject({ app: 'all-in-one', level: 30, msg: 'all-in-one has stopped after SIGTERM' });
  });

  const run = (env: NodeJS.ProcessEnv = {}, ...args: string[]) =>
    spawnSync(process.execPath, [resolve(__dirname, '../dist/apps/all-in-one/main.js'), ...args], {
      encoding: 'utf8',
      env: { ...system.settings, ...env },
      timeout: 120_000,
    });

  it('ends when one of them cannot start, and says which and why', async () => {
    const { status, stderr } = run({ WEBHOOK_SECRET_KEYS: '' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^all-in-one: webhooks cannot start\.\nWEBHOOK_SECRET_KEYS is not set/);

    const squatter = createServer().listen(portOf('sealer', system.port), '127.0.0.1');
    await once(squatter, 'listening');
    const refused = run();
    squatter.close();
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/^all-in-one: sealer cannot start\.\nError: listen EADDRINUSE/);
  });

  it('runs the apps that it is asked for, and refuses others', () => {
    const { status, stderr } = run({}, 'gateway', 'mail');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^all-in-one cannot start\.\nThere is no app mail\. Name some of: event-relay, gateway, /);
  });
});
