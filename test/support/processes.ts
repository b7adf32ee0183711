import { deepStrictEqual as deepEqual, strictEqual as equal } from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Accounts, type Grant } from '@app/accounts';
import { Verification, type Fault } from '@app/audit';
import { openPool } from '@app/database';
import { EventLog } from '@app/event-store';
import { portOf } from '@app/runtime';
import { personalDataKeys } from './mailbox-keys';
import { webhookSecretKeys } from './webhooks';
import { migratedDatabase } from './migrated-database';
import { testDatabase, type TestDatabase } from './test-database';
import { startPgBouncer } from './pgbouncer';
import { countedAndHeld, replayedAndLive } from './replayed-read-model';

export type AppName =
  | 'gateway'
  | 'provisioning'
  | 'verification-scheduler'
  | 'notifier'
  | 'event-relay'
  | 'sealer'
  | 'sender-policy'
  | 'webhooks'
  | 'sandbox';
export const allApps: readonly AppName[] = ['sandbox', 'gateway', 'provisioning', 'verification-scheduler', 'notifier'];
/** The apps on Kafka, where event-relay publishes the events. */
export const allAppsOnKafka: readonly AppName[] = [...allApps, 'event-relay'];

/** The folder of the build that is tested. Benches run compiled, from dist/test/support. */
const dist = resolve(__dirname, __filename.endsWith('.js') ? '../..' : '../../dist');

/** Milliseconds. All apps start at the same time on a machine that may be busy. */
const readyWithinMs = 120_000;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // A test reads the fields that it expects.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly body: any;
}

export interface System {
  readonly port: number;
  readonly databaseUrl: string;
  readonly mailServerDatabaseUrl: string;
  /** The environment of the apps. */
  readonly settings: NodeJS.ProcessEnv;
  readonly sandbox: SandboxClient;
  /** Creates a team with its owners, and a key. */
  team(options?: {
    name?: string;
    owners?: string[];
    grant?: Grant;
  }): Promise<{ id: string; key: string; api: ApiClient }>;
  /** Starts an app, again if it has ended, and waits until it is ready. */
  start(app: AppName, env?: NodeJS.ProcessEnv): Promise<void>;
  /** Starts a further process of an app, until the system ends. Gives its port. */
  another(app: AppName, env?: NodeJS.ProcessEnv): Promise<number>;
  /** Sends SIGKILL; resolves when the process has ended. */
  kill(app: AppName): Promise<void>;
  /** Sends SIGTERM; resolves with the exit status when the process has ended. */
  stop(app: AppName): Promise<number | null>;
  runs(app: AppName): boolean;
  /** The process of an app that was started last. */
  processOf(app: AppName): ChildProcess | undefined;
  /** Gives everything that an app has logged since the system started. */
  log(app: AppName): string;
  /** Waits until a probe gives a truthy value. The error after the time-out contains the ends of all logs. */
  until<T>(what: string, probe: () => T | Promise<T>, withinMs?: number): Promise<NonNullable<T>>;
  /**
   * Stops all apps, and drops the databases. Before that, it folds all events of the test, and expects the read model
   * to have the same rows. An empty log would prove nothing, so it is a failure unless the test says `eventless`.
   */
  end(log?: 'eventless'): Promise<void>;
}

export interface SystemOptions {
  /** Settings that are added to, or replace, those of the system. */
  readonly env?: NodeJS.ProcessEnv | ((port: number) => NodeJS.ProcessEnv);
  /** The apps to start at once; all when absent. */
  readonly apps?: readonly AppName[];
  /**
   * Those of `apps` that run in one process, as in a small installation, which takes a third of the CPU of as many
   * processes: for tests that neither end one of them nor look at it as a process. The sandbox is never among them.
   */
  readonly together?: 'all' | readonly AppName[];
  /** Brokers (`host:port`). The system runs on Kafka, with a topic and groups of its own; on the log when absent. */
  readonly brokers?: readonly string[];
  /**
   * The apps reach PostgreSQL through a PgBouncer in transaction mode, beside `DATABASE_DIRECT_URL`; `POOLED=1` in the
   * environment of the tests does it for all systems.
   */
  readonly pooled?: boolean;
  /** Whether both databases have no tables yet. */
  readonly isNew?: boolean;
  /** The database of the service, where the test has made it; it stays, and its log is not folded at the end. */
  readonly database?: TestDatabase;
  /** That of the mail server, likewise. */
  readonly mailServer?: TestDatabase;
}

