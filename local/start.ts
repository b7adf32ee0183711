/**
 * Runs everything on this machine, for `make start`. Services that the environment does not name are embedded:
 * PostgreSQL, and a sandbox in place of Amazon SES, the DNS and the SMTP server; with `KAFKA=1` a Kafka too. Stops in
 * the reverse order.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, relative, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { embeddedSettingsFile, loadSettings, portOf, SettingsInvalid } from '@app/runtime';
import { AppProcess } from './app-process';
import { claimDataDirectory, writePrivateFile } from './data-directory';
import type { KafkaCluster } from './embedded-kafka';
import { startEmbeddedPostgres, stopAbandonedPostgres, type EmbeddedPostgres } from './embedded-postgres';
import { RestartBackOff, startingAgain } from './restart-back-off';

const apps = ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'sealer', 'webhooks'] as const;
/** The offset from `PORT` to the first port of the embedded Kafka: the brokers, then the controllers. */
const kafkaPort = 20;
/** Settings that name a real SES. A Region alone does not: many shells set it. */
const namesAnSes = [
  'AWS_ENDPOINT_URL_SESV2',
  'AWS_ENDPOINT_URL',
  'AWS_ACCESS_KEY_ID',
  'AWS_PROFILE',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
];

/** Placeholders of settings that become known later, so that all others can be validated before anything starts. */
const toBeEmbedded = {
  DATABASE_URL: 'postgres://127.0.0.1/sendmux',
  MAIL_SERVER_DATABASE_URL: 'postgres://127.0.0.1/mail_server',
  DOH_RESOLVERS: 'http://127.0.0.1/dns-query',
  SMTP_URL: 'smtp://127.0.0.1',
};

type AppName = 'sandbox' | 'event-relay' | (typeof apps)[number];
type Environment = Record<string, string>;

const say = (line = '') => process.stdout.write(`${line}\n`);
const progress = (what: string, since: number, note: string) =>
  say(`  ${what.padEnd(23)} ready ${((performance.now() - since) / 1000).toFixed(1).padStart(5)} s   ${note}`);
const shown = (path: string) => (relative('', path).startsWith('..') ? path : relative('', path));

/** Starts and stops the database, Kafka where it is asked for, and the process of the apps. */
class Launcher {
  private process: AppProcess | undefined;
  private readonly restarts = new Map<string, RestartBackOff>();
  private postgres: Promise<EmbeddedPostgres> | undefined;
  private kafka: Promise<KafkaCluster> | undefined;
  private readonly interrupted = new AbortController();
  private ending: Promise<never> | undefined;

