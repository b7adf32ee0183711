import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { embeddedSettingsFile, portOf } from '@app/runtime';
import { open } from './support/raw-http';
import { testDatabase } from './support/test-database';
import { webhookSecretKeys } from './support/webhooks';
import { allApps, startSystem, type Answer, type AppName, type System } from './support/processes';

/** Runs what follows as process 1 of a namespace, as container runtimes do. */
const asFirst = ['--map-root-user', '--pid', '--fork', '--kill-child'];

describe('each app', () => {
  let system: System;

  beforeAll(async () => {
    system = await startSystem({ apps: [] });
  });
  afterAll(() => system.end('eventless'));

  it.each<AppName>([...allApps, 'sealer', 'sender-policy', 'webhooks'])(
    'N7: %s runs alone, reports its health, and ends on SIGTERM, whoever is connected and says nothing or half of it',
    async (app) => {
      await system.start(app);
      const ask = (path: string) => fetch(`http://127.0.0.1:${portOf(app, system.port)}${path}`);
      expect(await (await ask('/health/live')).json()).toMatchObject({ status: 'ok' });
      expect(await (await ask('/health/ready')).json()).toMatchObject({ status: 'ok' });
      const metrics = await (await ask('/metrics')).text();
      expect(metrics).toMatch(new RegExp(`^process_cpu_seconds_total\\{app="${app}"\\} \\d`, 'm'));
      // An autoscaler takes a metric that is absent for one that cannot be read.
      if (app === 'webhooks') expect(metrics).toMatch(/^sendmux_webhook_oldest_due_seconds\{lane="live".*\} 0$/m);
      expect(system.log(app)).not.toMatch(/"level":[56]0/);
      expect(system.log(app)).not.toContain('request completed');

      const others = { sandbox: ['sandbox-doh', 'sandbox-smtp'], 'sender-policy': ['sender-policy-postfix'] } as const;
      const ports = [app, ...(others[app as keyof typeof others] ?? [])];
      const sockets: Socket[] = [];
      for (const port of ports.map((each) => portOf(each, system.port)))
        for (const sent of [
          '',
          'GET /health/live HTTP/1.1\r\nhost: x',
          'POST /api/v1/invitations/accept HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{',
          // It keeps its connection after an answer, and reads nothing of it.
          'GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n',
        ])
          sockets.push(await open(port, sent));
      const begun = performance.now();
      await system.stop(app);
      // Ten seconds are promised, and what waits for strangers waits for ever: on a slow machine this proves less.
      expect(performance.now() - begun).toBeLessThan(30_000);
      expect(system.runs(app)).toBe(false);
      const lastLine = () => system.log(app).trimEnd().split('\n').at(-1)!;
      await system.until('its last line says why', () => lastLine().includes(`${app} has stopped after SIGTERM`));
      // A process that has waited for them until its own limit says that some work was left.
      expect(system.log(app)).not.toContain('with work that other processes will go on with');
      for (const socket of sockets) socket.destroy();
    },
  );

  const canBeFirst = spawnSync('unshare', [...asFirst, 'true']).status === 0;
  (canBeFirst ? it : it.skip)('as the first process of a container it ends on SIGTERM as well', async () => {
    const main = resolve(__dirname, '../dist/apps/sender-policy/main.js');
    const container = spawn('unshare', [...asFirst, process.execPath, main], { env: system.settings, stdio: 'ignore' });
    try {
      const ended = once(container, 'exit') as Promise<[number | null]>;
      const url = `http://127.0.0.1:${portOf('sender-policy', system.port)}/health/ready`;
      await system.until('it is ready', () =>
        fetch(url).then(
          ({ ok }) => ok,
          () => false,
        ),
      );
      const [first] = readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8').split(' ');
      process.kill(Number(first), 'SIGTERM');
      expect(await ended).toEqual([143, null]);
    } finally {
      container.kill('SIGKILL');
    }
  });

  it.each([
    ['gateway', 'DATABASE_URL'],
    ['provisioning', 'MAIL_SERVER_DATABASE_URL'],
  ])('%s does not start on older tables at %s, and says what to do', async (app, setting) => {
    const older = await testDatabase();
    const { status, stderr } = spawnSync(process.execPath, [resolve(__dirname, `../dist/apps/${app}/main.js`)], {
      encoding: 'utf8',
      env: { ...system.settings, [setting]: older.url },
    });
    await older.drop();
    expect(status).toBe(1);
    expect(stderr).toMatch(
      new RegExp(
        `(^|\n)${app} cannot start\\.\nThe tables of ${setting} are older than release .*Run \`bin/sendmux migrate\`.*\n$`,
      ),
    );
    expect(stderr).not.toContain('    at ');
  });

  it('a warning of Node is a line of the log', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-warning-'));
    const preload = join(directory, 'warning.cjs');
    writeFileSync(preload, `setInterval(() => process.emitWarning('planted', 'PlantedWarning'), 20).unref()`);
    await system.start('sealer', { NODE_OPTIONS: `--require ${preload}` });
    const lines = () => system.log('sealer').trimEnd().split('\n');
    await system.until('it is there', () => lines().some((line) => line.includes('PlantedWarning')));
    await system.stop('sealer');
    const logged = lines().filter((line) => line.startsWith('{') && line.includes('planted'));
    expect(logged.length).toBeGreaterThan(0);
    for (const line of logged) expect(JSON.parse(line)).toMatchObject({ level: 40, msg: 'PlantedWarning: planted' });
    expect(lines().at(-1)).toContain('sealer has stopped after SIGTERM');
    rmSync(directory, { recursive: true });
  });

  it('an unexpected error ends the process, and is the last line of its log', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-fault-'));
    const [preload, now] = [join(directory, 'fault.cjs'), join(directory, 'now')];
    writeFileSync(
      preload,
      `setInterval(() => require('node:fs').existsSync('${now}') && Promise.reject(new Error('planted')), 20).unref()`,
    );
    await system.start('sealer', { NODE_OPTIONS: `--require ${preload}` });
    writeFileSync(now, '');
    await system.until('the process has ended', () => !system.runs('sealer'));
    const lastLine = () => system.log('sealer').trimEnd().split('\n').at(-1)!;
    await system.until('its last line is there', () => lastLine().includes('planted'));
    expect(JSON.parse(lastLine())).toMatchObject({
      level: 60,
      msg: expect.stringMatching(
        /^sealer ends with status 1, by a rejection that nobody handled: Error: planted\n/,
      ) as string,
    });
    rmSync(directory, { recursive: true });
  });

  it.each<AppName>([...allApps, 'sealer', 'webhooks'])(
    '%s lists every fault of its settings, and does not start',
    (app) => {
      const { status, stderr } = spawnSync(process.execPath, [resolve(__dirname, `../dist/apps/${app}/main.js`)], {
        encoding: 'utf8',
        env: { PATH: process.env.PATH, SENDMUX_DATA_DIR: '/nonexistent', PORT: 'http', LOG_LEVEL: 'loud' },
      });
      expect(status).toBe(1);
      expect(stderr).toMatch(new RegExp(`^${app} cannot start\\.\nSettings that must be mended`));
      expect(stderr).toMatch(/^ {2}PORT must be a number/m);
      expect(stderr).toMatch(/^ {2}LOG_LEVEL /m);
      if (app !== 'sandbox') expect(stderr).toMatch(/^ {2}DATABASE_URL is not set/m);
    },
  );
});