/** Starts the built apps as processes, with databases and ports of this test. */
export async function startSystem({
  env = {},
  brokers,
  apps = brokers ? allAppsOnKafka : allApps,
  together: chosen = [],
  pooled = process.env.POOLED === '1',
  isNew = false,
  database: given,
  mailServer: givenMailServer,
}: SystemOptions = {}): Promise<System> {
  const create = (whose: 'service' | 'mail_server') => (isNew ? testDatabase() : migratedDatabase(whose));
  const together = chosen === 'all' ? apps.filter((app) => app !== 'sandbox') : chosen;
  const database = given ?? (await create('service'));
  const mailServer = givenMailServer ?? (await create('mail_server'));
  const pooler = pooled ? await startPgBouncer(database.url) : undefined;
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-system-'));
  const port = await freePortBlock();
  const doh = `http://127.0.0.1:${portOf('sandbox-doh', port)}`;
  const settings: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: join(dist, '.compile-cache'),
    PORT: String(port),
    SENDMUX_DATA_DIR: directory,
    DATABASE_URL: database.url,
    MAIL_SERVER_DATABASE_URL: mailServer.url,
    ...(pooler && {
      DATABASE_URL: pooler.through(database.url),
      DATABASE_DIRECT_URL: database.url,
      MAIL_SERVER_DATABASE_URL: pooler.through(mailServer.url),
      MAIL_SERVER_DATABASE_DIRECT_URL: mailServer.url,
    }),
    DOH_RESOLVERS: `${doh}/resolver-a/dns-query,${doh}/resolver-b/dns-query`,
    AWS_ENDPOINT_URL_SESV2: `http://127.0.0.1:${portOf('sandbox', port)}`,
    AWS_ACCESS_KEY_ID: 'sandbox',
    AWS_SECRET_ACCESS_KEY: 'sandbox',
    SES_CALLS_PER_SECOND: '100',
    MAX_DOMAINS_PER_TEAM: '1000000',
    MAX_DOMAINS: '10000000',
    PERSONAL_DATA_KEYS: personalDataKeys,
    WEBHOOK_SECRET_KEYS: webhookSecretKeys,
    WEBHOOKS_ALLOW_LOOPBACK: 'true',
    SMTP_URL: `smtp://127.0.0.1:${portOf('sandbox-smtp', port)}`,
    ...(brokers && {
      KAFKA_BROKERS: brokers.join(','),
      KAFKA_TOPIC: `events-${port}-${Date.now()}`,
      KAFKA_GROUP_PREFIX: `test-${port}-${Date.now()}.`,
      ...(process.env.KAFKA_CLIENT && { KAFKA_CLIENT: process.env.KAFKA_CLIENT }),
    }),
    ...(typeof env === 'function' ? env(port) : env),
  };
  const pool = openPool(database.url, 2);
  const accounts = new Accounts(pool);
  const children = new Map<AppName, ChildProcess>();
  const others: ChildProcess[] = [];
  const logFile = (app: AppName) => join(directory, `${app}.log`);
  const contents = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const logOfAll = join(directory, 'all-in-one.log');
  const log = (app: AppName) =>
    together.includes(app)
      ? contents(logOfAll).replaceAll(/^.*\n?/gm, (line) => (line.includes(`"app":"${app}"`) ? line : ''))
      : contents(logFile(app));
  const logEnds = () =>
    [
      ...[...children.keys()].map((app) => `── end of the log of ${app}\n${log(app).slice(-3_000)}`),
      ...(together.length > 0 ? [`── end of the log of all-in-one\n${contents(logOfAll).slice(-9_000)}`] : []),
    ].join('\n');

  async function until<T>(what: string, probe: () => T | Promise<T>, withinMs = 60_000): Promise<NonNullable<T>> {
    const begun = Date.now();
    for (;;) {
      const found = await probe();
      if (found) return found;
      const passed = Date.now() - begun;
      if (passed > withinMs) throw new Error(`Not within ${withinMs} ms: ${what}\n${logEnds()}`);
      // What takes long is asked for less often: most probes are requests, which the apps have to answer.
      await delay(Math.min(250, 25 + passed / 8));
    }
  }

  const healthOf = (app: AppName) => `http://127.0.0.1:${portOf(app, port)}/health/ready`;
  const ready = (app: AppName, child: ChildProcess) =>
    until(
      `${app} is ready`,
      async () => {
        if (!isRunning(child)) throw new Error(`${app} ended with ${child.exitCode ?? child.signalCode}\n${logEnds()}`);
        return (await statusOf(healthOf(app))) === 200;
      },
      readyWithinMs,
    );
  async function startTogether(): Promise<void> {
    if (together.length === 0) return;
    const child = spawnApp('all-in-one', settings, logOfAll, dist, together);
    others.push(child);
    for (const app of together) await ready(app, child);
  }
  const alone = (app: AppName) => {
    if (together.includes(app)) throw new Error(`${app} has no process of its own in this system.`);
  };

  const system: System = {
    port,
    databaseUrl: database.url,
    mailServerDatabaseUrl: mailServer.url,
    settings,
    sandbox: new SandboxClient(`http://127.0.0.1:${portOf('sandbox', port)}`),
    log,
    until,
    runs: (app) => (alone(app), isRunning(children.get(app))),
    processOf: (app) => (alone(app), children.get(app)),
    team: async ({ name = 'Acme', owners = ['ada@acme.example'], grant = { role: 'root:full' } } = {}) => {
      const { id } = await accounts.createTeam(name, owners);
      const { key } = await accounts.createKey(id, grant);
      return { id, key, api: new ApiClient(`http://127.0.0.1:${port}/api/v1`, key) };
    },
    start: async (app, more = {}) => {
      alone(app);
      if (isRunning(children.get(app))) throw new Error(`${app} runs already.`);
      const child = spawnApp(app, { ...settings, ...more }, logFile(app));
      children.set(app, child);
      await ready(app, child);
    },
    another: async (app, more = {}) => {
      const at = await freePortBlock();
      const file = join(directory, `${app}-${others.length + 2}.log`);
      const child = spawnApp(app, { ...settings, ...more, PORT: String(at) }, file);
      others.push(child);
      await until(
        `another ${app} is ready`,
        async () => {
          if (!isRunning(child)) throw new Error(`${app} ended\n${readFileSync(file, 'utf8')}`);
          return (await statusOf(`http://127.0.0.1:${portOf(app, at)}/health/ready`)) === 200;
        },
        readyWithinMs,
      );
      return portOf(app, at);
    },
    kill: async (app) => {
      alone(app);
      await ended(children.get(app), 'SIGKILL');
    },
    stop: async (app) => {
      alone(app);
      return ended(children.get(app), 'SIGTERM');
    },
    end: async (log) => {
      await stopAll();
      if (given) return await clean();
      const { replayed, live, events } = await replayedAndLive(database.url);
      const { counted, held } = events > 0 ? await countedAndHeld(database.url) : { counted: [], held: [] };
      const faults = events > 0 ? await faultsOfLog(database.url) : [];
      await clean();
      equal(events > 0, log !== 'eventless', `The log has ${events} events`);
      deepEqual(live, replayed, 'The read model is not what the events say');
      deepEqual(counted, held, 'The quotas do not count what the teams have');
      deepEqual(faults, [], 'The log is not what was recorded');
    },
  };
  async function stopAll(): Promise<void> {
    const apps = [...children].filter(([app]) => app !== 'sandbox').map(([, child]) => child);
    await Promise.all([...apps, ...others].map((child) => ended(child, 'SIGTERM')));
    await ended(children.get('sandbox'), 'SIGTERM');
    await pool.end();
  }
  async function clean(): Promise<void> {
    await pooler?.stop();
    if (!given) await database.drop();
    if (!givenMailServer) await mailServer.drop();
    rmSync(directory, { recursive: true, force: true });
  }
  try {
    const separate = apps.filter((app) => !together.includes(app));
    await Promise.all([startTogether(), ...separate.map((app) => system.start(app))]);
  } catch (error) {
    await stopAll();
    await clean();
    throw error;
  }
  return system;
}

