/**
 * Runs all apps for hours under a steady load, with faults by a seed, and says of everything that they hold whether it
 * stays. `docs/soak.md` says how it is used.
 */
import { appendFileSync, chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Logger } from '@nestjs/common';
import type { KafkaCluster } from '../../local/embedded-kafka';
import { startEmbeddedPostgres } from '../../local/embedded-postgres';
import { violated, type ObservedMail } from '../support/invariants';
import { testKafka } from '../support/kafka';
import { numbers } from '../support/numbers';
import { startSystem, type AppName, type System } from '../support/processes';
import { MoodyEndpoints } from './endpoints';
import { Faults } from './faults';
import { Load } from './load';
import { Sampler, type Sample } from './samples';
import { judged, requests, type JudgedSeries } from './series';
import { Time } from './time';
import { median } from './verdict';

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '120' },
    seed: { type: 'string', default: '23' },
    kafka: { type: 'boolean', default: false },
    calm: { type: 'boolean', default: false },
  },
});
const minutes = Number(options.minutes);
const seed = Number(options.seed);
const runMs = 60_000 * minutes;
const clamped = (value: number, least: number, most: number) => Math.min(most, Math.max(least, value));
/** Seconds in which caches fill and code is compiled. */
const warmUpS = clamped((60 * minutes) / 8, 60, 600);
const livesAtLeastMs = clamped(runMs / 3, 2_500 * warmUpS, 2_400_000);
const sampleEveryMs = 10_000;
const timePassesEveryMs = 20_000;
/** Milliseconds within which an installation comes to rest, once nothing is done to it any more. */
const restWithinMs = 240_000;
/** How often a start is tried: on a machine that is busy with other things, a connection may take too long. */
const mostStarts = 20;
const teams = 4;
const customers = 8;

const apps: readonly AppName[] = [
  'gateway',
  'provisioning',
  'verification-scheduler',
  'notifier',
  'webhooks',
  'sealer',
  'sender-policy',
  ...(options.kafka ? ['event-relay' as const] : []),
];
/** Times that are short enough that what begins and ends does so many times in a run. */
const times = {
  VERIFICATION_INTERVAL: '30s',
  UNVERIFIED_DOMAIN_EXPIRY: '3m',
  CLAIM_GRACE: '5s',
  SES_TIMEOUT: '3s',
  DOH_TIMEOUT: '2s',
  PROVISIONING_DEADLINE: '15s',
  AUDIT_SEAL_INTERVAL: '10s',
  RATE_LIMIT_PER_MINUTE: '6000',
};