  private readonly given = Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => !!entry[1]),
  );
  private readonly settings = loadSettings({
    ...Object.fromEntries(Object.entries(toBeEmbedded).filter(([name]) => !this.gives(name))),
    ...this.given,
  });
  /**
   * The number of nodes of the embedded Kafka. Undefined when the environment names brokers, or does not ask for a
   * Kafka.
   */
  private readonly kafkaNodes = this.given.KAFKA_BROKERS ? undefined : kafkaNodesOf(this.given.KAFKA);
  private readonly directory = resolve(this.settings.SENDMUX_DATA_DIR);
  private readonly env: Environment = {
    // All apps load much the same: Node compiles it once, and not at every start.
    NODE_COMPILE_CACHE: resolve(__dirname, '../.compile-cache'),
    ...this.given,
    SENDMUX_DATA_DIR: this.directory,
  };
  private readonly keyFile = join(this.directory, 'api-key');
  private release: (() => void) | undefined;

  /** Tells whether the environment has a setting, or the file of a secret. */
  private gives(setting: string): boolean {
    return !!this.given[setting] || !!this.given[`${setting}_FILE`];
  }

  /** Gives the URL at which this machine reaches a port of the apps. */
  private url(port: number, protocol = 'http'): string {
    const { HOST } = this.settings;
    const host = ['0.0.0.0', '::'].includes(HOST) ? '127.0.0.1' : HOST.includes(':') ? `[${HOST}]` : HOST;
    return `${protocol}://${host}:${port}`;
  }

  async start(): Promise<void> {
    const begun = performance.now();
    const claimed = claimDataDirectory(this.directory);
    this.release = claimed.release;
    const { sandbox, embedded } = this.sandboxSettings();
    const onKafka = !!this.kafkaNodes || !!this.given.KAFKA_BROKERS;
    const started = [...(sandbox ? (['sandbox'] as const) : []), ...apps];
    await this.portsAreFree(
      [
        ...started,
        ...(sandbox ? (['sandbox-doh', 'sandbox-smtp'] as const) : []),
        ...(onKafka ? (['event-relay'] as const) : []),
      ],
      claimed.abandoned ? 12_000 : 0,
    );
    say('sendmux-domains');

    if (!this.gives('DATABASE_URL') || !this.gives('MAIL_SERVER_DATABASE_URL')) {
      const since = performance.now();
      const home = join(this.directory, 'postgres');
      await stopAbandonedPostgres(home);
      const postgres = await this.startPostgres(home);
      if (!this.gives('DATABASE_URL')) embedded.DATABASE_URL = await postgres.database('sendmux');
      if (!this.gives('MAIL_SERVER_DATABASE_URL'))
        embedded.MAIL_SERVER_DATABASE_URL = await postgres.database('mail_server');
      progress('PostgreSQL', since, `embedded, its data in ${shown(home)}`);
    }
    if (this.kafkaNodes) embedded.KAFKA_BROKERS = await this.startKafka(this.kafkaNodes);
    for (const [setting, file] of Object.entries(keyRings))
      if (!this.gives(setting)) embedded[setting] = keyRingIn(join(this.directory, file));
    embedded.WEBHOOKS_ALLOW_LOOPBACK = this.given.WEBHOOKS_ALLOW_LOOPBACK ?? 'true';
    Object.assign(this.env, embedded);
    const file = embeddedSettingsFile(this.directory);
    writePrivateFile(
      file,
      Object.entries(embedded)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    );
    const isNewKey = !existsSync(this.keyFile);
    await this.startApps([...started, ...(onKafka ? (['event-relay'] as const) : [])], sandbox);
    say();
    say(`Ready after ${((performance.now() - begun) / 1000).toFixed(1)} s. Ctrl-C stops everything; the data stays.`);
    this.sayWhatNext(isNewKey, sandbox);
  }

  /**
   * Gives settings for what the environment does not name, and whether they need the sandbox. Settings of the
   * environment are never overridden.
   */
  private sandboxSettings(): { sandbox: boolean; embedded: Environment } {
    const { PORT } = this.settings;
    const embedded: Environment = {};
    if (!this.given.DOH_RESOLVERS) {
      const doh = this.url(portOf('sandbox-doh', PORT));
      embedded.DOH_RESOLVERS = ['a', 'b'].map((name) => `${doh}/resolver-${name}/dns-query`).join(',');
    }
    if (!this.gives('SMTP_URL')) embedded.SMTP_URL = this.url(portOf('sandbox-smtp', PORT), 'smtp');
    if (!namesAnSes.some((name) => this.given[name])) {
      embedded.AWS_ENDPOINT_URL_SESV2 = this.url(portOf('sandbox', PORT));
      embedded.AWS_REGION = this.given.AWS_REGION ?? 'eu-west-1';
      embedded.AWS_ACCESS_KEY_ID = 'sandbox';
      embedded.AWS_SECRET_ACCESS_KEY = 'sandbox';
      embedded.SES_CALLS_PER_SECOND = this.given.SES_CALLS_PER_SECOND ?? '20';
    }
    // The DNS of the sandbox names the sandbox as the DNS provider of every zone.
    if (embedded.DOH_RESOLVERS && !this.given.DOMAIN_CONNECT_PROVIDERS) {
      embedded.DOMAIN_CONNECT_PROVIDERS = new URL(this.url(portOf('sandbox', PORT))).host;
      embedded.DOMAIN_CONNECT_KEY_FILE = join(this.directory, 'domain-connect-key.pem');
      embedded.DOMAIN_CONNECT_LOOPBACK = 'true';
    }
    return { sandbox: Object.keys(embedded).length > 0, embedded };
  }

  /** @param port that of the server which has ended, since everything is connected to it; absent: a free one. */
  private async startPostgres(home: string, port?: number): Promise<EmbeddedPostgres> {
    const postgres = await (this.postgres = startEmbeddedPostgres(home, {}, port));
    void postgres.ended.then(() =>
      this.startAgain('PostgreSQL', 'PostgreSQL ended unexpectedly.', () => this.startPostgres(home, postgres.port)),
    );
    return postgres;
  }

  /** Starts a process again that has ended, for as long as that takes. All others go on meanwhile. */
  private async startAgain(name: string, reason: string, start: () => Promise<unknown>): Promise<void> {
    const backOff = this.restarts.get(name) ?? new RestartBackOff();
    this.restarts.set(name, backOff);
    const { signal } = this.interrupted;
    for (let why = reason; !signal.aborted;) {
      const again = backOff.ended();
      say(`${why}\n${name}: ${startingAgain(again)}.`);
      try {
        await delay(again.waitMs, undefined, { signal });
        await start();
        say(`${name} is ready again.`);
        return;
      } catch (error) {
        why = (error as Error).message;
      }
    }
  }

  private async startNodeAgain(node: number): Promise<void> {
    const kafka = await this.kafka!;
    // One that was not ready in time still runs.
    await kafka.kill(node);
    await kafka.startNode(node);
  }

  /** @returns the brokers, as the setting `KAFKA_BROKERS`. */
  private async startKafka(nodes: 1 | 3): Promise<string> {
    const since = performance.now();
    const home = join(this.directory, 'kafka');
    const { startKafka } = await import('./embedded-kafka.js');
    const { brokers } = await (this.kafka = startKafka({
      directory: home,
      nodes,
      firstPort: this.settings.PORT + kafkaPort,
      say,
      nodeEnded: (node, reason) =>
        void this.startAgain(nodes === 1 ? 'Kafka' : `Kafka node ${node}`, reason, () => this.startNodeAgain(node)),
      signal: this.interrupted.signal,
    }));
    progress('Kafka', since, `embedded, ${brokers.join(',')}, its data in ${shown(home)}`);
    return brokers.join(',');
  }

  private async portsAreFree(names: readonly Parameters<typeof portOf>[0][], waitMs: number): Promise<void> {
    const { PORT, HOST } = this.settings;
    const needed = [
      ...names.map((name) => ({ name, port: portOf(name, PORT), host: HOST })),
      ...Array.from({ length: 2 * (this.kafkaNodes ?? 0) }, (_, index) => ({
        name: 'Kafka',
        port: PORT + kafkaPort + index,
        host: '127.0.0.1',
      })),
    ];
    const deadline = Date.now() + waitMs;
    for (const { name, port, host } of needed) {
      for (let fault = await portFault(port, host); fault;) {
        if (Date.now() < deadline && fault === 'EADDRINUSE') {
          await delay(100);
          fault = await portFault(port, host);
          continue;
        }
        const why = fault === 'EADDRINUSE' ? 'is in use' : `cannot be opened on ${host} (${fault})`;
        throw new Error(`Port ${port}, which ${name} needs, ${why}. Choose others, such as: PORT=4000 make start`);
      }
    }
  }

  /** Starts the process of the apps; resolves when all of them are ready. */
  private async startApps(names: readonly AppName[], sandbox: boolean): Promise<void> {
    // After an interruption nothing more is started.
    await this.ending;
    const since = performance.now();
    this.process = new AppProcess({
      name: 'all-in-one',
      main: resolve(__dirname, 'all-in-one.js'),
      args: sandbox ? ['sandbox'] : [],
      apps: new Map(names.map((name) => [name, this.url(portOf(name, this.settings.PORT))])),
      env: this.env,
      logDirectory: join(this.directory, 'logs'),
      say,
      onReady: (name, url) => progress(name, since, url),
    });
    await this.process.start();
  }

  private sayWhatNext(isNewKey: boolean, sandbox: boolean): void {
    const { PORT } = this.settings;
    const file = shown(this.keyFile);
    const api = `${this.url(PORT)}/api/v1`;
    say(`
  Console   ${this.url(PORT)}   (sign in with the API key)
  API       ${api}   (to read: ${api}/docs)
  API key   ${isNewKey ? `${readFileSync(this.keyFile, 'utf8').trim()}   (kept in ${file})` : `in ${file}`}
  Logs      ${shown(join(this.directory, 'logs'))}/; warnings are shown here
${this.env.KAFKA_BROKERS ? `  Kafka     ${this.env.KAFKA_BROKERS}   (topic ${this.settings.KAFKA_TOPIC})\n` : ''}${sandbox ? `  Sandbox   ${this.url(portOf('sandbox', PORT))}   (zone, caught mails, faults)\n` : ''}
Try, in another terminal (README.md has the whole tour):
  KEY=$(cat ${file})
  curl ${api}/domains -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{"domain":"mail.acme.com"}'
`);
  }

  /**
   * Stops the apps, then Kafka, which they use, and the database last. A second call waits for the first.
   */
  end(status: number, reason?: string): Promise<never> {
    this.ending ??= (async () => {
      this.interrupted.abort();
      if (reason) process.stderr.write(`${reason}\n`);
      if (this.process) say('\nStopping …');
      await this.process?.stop();
      await this.kafka?.then(
        (kafka) => kafka.stop(),
        () => undefined, // it never started
      );
      await this.postgres?.then(
        (postgres) => postgres.stop(),
        () => undefined, // it never started
      );
      if (this.release) rmSync(embeddedSettingsFile(this.directory), { force: true });
      this.release?.();
      if (this.process) say(`Stopped. The data is in ${shown(this.directory)}; \`make start\` goes on with it.`);
      process.exit(status);
    })();
    return this.ending;
  }

  /** Ends at once, without waiting for any process; the database recovers at the next start. */
  force(): never {
    this.process?.kill();
    if (this.release) rmSync(embeddedSettingsFile(this.directory), { force: true });
    this.release?.();
    // Kafka and the database stop when this process ends.
    process.exit(1);
  }
}