/** Gives the faults that the audit finds by the hashes of the events. */
async function faultsOfLog(url: string): Promise<readonly Fault[]> {
  const pool = openPool(url, 2);
  const log = new EventLog(pool);
  const { faults } = await new Verification(pool, log, { trusted: new Map() }).run();
  await log.close();
  await pool.end();
  return faults.filter(({ seal }) => seal === undefined);
}

/** Calls the REST API with a key. */
export class ApiClient {
  constructor(
    private readonly base: string,
    private readonly key: string,
  ) {}

  add = (domain: string, headers?: Record<string, string>) => this.call('POST', '/domains', { domain }, headers);
  get = (id: string) => this.call('GET', `/domains/${id}`);
  list = (query = '') => this.call('GET', `/domains${query}`);
  verify = (id: string) => this.call('POST', `/domains/${id}/verify`);
  delete = (id: string) => this.call('DELETE', `/domains/${id}`);

  call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return request(method, `${this.base}${path}`, body, { authorization: `Bearer ${this.key}`, ...headers });
  }
}

export interface SandboxMail {
  readonly id: number;
  readonly date: string;
  readonly from: string;
  readonly to: string[];
  readonly subject: string;
  readonly messageId: string;
  readonly text: string;
  readonly html: string;
}

/** Calls the control API of the sandbox. */
export class SandboxClient {
  constructor(private readonly base: string) {}

