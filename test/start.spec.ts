import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseEnv } from 'node:util';
import { portOf } from '@app/runtime';
import { commandOf } from '../local/embedded-postgres';
import { kafkaIsInstalled } from './support/kafka';
import { freePortBlock } from './support/processes';
import { seedOfRun } from './support/sample';

const root = resolve(__dirname, '..');

/** Runs the launcher as `make start` does, after the build. */
class Launcher {
  output = '';
  private readonly child: ChildProcess;
  readonly ended: Promise<number | null>;

  constructor(env: NodeJS.ProcessEnv) {
    this.child = spawn(process.execPath, ['dist/local/start.js'], { cwd: root, env: { ...clean, ...env } });
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.ended = new Promise((done) => this.child.once('close', (code) => done(code)));
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** @param after how many characters of the output to leave out. */
  async says(what: string | RegExp, withinMs = 150_000, after = 0): Promise<void> {
    const deadline = Date.now() + withinMs;
    while (!this.output.slice(after).match(what)) {
      if (this.child.exitCode !== null || Date.now() > deadline)
        throw new Error(`The launcher does not say ${String(what)}, but:\n${this.output}`);
      await delay(50);
    }
  }

  signal(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal);
    return this.ended;
  }
}

/** The environment of this process without settings that name services. */
const clean: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: process.env.HOME };