/** The files in the data directory, which has what they encrypt, with the keys of these settings. */
const keyRings = { WEBHOOK_SECRET_KEYS: 'webhook-secret-keys', PERSONAL_DATA_KEYS: 'personal-data-keys' } as const;

/** Gives the keys in a file, which is made where there is none. */
function keyRingIn(file: string): string {
  if (!existsSync(file)) writePrivateFile(file, `local=${randomBytes(32).toString('base64')}\n`);
  return readFileSync(file, 'utf8').trim();
}

/** @throws {Error} for any number but 0, 1 and 3. */
function kafkaNodesOf(asked = '0'): 1 | 3 | undefined {
  if (asked === '0') return undefined;
  const nodes = Number(asked);
  if (nodes === 1 || nodes === 3) return nodes;
  throw new Error(`KAFKA is ${asked}: it must be 1 or 3, the nodes of an embedded Kafka.`);
}

/** Gives the code of the error when the port cannot be opened. */
function portFault(port: number, host: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
    probe.listen(port, host, () => probe.close(() => resolve(undefined)));
  });
}

async function main(): Promise<void> {
  let launcher: Launcher | undefined;
  try {
    launcher = new Launcher();
    const interrupted = interruptions(launcher);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupted);
    await launcher.start();
  } catch (error) {
    const { message } = error as Error;
    const reason = error instanceof SettingsInvalid ? message : `It cannot start. ${message}`;
    if (launcher) await launcher.end(1, reason);
    process.stderr.write(`${reason}\n`);
    process.exit(1);
  }
}

/**
 * Handles signals: the first one stops in order, a later one at once. A terminal and make may both send the same
 * signal, so signals within 500 ms count as one.
 */
function interruptions(launcher: Launcher): () => void {
  let first: number | undefined;
  return () => {
    if (first !== undefined && performance.now() - first > 500) launcher.force();
    first ??= performance.now();
    void launcher.end(0);
  };
}

void main();