const directory = resolve('test-results/soak');
const files = {
  samples: join(directory, `samples-${seed}.ndjson`),
  faults: join(directory, `faults-${seed}.txt`),
  figures: join(directory, `figures-${seed}.json`),
  logs: join(directory, `logs-${seed}`),
};
const say = (text: string) => process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  Logger.overrideLogger(false);
  mkdirSync(directory, { recursive: true });
  for (const file of Object.values(files)) rmSync(file, { recursive: true, force: true });
  const scratch = mkdtempSync(join(tmpdir(), 'sendmux-soak-'));
  chmodSync(scratch, 0o755);
  const server = await startEmbeddedPostgres(join(scratch, 'postgres'), {
    fsync: 'off',
    // What is dead is looked for each minute, in tables that are as small as these are here.
    autovacuum_naptime: '15s',
    max_connections: '300',
  });
  process.env.TEST_DATABASE_URL = await server.database('admin');
  const kafka: KafkaCluster | undefined = options.kafka ? await testKafka() : undefined;
  const inApp = join(__dirname, 'in-app.js');
  const system = await startSystem({
    apps: ['sandbox'],
    ...(kafka && { brokers: kafka.brokers }),
    env: { ...times, NODE_OPTIONS: `--expose-gc --require ${inApp}` },
  });
  try {
    return await new Soak(system, process.env.TEST_DATABASE_URL).run();
  } finally {
    await kafka?.destroy();
    await server.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

class Soak {
  private readonly found: string[] = [];
  private readonly samples: Sample[] = [];
  private readonly mails: ObservedMail[] = [];
  private readonly random = numbers(seed);
  private isOver = false;
  /** How much of what was found was said already. */
  private told = 0;

  constructor(
    private readonly system: System,
    private readonly adminUrl: string,
  ) {}

  async run(): Promise<number> {
    const endpoints = await MoodyEndpoints.open();
    const load = new Load(this.system, endpoints, seed);
    const time = new Time(this.system.databaseUrl);
    for (const app of apps) await this.start(app);
    await load.prepare(teams);
    const begun = performance.now();
    const faults = new Faults(
      {
        system: this.system,
        endpoints,
        apps,
        start: (app) => this.start(app),
        adminUrl: this.adminUrl,
        livesAtLeastMs,
        random: this.random,
      },
      (text) => appendFileSync(files.faults, `${((performance.now() - begun) / 1_000).toFixed(1)} s  ${text}\n`),
    );
    const sampler = new Sampler(this.system, [...apps, 'sandbox'], begun, () => ({ [requests]: load.requests }));
    say(`Seed ${seed}, ${minutes} minutes, ${customers} customers of ${teams} teams, ${apps.length} apps`);
    load.begin(customers);
    if (!options.calm) faults.begin();
    const loops = [
      this.each(sampleEveryMs, async () => this.keep(await sampler.take())),
      this.each(timePassesEveryMs, () => time.pass()),
      this.each(5_000, () => this.takeMails()),
      this.each(60_000, () => this.tell(load, faults)),
    ];
    await delay(runMs);

    say('The faults end, and the customers come to the end of what they do.');
    await faults.end();
    await this.system.sandbox.allWell();
    await load.end();
    this.isOver = true;
    await Promise.all(loops);
    await this.rest(time);
    await this.takeMails();
    const violations = await violated({
      databaseUrl: this.system.databaseUrl,
      mailServerUrl: this.system.mailServerDatabaseUrl,
      identities: await this.system.sandbox.identities(),
      mails: this.mails,
      received: new Map([...load.kept].map(([webhook, name]) => [webhook, endpoints.received.get(name)!])),
      acknowledged: load.acknowledged,
      // Whatever was under way when something was interrupted may come again.
      repeats: 20 * faults.interruptions,
    });
    await Promise.all([time.end(), sampler.end()]);
    endpoints.close();
    const series = judged(this.samples, warmUpS);
    const faultsFound = [...this.found, ...faults.found, ...load.faults, ...violations];
    this.report(series, load, endpoints, faults, faultsFound, (performance.now() - begun) / 60_000);
    const isWell = faultsFound.length === 0 && series.every(({ is }) => is !== 'grows');
    if (!isWell) this.keepLogs();
    await this.system.end();
    return isWell ? 0 : 1;
  }

  /**
   * Starts an app, again where it ends before it is ready: a process that finds no database says so and leaves the rest
   * to its supervisor, and databases are away here.
   */
  private async start(app: AppName): Promise<void> {
    for (let tries = 1; ; tries++)
      try {
        await this.system.start(app, { PGAPPNAME: app });
        break;
      } catch (error) {
        if (tries === mostStarts) throw error;
        await delay(1_000);
      }
    this.system.processOf(app)!.once('exit', (code, signal) => {
      if (this.isOver || signal === 'SIGKILL' || signal === 'SIGTERM') return;
      this.found.push(`${app} has ended by itself, with ${code ?? signal}`);
      void this.start(app).catch((error: Error) => this.found.push(`${app} does not start again: ${error.message}`));
    });
  }

  /** Does something again and again until the load has ended. What fails during a fault is done the next time. */
  private async each(everyMs: number, work: () => Promise<void> | void): Promise<void> {
    let failures = 0;
    for (let next = performance.now() + everyMs; !this.isOver; next = Math.max(next + everyMs, performance.now())) {
      while (!this.isOver && performance.now() < next)
        await delay(Math.min(1_000, Math.max(1, next - performance.now())));
      if (this.isOver) return;
      try {
        await work();
        failures = 0;
      } catch (error) {
        if (++failures === 5) this.found.push(`the soak itself: ${(error as Error).stack}`);
      }
    }
  }

  private keep(sample: Sample): void {
    this.samples.push(sample);
    appendFileSync(files.samples, `${JSON.stringify(sample)}\n`);
  }

  /** Takes the mails that have come, and has the sandbox forget them. */
  private async takeMails(): Promise<void> {
    const { sandbox } = this.system;
    const mails = await sandbox.mails();
    if (mails.length === 0) return;
    for (const { to, subject, messageId } of mails) this.mails.push({ to, subject, messageId });
    await sandbox.clearMails(Math.max(...mails.map(({ id }) => id)));
  }

  private tell(load: Load, faults: Faults): void {
    const { at, values }: Omit<Sample, 'pids'> = this.samples.at(-1) ?? { at: 0, values: {} };
    const heapOf = (app: AppName) =>
      this.samples.findLast(({ values }) => values[`${app}: heap MiB`] !== undefined)?.values[`${app}: heap MiB`];
    const heaps = apps.map((app) => `${app} ${heapOf(app)?.toFixed(1)}`).join(', ');
    const made = [...faults.made.values()].reduce((sum, each) => sum + each, 0);
    say(
      `${Math.round(at / 60)} min: ${load.requests} requests, ${values['service table events: rows']} events, ` +
        `${made} faults, ${values['postgres: living domains']} living domains, ` +
        `${values['postgres: tasks']} tasks, load ${loadavg()[0]!.toFixed(1)}; heaps in MiB: ${heaps}`,
    );
    for (const fault of [...this.found, ...faults.found, ...load.faults].slice(this.told)) say(`  FOUND ${fault}`);
    this.told = this.found.length + faults.found.length + load.faults.length;
  }

  /** Waits until nothing is left to be done. */
  private async rest(time: Time): Promise<void> {
    let atRest = 0;
    for (const giveUpAt = performance.now() + restWithinMs; atRest < 3; await delay(2_000)) {
      await time.endWaits().catch(() => undefined);
      const busy = await time.busy().catch((error: Error) => error.message);
      // A task may follow from one that has just ended, and what goes over Kafka is on no list.
      atRest = busy === '' ? atRest + 1 : 0;
      if (performance.now() > giveUpAt) {
        this.found.push(`The installation does not come to rest: ${busy}`);
        return;
      }
    }
  }

  private report(
    series: JudgedSeries[],
    load: Load,
    endpoints: MoodyEndpoints,
    faults: Faults,
    found: string[],
    lasted: number,
  ): void {
    const count = (counts: ReadonlyMap<string, number>) => Object.fromEntries([...counts].sort());
    const round = (value: number) => Number(value.toPrecision(4));
    const figures = {
      seed,
      minutes: round(lasted),
      node: process.version,
      kafka: options.kafka,
      samples: this.samples.length,
      load: round(median(this.samples.map(({ values }) => values['the soak: load of the machine']!))),
      requests: load.requests,
      events: this.samples.at(-1)?.values['service table events: rows'],
      messages: [...endpoints.received.values()].reduce((sum, { length }) => sum + length, 0),
      mails: this.mails.length,
      lives: count(load.lives),
      faults: count(faults.made),
      answers: count(load.answers),
      found,
      series: series.map(({ level, growth, allowed, ...rest }) => ({
        ...rest,
        level: round(level),
        growth: round(growth),
        allowed: round(allowed),
      })),
    };
    writeFileSync(files.figures, `${JSON.stringify(figures, undefined, 1)}\n`);
    say(`\nLives: ${JSON.stringify(figures.lives)}\nFaults: ${JSON.stringify(figures.faults)}`);
    for (const { name, is, per, level, growth, allowed } of figures.series.filter(({ is }) => is !== 'flat'))
      say(
        `  ${is.toUpperCase()} ${name}: ${level}${per ? ` for each ${per}` : ''}, by ${growth} (allowed: ${allowed})`,
      );
    for (const each of found) say(`  FOUND ${each}`);
    const of = (is: JudgedSeries['is']) => series.filter((each) => each.is === is).length;
    say(
      `Soak: seed ${seed}, ${lasted.toFixed(1)} minutes, ${load.requests} requests, ` +
        `${[...faults.made.values()].reduce((sum, each) => sum + each, 0)} faults; ${of('flat')} series are flat, ` +
        `${of('grows')} grow, ${of('too short')} were too short; ${found.length} faults were found`,
    );
  }

  private keepLogs(): void {
    mkdirSync(files.logs, { recursive: true });
    for (const app of [...apps, 'sandbox'])
      copyFileSync(join(this.system.settings.SENDMUX_DATA_DIR!, `${app}.log`), join(files.logs, `${app}.log`));
    say(`The logs are in ${files.logs}`);
  }
}

void main().then(
  (status) => process.exit(status),
  (error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