async function isReady(port: number, withinMs = 150_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/health/ready`).catch(() => undefined);
    if (answer?.ok) return;
    if (Date.now() > deadline) throw new Error('The gateway is not ready.');
    await delay(100);
  }
}

/** Finds processes of the launcher by their command line. */
const childrenOf = (launcher: Launcher, command: RegExp): number[] =>
  spawnSync('pgrep', ['-P', String(launcher.pid)], { encoding: 'utf8' })
    .stdout.split('\n')
    .map(Number)
    .filter((pid) => pid && command.test(commandOf(pid)));

/**
 * Gives the processes that are still there after five seconds. The shell that would stop PostgreSQL for a killed
 * launcher ends a moment after the launcher.
 */
async function left(pids: readonly number[]): Promise<number[]> {
  const deadline = Date.now() + 5_000;
  for (;;) {
    const running = pids.filter((pid) => commandOf(pid) !== '');
    if (running.length === 0 || Date.now() > deadline) return running;
    await delay(20);
  }
}

describe('make start', () => {
  let directory: string;
  let port: number;
  let env: NodeJS.ProcessEnv;
  let launcher: Launcher;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sendmux-start-'));
    chmodSync(directory, 0o755);
    port = await freePortBlock();
    env = { PORT: String(port), SENDMUX_DATA_DIR: join(directory, '.sendmux') };
  });
  const data = (...path: string[]) => join(directory, '.sendmux', ...path);
  const children = (command: RegExp) => childrenOf(launcher, command);

  afterAll(async () => {
    await launcher?.signal('SIGTERM');
    rmSync(directory, { recursive: true, force: true });
  });

  it('becomes ready, and the tour of the README works to its end', async () => {
    const [toVerified, toDeleted] = tour(port, data('api-key'));
    const shell = new Shell();
    launcher = new Launcher(env);
    await isReady(port);
    // Who waits for readiness finds the key.
    expect(existsSync(data('api-key'))).toBe(true);
    await launcher.says('whole tour');
    const key = readFileSync(data('api-key'), 'utf8').trim();
    expect(launcher.output).toContain(key);
    expect(statSync(data('api-key')).mode & 0o777).toBe(0o600);
    expect(statSync(data('embedded.env')).mode & 0o777).toBe(0o600);
    for (const file of ['webhook-secret-keys', 'personal-data-keys'])
      expect(statSync(data(file)).mode & 0o777).toBe(0o600);
    const embedded = parseEnv(readFileSync(data('embedded.env'), 'utf8'));
    expect(embedded).toMatchObject({
      WEBHOOK_SECRET_KEYS: readFileSync(data('webhook-secret-keys'), 'utf8').trim(),
      PERSONAL_DATA_KEYS: readFileSync(data('personal-data-keys'), 'utf8').trim(),
      WEBHOOKS_ALLOW_LOOPBACK: 'true',
    });

    const added = await shell.run(toVerified);
    expect(added).toMatch(/"domain":"mail\.acme\.com".*"verification_status":"pending"/);
    expect(added).toContain('"mx":false');
    expect(added).toContain(
      '"complete":false,"warnings":[],"operations":[{"action":"create","name":"mail.acme.com","host":"mail"',
    );
    expect(added).toContain('mail.acme.com. 300 IN MX 10 mail.sendmux.ai.');
    expect(added).toMatch(/"status":"verified","ses_dkim_status":"success"/);

    expect(await launcher.signal('SIGINT')).toBe(0);
    expect(launcher.output).toMatch(/Stopping …\nStopped\..*\n$/);
    expect(existsSync(data('embedded.env'))).toBe(false);

    launcher = new Launcher({ ...env, VERIFICATION_INTERVAL: '3s' });
    await launcher.says('whole tour');
    expect(launcher.output).not.toContain(key);
    expect(launcher.output).toContain(data('api-key'));
    // What the keys have encrypted can be read after a restart.
    expect(parseEnv(readFileSync(data('embedded.env'), 'utf8'))).toMatchObject({
      WEBHOOK_SECRET_KEYS: embedded.WEBHOOK_SECRET_KEYS,
      PERSONAL_DATA_KEYS: embedded.PERSONAL_DATA_KEYS,
    });

    const broken = await shell.run(toDeleted);
    expect(broken).toMatch(/"domain":"mail\.acme\.com".*"verification_status":"verified"/);
    expect(broken).toMatch(/"verification_status":"failed"/);
    expect(broken).toMatch(/mail\.acme\.com[^]*10 mail\.sendmux\.ai/);
    expect(broken.trim().split('\n').at(-1)).toMatch(/^\{"ok":true,"data":\[\]/);
    shell.end();
    expect(launcher.output).not.toContain('ended unexpectedly');
  });

  it('refuses a second one on the same data or the same ports, in one line', async () => {
    const second = new Launcher(env);
    expect(await second.ended).toBe(1);
    expect(second.output).toMatch(/^It cannot start\. It runs already on .* \(process \d+\)\..*\n$/);

    const samePorts = new Launcher({ ...env, SENDMUX_DATA_DIR: join(directory, 'other') });
    expect(await samePorts.ended).toBe(1);
    expect(samePorts.output).toBe(
      `It cannot start. Port ${portOf('sandbox', port)}, which sandbox needs, is in use. Choose others, such as: PORT=4000 make start\n`,
    );
  });

  it('restarts the process of the apps that has died, and says so', async () => {
    const [apps] = children(/all-in-one/);
    process.kill(apps!, 'SIGKILL');
    await launcher.says(/all-in-one ended unexpectedly \(SIGKILL\); starting it again/);
    await launcher.says('all-in-one is ready again.');
    for (const app of ['gateway', 'sandbox', 'provisioning', 'notifier', 'sealer', 'webhooks'] as const)
      await isReady(portOf(app, port));
    expect(children(/all-in-one/)).toHaveLength(1);
  });

  it('starts PostgreSQL again that has died, ever more slowly, and takes nothing else with it', async () => {
    const pids = () => children(/all-in-one/).sort();
    const before = pids();
    for (const times of ['', ' (2 times within ten minutes)']) {
      const said = launcher.output.length;
      process.kill(children(/postgres/)[0]!, 'SIGKILL');
      await launcher.says(`PostgreSQL: starting it again in \\d+\\.\\d s${times.replace(/[()]/g, '\\$&')}\\.`);
      await launcher.says(/PostgreSQL is ready again\./, 60_000, said);
    }
    expect(launcher.output).not.toContain('Stopping');
    await isReady(port);
    expect(pids()).toEqual(before);
  });

  it('leaves no process running when it is killed, and recovers', async () => {
    const pids = children(/./);
    expect(pids.map((pid) => /all-in-one|postgres|stop-with/.exec(commandOf(pid))?.[0]).sort()).toEqual([
      'all-in-one',
      'postgres',
      'stop-with',
    ]);
    await launcher.signal('SIGKILL');
    launcher = new Launcher(env);
    await launcher.says('whole tour');
    expect(await left(pids)).toEqual([]);
    expect(await launcher.signal('SIGTERM')).toBe(0);
  });

  it('lists every fault of the settings, and starts nothing', async () => {
    const faulty = new Launcher({ ...env, VERIFICATION_INTERVAL: 'often', SMTP_URL: 'mail.example.com', PORT: 'x' });
    expect(await faulty.ended).toBe(1);
    expect(faulty.output).toContain('PORT must be a number');
    expect(faulty.output).toContain('VERIFICATION_INTERVAL must be a duration');
    expect(faulty.output).toContain('SMTP_URL must be a URL');
  });

  it('builds what is missing and starts it, and nothing else', () => {
    const { stdout, stderr } = spawnSync('make', ['-n', 'start'], { cwd: root, env: clean, encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/exec tools\/with-node node dist\/local\/start\.js\n$/);
    expect(stdout).not.toContain('bench');
  });
});

/** Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('make start KAFKA=1', () => {
  let directory: string;
  let launcher: Launcher;
  let env: NodeJS.ProcessEnv;
  let port: number;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sendmux-start-'));
    chmodSync(directory, 0o755);
    port = await freePortBlock();
    env = { PORT: String(port), SENDMUX_DATA_DIR: join(directory, '.sendmux'), KAFKA: '1' };
  });
  afterAll(async () => {
    await launcher?.signal('SIGTERM');
    rmSync(directory, { recursive: true, force: true });
  });

  it('takes a domain to verified on a real Kafka, and stops it with the rest', async () => {
    launcher = new Launcher(env);
    await launcher.says('whole tour', 250_000);
    expect(launcher.output).toMatch(/Kafka +ready/);
    for (const app of ['event-relay', 'provisioning'])
      expect(launcher.output).toMatch(new RegExp(`${app} +ready[^]*Ready after`));
    expect(readFileSync(join(directory, '.sendmux/embedded.env'), 'utf8')).toContain(
      `KAFKA_BROKERS=127.0.0.1:${port + 20}`,
    );
    const pids = childrenOf(launcher, /./);
    expect(pids.filter((pid) => /kafka\.Kafka/.test(commandOf(pid)))).toHaveLength(1);

    const shell = new Shell();
    const [toVerified] = tour(port, join(directory, '.sendmux/api-key'));
    expect(await shell.run(toVerified)).toMatch(/"status":"verified","ses_dkim_status":"success"/);
    shell.end();

    expect(await launcher.signal('SIGINT')).toBe(0);
    expect(launcher.output).toMatch(/Stopping …\nStopped\..*\n$/);
    expect(await left(pids)).toEqual([]);
  });

  it('starts again on its data, and starts Kafka again that has died, and nothing else', async () => {
    launcher = new Launcher(env);
    await launcher.says('whole tour');
    const others = () => childrenOf(launcher, /all-in-one|postgres/).sort();
    const before = others();
    process.kill(childrenOf(launcher, /kafka\.Kafka/)[0]!, 'SIGKILL');
    await launcher.says(/Kafka ended unexpectedly \(SIGKILL\)\.[^]*Kafka: starting it again in/);
    await launcher.says('Kafka is ready again.');
    expect(others()).toEqual(before);
    expect(await launcher.signal('SIGINT')).toBe(0);
  });

  console.log(`SEED=${seedOfRun}`);
  // Four processes of Java take much of the time of a usual run, so that every second one has them.
  const every = process.env.WHOLE || seedOfRun % 2 === 0 ? it : it.skip;
  every('goes on with two of three brokers, starts the third again, and takes nothing else with it', async () => {
    const three = { ...env, KAFKA: '3', SENDMUX_DATA_DIR: join(directory, 'three') };
    launcher = new Launcher(three);
    await launcher.says('whole tour', 250_000);
    const others = () => childrenOf(launcher, /all-in-one|postgres/).sort();
    const brokers = () => childrenOf(launcher, /kafka\.Kafka/);
    const [before, [first, ...two]] = [others(), brokers()];
    process.kill(first!, 'SIGKILL');
    await launcher.says(/Kafka node \d ended unexpectedly \(SIGKILL\)\./);
    const key = readFileSync(join(directory, 'three/api-key'), 'utf8').trim();
    const added = await fetch(`http://127.0.0.1:${port}/api/v1/domains`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: '{"domain":"mail.acme.com"}',
    });
    expect(added.status).toBe(201);
    await launcher.says(/Kafka node \d is ready again\./);
    expect(others()).toEqual(before);
    expect(brokers()).toHaveLength(3);
    expect(brokers()).toEqual(expect.arrayContaining(two));
    expect(await launcher.signal('SIGINT')).toBe(0);
  });

  it('refuses another number of nodes', async () => {
    const two = new Launcher({ ...env, KAFKA: '2' });
    expect(await two.ended).toBe(1);
    expect(two.output).toBe('It cannot start. KAFKA is 2: it must be 1 or 3, the nodes of an embedded Kafka.\n');
  });
});

/** Reads the two bash blocks of the README's tour, and replaces the ports and the path of the key. */
function tour(port: number, keyFile: string): [string, string] {
  const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```bash\n([^]*?)```/g)].map(([, text]) =>
    text!
      .replaceAll('.sendmux/api-key', keyFile)
      .replaceAll('localhost:3000', `127.0.0.1:${port}`)
      .replaceAll('localhost:3010', `127.0.0.1:${portOf('sandbox', port)}`),
  );
  expect(blocks).toHaveLength(2);
  return blocks as [string, string];
}

/** A shell into which both blocks are pasted, as a newcomer would. */
class Shell {
  private readonly child = spawn('bash', [], { cwd: root, env: clean });
  private output = '';

  constructor() {
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text));
  }

  async run(script: string): Promise<string> {
    this.output = '';
    this.child.stdin.write(`${script}\necho "-- end --"\n`);
    const deadline = Date.now() + 120_000;
    while (!this.output.endsWith('-- end --\n')) {
      if (Date.now() > deadline) throw new Error(`The tour does not end:\n${this.output}`);
      await delay(50);
    }
    return this.output.replace('-- end --\n', '');
  }

  end(): void {
    this.child.stdin.end();
  }
}
