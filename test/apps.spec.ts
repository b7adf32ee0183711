import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { embeddedSettingsFile, portOf } from '@app/runtime';
import { allApps, startSystem, type Answer, type AppName, type System } from './support/processes';

describe('each app', () => {
  let system: System;

  beforeAll(async () => {
    system = await startSystem({ apps: [] });
  }, 30_000);
  afterAll(() => system.end('eventless'));

  it.each<AppName>([...allApps, 'sealer'])(
    '%s runs alone, says how it is, and ends on SIGTERM',
    async (app) => {
      await system.start(app);
      const ask = (path: string) => fetch(`http://127.0.0.1:${portOf(app, system.port)}${path}`);
      expect(await (await ask('/health/live')).json()).toMatchObject({ status: 'ok' });
      expect(await (await ask('/health/ready')).json()).toMatchObject({ status: 'ok' });
      const metrics = await (await ask('/metrics')).text();
      expect(metrics).toMatch(new RegExp(`^process_cpu_seconds_total\\{app="${app}"\\} \\d`, 'm'));
      expect(system.log(app)).not.toMatch(/"level":[56]0/);
      expect(system.log(app)).not.toContain('request completed');
      await system.stop(app);
      expect(system.runs(app)).toBe(false);
    },
    60_000,
  );

  it.each<AppName>([...allApps, 'sealer'])('%s lists every fault of its settings, and does not start', (app) => {
    const { status, stderr } = spawnSync(process.execPath, [resolve(__dirname, `../dist/apps/${app}/main.js`)], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, SENDMUX_DATA_DIR: '/nonexistent', PORT: 'http', LOG_LEVEL: 'loud' },
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(new RegExp(`^${app} cannot start\\.\nSettings that must be mended`));
    expect(stderr).toMatch(/^ {2}PORT must be a number/m);
    expect(stderr).toMatch(/^ {2}LOG_LEVEL /m);
    if (app !== 'sandbox') expect(stderr).toMatch(/^ {2}DATABASE_URL is not set/m);
  });
});

it('a system without an event proves nothing of the read model, and says so', async () => {
  const system = await startSystem({ apps: [] });
  await expect(system.end()).rejects.toThrow('The log has 0 events');
}, 30_000);

describe('a system that loses an app', () => {
  let system: System;

  beforeAll(async () => {
    system = await startSystem();
  }, 60_000);
  afterAll(() => system.end());

  it('finishes what was accepted, once the app is back', async () => {
    const { api } = await system.team();
    // Some put their key where it does not belong.
    await api.call('GET', '/domains?api_key=smx_root_abcdef123456');
    await system.until('the request is in the log', () => system.log('gateway').includes('api_key=smx_[hidden]'));
    expect(system.log('gateway')).not.toContain('abcdef123456');
    await system.kill('provisioning');
    expect(system.runs('provisioning')).toBe(false);
    const adding = api.add('mail.acme.com');
    await system.start('provisioning');
    const added = await adding;
    // One search for the id of the request finds all that came of it, in whatever process.
    const told = async (answer: Answer, app: AppName, happened: string) => {
      const { request_id: requestId } = (answer.body as { meta: { request_id: string } }).meta;
      const lines = () => system.log(app).split('\n');
      await system.until(`${app} logs ${happened} under ${requestId}`, () =>
        lines().some((line) => line.includes(requestId) && line.includes(happened)),
      );
    };
    await told(added, 'gateway', 'DomainAdded');
    await told(added, 'provisioning', 'DomainProvisioned');
    expect(added.status).toBe(201);
    await system.sandbox.place(added.body);
    const { id } = (added.body as { data: { id: string } }).data;
    const verified = await api.verify(id);
    expect(verified.body).toMatchObject({ data: { status: 'verified' } });
    await told(verified, 'gateway', 'DomainVerified');
    const deleted = await api.delete(id);
    expect(deleted.status).toBe(200);
    await told(deleted, 'gateway', 'DomainDeletionRequested');
    await told(deleted, 'provisioning', 'DomainDeleted');
    expect(await system.sandbox.identities()).toEqual([]);
  }, 60_000);
});

describe('an app beside make start', () => {
  it('finds all settings in the file of the launcher, those that only the AWS SDK reads too', async () => {
    const system = await startSystem({ apps: ['sandbox', 'gateway'] });
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-beside-'));
    try {
      const env = Object.entries(system.settings).filter(([name]) => name !== 'SENDMUX_DATA_DIR' && name !== 'PATH');
      writeFileSync(embeddedSettingsFile(directory), env.map(([name, value]) => `${name}=${value}\n`).join(''));
      const absent = Object.fromEntries(env.map(([name]) => [name, '']));
      await system.start('provisioning', { ...absent, SENDMUX_DATA_DIR: directory });
      const { api } = await system.team();
      expect((await api.add('mail.acme.com')).status).toBe(201);
    } finally {
      await system.end();
      rmSync(directory, { recursive: true, force: true });
    }
  }, 60_000);
});