  /** Places all records of a domain, given an answer of the API. */
  place = (answer: unknown) => this.call('POST', '/zone/place', answer);
  remove = (answer: unknown) => this.call('POST', '/zone/remove', answer);
  set = (name: string, type: string, values: string[]) => this.call('PUT', `/zone/${name}/${type}`, values);
  removeName = (name: string) => this.call('DELETE', `/zone/${name}`);
  mails = async (to?: string) =>
    (await this.call('GET', `/mails${to ? `?to=${encodeURIComponent(to)}` : ''}`)).body as SandboxMail[];
  /** @param upTo the id of the last mail to remove; all when absent. */
  clearMails = (upTo?: number) => this.call('DELETE', upTo === undefined ? '/mails' : `/mails?up_to=${upTo}`);
  fault = (
    api: 'ses' | 'doh-a' | 'doh-b' | 'smtp',
    fault: { mode: string; operations?: string[]; name?: string; times?: number; after_ms?: number },
  ) => this.call('PUT', `/faults/${api}`, fault);
  allWell = () => this.call('DELETE', '/faults');
  identities = async () =>
    (await this.call('GET', '/ses/identities')).body as {
      name: string;
      region: string;
      tags: { Key: string; Value: string }[];
      tokens: string[];
      mailFrom?: { domain: string };
    }[];
  /** Deletes an identity, as somebody could in the console of SES. */
  loseIdentity = (name: string) => this.call('DELETE', `/v2/email/identities/${name}`);
  /** Creates an identity of somebody else. */
  plantIdentity = async (name: string, domainId?: string) => {
    const Tags = domainId === undefined ? [] : [{ Key: 'sendmux:domain-id', Value: domainId }];
    return (await this.call('PUT', `/ses/identities/${name}`, { Tags })).body as { tokens: string[] };
  };
  /** Gives what each tenant of SES has, by its Region and name: the ends of the ARNs. */
  tenants = async () => {
    type Tenant = { readonly region: string; readonly name: string; readonly resources: Record<string, number> };
    const tenants = (await this.call('GET', '/ses/tenants')).body as Tenant[];
    return Object.fromEntries(
      tenants.map(({ region, name, resources }) => [
        `${region}/${name}`,
        Object.keys(resources).map((arn) => arn.split(':').at(-1)!),
      ]),
    );
  };
  createConfigurationSet = (region: string, ConfigurationSetName: string) =>
    request(
      'POST',
      `${this.base}/v2/email/configuration-sets`,
      { ConfigurationSetName },
      { authorization: `AWS4-HMAC-SHA256 Credential=test/20260101/${region}/ses/aws4_request` },
    );
  sesCalls = async () =>
    (await this.call('GET', '/ses/calls')).body as {
      operation: string;
      name: string;
      at: string;
      region: string;
      throttled?: true;
    }[];
  /** Says what a Region of SES may have, how fast it may be called, and whether it is away. */
  limitRegion = (region: string, limits: { capacity?: number; calls_per_second?: number; is_away?: boolean }) =>
    this.call('PUT', `/ses/regions/${region}`, limits);