it.each([
  ['webhooks', 'WEBHOOK_SECRET_KEYS', {}],
  ['webhooks', 'PERSONAL_DATA_KEYS', { WEBHOOK_SECRET_KEYS: webhookSecretKeys }],
  ['gateway', 'PERSONAL_DATA_KEYS', {}],
  ['provisioning', 'PERSONAL_DATA_KEYS', {}],
])('%s without %s says what to do, and does not start', (app, setting, given) => {
  const { status, stderr } = spawnSync(process.execPath, [resolve(__dirname, `../dist/apps/${app}/main.js`)], {
    encoding: 'utf8',
    env: {
      PATH: process.env.PATH,
      SENDMUX_DATA_DIR: '/nonexistent',
      DATABASE_URL: 'postgres://127.0.0.1/x',
      MAIL_SERVER_DATABASE_URL: 'postgres://127.0.0.1/x',
      DOH_RESOLVERS: 'http://127.0.0.1/dns-query',
      SMTP_URL: 'smtp://127.0.0.1',
      ...given,
    },
  });
  expect(status).toBe(1);
  expect(stderr).toMatch(new RegExp(`^${app} cannot start\\.\\n${setting} is not set: `));
  expect(stderr).toContain('openssl rand -base64 32');
});

it('a test without an event fails, since it proves nothing about the read model', async () => {
  const system = await startSystem({ apps: [] });
  await expect(system.end()).rejects.toThrow('The log has 0 events');
});

describe('a system that loses an app', () => {
  let system: System;

  beforeAll(async () => {
    system = await startSystem();
  });
  afterAll(() => system.end());

  it('writes no secret of a webhook to its logs', async () => {
    const { api } = await system.team();
    const secretOf = ({ body }: { body: unknown }) => (body as { data: { id: string; secret: string } }).data;
    const { id, secret } = secretOf(await api.call('POST', '/webhooks', { url: 'https://hooks.example.com/' }));
    const { secret: next } = secretOf(await api.call('POST', `/webhooks/${id}/rotate-secret`));
    await api.call('GET', `/webhooks/${id}?secret=${encodeURIComponent(next)}`);
    await system.until('the request is in the log', () => system.log('gateway').includes('secret=whsec_[hidden]'));
    for (const each of [secret, next].flatMap((one) => [one, encodeURIComponent(one)]))
      expect(system.log('gateway')).not.toContain(each.slice('whsec_'.length));
    await api.call('DELETE', `/webhooks/${id}`);
  });

  it('finishes what was accepted, once the app is back', async () => {
    const { api } = await system.team();
    // Some clients put their key in the wrong place.
    await api.call('GET', '/domains?api_key=smx_root_abcdef123456');
    await system.until('the request is in the log', () => system.log('gateway').includes('api_key=smx_[hidden]'));
    expect(system.log('gateway')).not.toContain('abcdef123456');
    await system.kill('provisioning');
    expect(system.runs('provisioning')).toBe(false);
    const adding = api.add('mail.acme.com');
    await system.start('provisioning');
    const added = await adding;
    // A search for the request id in the logs of all processes finds everything that the request has caused.
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
  });
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
  });
});
