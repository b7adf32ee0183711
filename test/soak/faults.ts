/** Makes faults by a seed, one at a time, with pauses in which everything is well. */
import { setTimeout as delay } from 'node:timers/promises';
import { openClient } from '@app/database';
import type { AppName, System } from '../support/processes';
import type { MoodyEndpoints, Mood } from './endpoints';
import { ownName } from './samples';

/** Seconds that a fault and a pause last, at least and at most. */
const faultS = [2, 12] as const;
const pauseS = [6, 18] as const;
/** Seconds for which a process is stopped: longer than some leases, shorter than what a supervisor waits. */
const stoppedS = [2, 9] as const;

interface Surroundings {
  readonly system: System;
  readonly endpoints: MoodyEndpoints;
  /** The apps that faults are made to. */
  readonly apps: readonly AppName[];
  /** Starts an app that was ended. */
  readonly start: (app: AppName) => Promise<void>;
  /** The URL of a database of the same server from which connections of others can be ended. */
  readonly adminUrl: string;
  /** Milliseconds for which a process lives at least before a fault ends it: its levels have to be seen. */
  readonly livesAtLeastMs: number;
  readonly random: () => number;
}

type Maker = (around: Surroundings, faults: Faults) => Promise<void>;

const between = (random: () => number, [least, most]: readonly [number, number]) =>
  1_000 * (least + random() * (most - least));
const oneOf = <T>(random: () => number, all: readonly T[]): T => all[Math.floor(random() * all.length)]!;

/** Ends the connections of the apps to a database; those of the soak itself go on. */
const endConnections = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
  WHERE datname = $1 AND application_name NOT IN ('${ownName}', '') AND pid <> pg_backend_pid()`;

const asAdmin = async (url: string, ...statements: (readonly [string, unknown[]?])[]): Promise<void> => {
  const admin = await openClient({ connectionString: url, application_name: ownName });
  try {
    for (const [text, values] of statements) await admin.query(text, values ?? []);
  } finally {
    await admin.end();
  }
};
const nameOf = (url: string) => new URL(url).pathname.slice(1);

const sandboxFault =
  (api: Parameters<System['sandbox']['fault']>[0], modes: readonly string[]): Maker =>
  async ({ system, random }, faults) => {
    const mode = oneOf(random, modes);
    faults.say(`${api}: ${mode}`);
    await system.sandbox.fault(api, { mode, after_ms: 1_500 });
    await delay(between(random, faultS));
    await system.sandbox.allWell();
  };

const endpointFault =
  (mood: Mood): Maker =>
  async ({ endpoints, random }, faults) => {
    faults.say(`endpoints: ${mood}`);
    endpoints.mood = mood;
    await delay(between(random, faultS));
    endpoints.mood = 'take';
  };

const makers: Readonly<Record<string, Maker>> = {
  killed: async (around, faults) => {
    const app = faults.oldEnough();
    if (!app) return;
    faults.say(`${app}: killed`);
    faults.interruptions += 1;
    await around.system.kill(app);
    await around.start(app);
  },

  restarted: async (around, faults) => {
    const app = faults.oldEnough();
    if (!app) return;
    faults.say(`${app}: restarted`);
    const status = await around.system.stop(app);
    // It ends by the signal that it was sent, so that it has no status.
    if (status !== null) faults.found.push(`${app} has ended with ${status} after SIGTERM`);
    await around.start(app);
  },

  stopped: async ({ system, apps, random }, faults) => {
    const app = oneOf(random, apps);
    const child = system.processOf(app);
    if (!child?.pid || !system.runs(app)) return;
    faults.say(`${app}: stopped for a while`);
    // Its leases may end meanwhile, and others do the same.
    faults.interruptions += 1;
    process.kill(child.pid, 'SIGSTOP');
    try {
      await delay(between(random, stoppedS));
    } finally {
      process.kill(child.pid, 'SIGCONT');
    }
  },

  'backends ended': async ({ system, adminUrl }, faults) => {
    faults.say('PostgreSQL: backends ended');
    faults.interruptions += 1;
    await asAdmin(adminUrl, [endConnections, [nameOf(system.databaseUrl)]]);
  },

  'mail database away': async ({ system, adminUrl, random }, faults) => {
    faults.say('the mail server’s database: away');
    const name = nameOf(system.mailServerDatabaseUrl);
    await asAdmin(adminUrl, [`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`], [endConnections, [name]]);
    try {
      await delay(between(random, faultS));
    } finally {
      await asAdmin(adminUrl, [`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`]).catch(() =>
        // A busy machine may not have connected in time, and the fault must not outlast itself.
        asAdmin(adminUrl, [`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`]),
      );
    }
  },

  SES: sandboxFault('ses', ['throttle', 'error', 'late', 'hang', 'garbage', 'hang_after', 'act_late']),
  // One resolver at a time: where both lie, nobody can tell.
  'DoH a': sandboxFault('doh-a', ['servfail', 'refused', 'nxdomain', 'lie', 'garbage', 'http_500', 'late', 'hang']),
  'DoH b': sandboxFault('doh-b', ['servfail', 'refused', 'nxdomain', 'lie', 'garbage', 'http_500', 'late', 'hang']),
  // What is refused for good is told to nobody, and rightly so.
  SMTP: async (around, faults) => {
    // A mail that was taken and whose answer was lost is sent again.
    faults.interruptions += 1;
    await sandboxFault('smtp', ['tempfail', 'hang', 'hang_up_after'])(around, faults);
  },
  'endpoints hang': endpointFault('hang'),
  'endpoints refuse': endpointFault('refuse'),
};

/** The faults of one run. */
export class Faults {
  /** What the faults have brought to light by themselves. */
  readonly found: string[] = [];
  readonly made = new Map<string, number>();
  /** Faults after which something may come twice. */
  interruptions = 0;
  private readonly startedAt = new Map<AppName, number>();
  private readonly over = new AbortController();
  private running: Promise<void> | undefined;

  constructor(
    private readonly around: Surroundings,
    private readonly onFault: (text: string) => void,
  ) {}

  begin(): void {
    for (const app of this.around.apps) this.startedAt.set(app, performance.now());
    this.running = this.run();
  }

  /** Lets the last fault come to its end. */
  async end(): Promise<void> {
    this.over.abort();
    await this.running;
  }

  say(text: string): void {
    const kind = text.replace(/^.*: (killed|restarted|stopped for a while)$/, '$1');
    this.made.set(kind, (this.made.get(kind) ?? 0) + 1);
    this.onFault(text);
  }

  /** Chooses an app that has run for long enough that its levels were seen; undefined where none has. */
  oldEnough(): AppName | undefined {
    const { apps, livesAtLeastMs, random } = this.around;
    const old = apps.filter((app) => performance.now() - this.startedAt.get(app)! > livesAtLeastMs);
    if (old.length === 0) return undefined;
    const app = oneOf(random, old);
    this.startedAt.set(app, performance.now());
    return app;
  }

  private async run(): Promise<void> {
    const { random } = this.around;
    const names = Object.keys(makers);
    while (!this.over.signal.aborted) {
      await delay(between(random, pauseS), undefined, { signal: this.over.signal }).catch(() => undefined);
      if (this.over.signal.aborted) return;
      const name = oneOf(random, names);
      try {
        await makers[name]!(this.around, this);
      } catch (error) {
        this.found.push(`the fault "${name}": ${(error as Error).message}`);
      }
    }
  }
}