  private async call(method: string, path: string, body?: unknown): Promise<Answer> {
    // A test that runs a command notices late that the sandbox has closed a connection, and would take it once more.
    const answer = await request(method, `${this.base}${path}`, body, { connection: 'close' });
    if (answer.status >= 300) throw new Error(`The sandbox: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer;
  }
}

async function request(
  method: string,
  url: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text === '' ? undefined : (JSON.parse(text) as unknown),
  };
}

/** Starts a compiled app that ends with this process, as under the launcher, of this build or another one. */
export function spawnApp(
  app: AppName | 'all-in-one',
  env: NodeJS.ProcessEnv,
  logFile: string,
  build = dist,
  args: readonly string[] = [],
): ChildProcess {
  const main = join(build, 'apps', app, 'main.js');
  if (!existsSync(main)) throw new Error(`${main} is missing: npm run build`);
  const child = spawn(
    process.execPath,
    ['--enable-source-maps', '--require', join(build, 'local/leave-with-parent.js'), main, ...args],
    { env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
  );
  const log = createWriteStream(logFile, { flags: 'a' });
  child.stdout!.pipe(log, { end: false });
  child.stderr!.pipe(log, { end: false });
  child.once('close', () => log.end());
  return child;
}

export const isRunning = (child: ChildProcess | undefined): boolean =>
  child !== undefined && child.exitCode === null && child.signalCode === null;

/** Sends a signal; resolves with the exit status when the process has ended. */
export function ended(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<number | null> {
  return new Promise((resolve) => {
    if (!child || !isRunning(child)) return resolve(child?.exitCode ?? null);
    child.once('close', (code) => resolve(code));
    child.kill(signal);
  });
}

/** Gives the status of the answer of a URL; undefined when there is none. */
export async function statusOf(url: string): Promise<number | undefined> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(5_000) })).status;
  } catch {
    return undefined;
  }
}

/**
 * Finds a `PORT` such that the ports after it are free too. It is below 32768, since above it the kernel assigns ports
 * to outgoing connections, which could take one meanwhile.
 */
export async function freePortBlock(): Promise<number> {
  const apps = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'event-relay'] as const;
  const more = ['sealer', 'sender-policy', 'sender-policy-postfix', 'webhooks'] as const;
  const others = ['sandbox', 'sandbox-doh', 'sandbox-smtp'] as const;
  for (;;) {
    const port = randomInt(500, 1_000) * 32;
    // These are the ports of the embedded Kafka of `make start`: three brokers and their controllers.
    const kafka = [20, 21, 22, 23, 24, 25].map((offset) => port + offset);
    const free = await Promise.all(
      [...[...apps, ...more, ...others].map((app) => portOf(app, port)), ...kafka].map(isFree),
    );
    if (free.every(Boolean)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
