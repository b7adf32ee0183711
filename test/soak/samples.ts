/** Measures what an installation holds: each process, PostgreSQL, each table, and the files. */
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { openPool } from '@app/database';
import { portOf } from '@app/runtime';
import type { Pool } from 'pg';
import { cpuMs, residentMiB } from '../../bench/process-figures';
import type { AppName, System } from '../support/processes';
import type { Held } from './in-app';

/** What was measured at one moment, by the names of the series. */
export interface Sample {
  /** Seconds since the beginning of the run. */
  readonly at: number;
  /** The process of each app: a level is that of one process. */
  readonly pids: Readonly<Record<string, number>>;
  readonly values: Readonly<Record<string, number>>;
}

/** What the connections of the soak itself are called, which are not those of the apps. */
export const ownName = 'soak';

const mib = 1_048_576;
/** The number of samples in one of which the processes are asked what they hold: it costs them a full collection. */
const askedEach = 3;
/** Milliseconds for which a process may take to answer; one that is paused by a fault does not. */
const answerWithinMs = 4_000;

/** Gives what is open in a process; undefined once it has ended. */
function openFiles(pid: number): { readonly all: number; readonly sockets: number } | undefined {
  try {
    const all = readdirSync(`/proc/${pid}/fd`);
    const targets = all.map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return '';
      }
    });
    return { all: all.length, sockets: targets.filter((target) => target.startsWith('socket:')).length };
  } catch {
    return undefined;
  }
}

/** Counts the files below a folder, and their octets, but for logs, which are measured by themselves. */
function filesBelow(directory: string): { files: number; octets: number } {
  let [files, octets] = [0, 0];
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith('.log')) continue;
    files += 1;
    octets += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return { files, octets };
}

/** Gives what a metric without labels says, and how many lines all metrics have. */
function readMetrics(text: string) {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const value = (name: string) => Number(lines.find((line) => line.startsWith(`${name} `))?.split(' ')[1] ?? NaN);
  return { lines: lines.length, lagMs: 1_000 * value('nodejs_eventloop_lag_p99_seconds') };
}

/** Takes the samples of one run. */
export class Sampler {
  private readonly pool: Pool;
  private readonly mailServer: Pool;
  private taken = 0;
  private readonly cpuBefore = new Map<number, { at: number; ms: number }>();

  constructor(
    private readonly system: System,
    private readonly apps: readonly AppName[],
    private readonly begun: number,
    private readonly more: () => Record<string, number>,
  ) {
    const named = { application_name: ownName };
    this.pool = openPool(system.databaseUrl, 1, 30_000, named);
    this.mailServer = openPool(system.mailServerDatabaseUrl, 1, 30_000, named);
  }

  async end(): Promise<void> {
    await Promise.all([this.pool.end(), this.mailServer.end()]);
  }

  async take(): Promise<Sample> {
    const isAsked = this.taken++ % askedEach === 0;
    const at = Math.round((performance.now() - this.begun) / 100) / 10;
    const values: Record<string, number> = { ...this.more() };
    const pids: Record<string, number> = {};
    await Promise.all([
      ...this.apps.map(async (app) => {
        const child = this.system.processOf(app);
        if (!child?.pid || !this.system.runs(app)) return;
        pids[app] = child.pid;
        Object.assign(values, await this.ofProcess(app, child.pid, isAsked));
      }),
      // A database that a fault has taken away has no values.
      this.ofDatabase(values).catch(() => undefined),
      this.ofTables('mail', this.mailServer, values).catch(() => undefined),
    ]);
    this.ofFiles(values);
    values['the soak: load of the machine'] = loadavg()[0]!;
    values['the soak: rss MiB'] = process.memoryUsage.rss() / mib;
    return { at, pids, values };
  }

  private async ofProcess(app: AppName, pid: number, isAsked: boolean): Promise<Record<string, number>> {
    const values: Record<string, number> = {};
    const set = (what: string, value: number | undefined) => {
      if (value !== undefined && Number.isFinite(value)) values[`${app}: ${what}`] = value;
    };
    const [held, metrics] = await Promise.all([isAsked ? this.held(app) : undefined, this.metrics(app)]);
    try {
      set('rss MiB', residentMiB(pid));
    } catch {
      return {};
    }
    set('CPU ms/s', this.cpuSince(pid));
    set('open files', openFiles(pid)?.all);
    set('sockets', openFiles(pid)?.sockets);
    if (held) {
      set('heap MiB', held.heap / mib);
      set(
        'resources',
        Object.values(held.resources).reduce((sum, each) => sum + each, 0),
      );
    }
    if (metrics) {
      set('event-loop lag p99 ms', metrics.lagMs);
      set('lines of metrics', metrics.lines);
    }
    return values;
  }

  /** Asks an app what it holds; undefined where it does not answer in time. */
  private held(app: AppName): Promise<Held | undefined> {
    const child = this.system.processOf(app)!;
    return new Promise((done) => {
      const end = (held?: Held) => {
        clearTimeout(timer);
        child.off('message', end);
        done(held);
      };
      const timer = setTimeout(end, answerWithinMs);
      child.on('message', end);
      child.send('what do you hold?', (error) => error && end());
    });
  }

  private async metrics(app: AppName) {
    try {
      const url = `http://127.0.0.1:${portOf(app, this.system.port)}/metrics`;
      const answer = await fetch(url, { signal: AbortSignal.timeout(answerWithinMs) });
      return readMetrics(await answer.text());
    } catch {
      return undefined;
    }
  }

  private cpuSince(pid: number): number | undefined {
    const [now, ms] = [performance.now(), cpuMs(pid)];
    const before = this.cpuBefore.get(pid);
    this.cpuBefore.set(pid, { at: now, ms });
    return before && (1_000 * (ms - before.ms)) / (now - before.at);
  }

  private async ofDatabase(values: Record<string, number>): Promise<void> {
    const { rows: sessions } = await this.pool.query<{ app: string; connections: number }>(
      `SELECT application_name AS app, count(*)::int AS connections FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND datname = ANY ($1) GROUP BY 1`,
      [[this.system.databaseUrl, this.system.mailServerDatabaseUrl].map((url) => new URL(url).pathname.slice(1))],
    );
    for (const app of this.apps.filter((each) => each !== 'sandbox' && each !== 'sender-policy'))
      values[`postgres: connections of ${app}`] = sessions.find((each) => each.app === app)?.connections ?? 0;
    const { rows } = await this.pool.query<Record<string, number>>(
      `SELECT
         (SELECT count(*)::int FROM pg_locks WHERE NOT granted) AS "locks waited for",
         (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS "advisory locks",
         (SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8 FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend')
           AS "oldest transaction s",
         (SELECT count(*)::int FROM tasks) AS "tasks",
         (SELECT count(*)::int FROM tasks WHERE attempts > 0) AS "tasks that failed",
         (SELECT count(*)::int FROM tasks WHERE lease_until > now()) AS "leases of tasks",
         (SELECT count(*)::int FROM slots WHERE lease_until > now()) AS "leases of slots",
         (SELECT count(*)::int FROM webhook_lanes WHERE lease_until > now()) AS "held lanes",
         (SELECT count(*)::int FROM webhook_deliveries WHERE status = 'waiting') AS "waiting deliveries",
         (SELECT count(*)::int FROM domains WHERE status NOT IN ('rolled_back', 'deleted')) AS "living domains",
         (SELECT count(*)::int FROM mailboxes WHERE status <> 'deleted') AS "living mailboxes"`,
    );
    for (const [what, value] of Object.entries(rows[0]!)) values[`postgres: ${what}`] = value;
    await this.ofTables('service', this.pool, values);
  }

  /**
   * Counts the rows of each table, those that are there and those that are dead, and its octets with all indexes. The
   * partitions of the log are one table.
   */
  private async ofTables(whose: string, pool: Pool, values: Record<string, number>): Promise<void> {
    const { rows: tables } = await pool.query<{ name: string; dead: number; octets: number }>(
      `SELECT regexp_replace(relname, '^events_\\d+$', 'events') AS name, sum(n_dead_tup)::int AS dead,
         sum(pg_total_relation_size(relid))::float8 AS octets
       FROM pg_stat_user_tables GROUP BY 1`,
    );
    const each = tables.map(({ name }) => `SELECT '${name}' AS name, count(*)::int AS rows FROM "${name}"`);
    const { rows: counts } = await pool.query<{ name: string; rows: number }>(each.join(' UNION ALL '));
    for (const { name, rows } of counts) values[`${whose} table ${name}: rows`] = rows;
    for (const { name, dead, octets } of tables) {
      values[`${whose} table ${name}: dead rows`] = dead;
      values[`${whose} table ${name}: KiB`] = octets / 1_024;
    }
  }

  private ofFiles(values: Record<string, number>): void {
    const directory = this.system.settings.SENDMUX_DATA_DIR!;
    const { files, octets } = filesBelow(directory);
    values['data directory: files'] = files;
    values['data directory: KiB'] = octets / 1_024;
    for (const app of this.apps)
      values[`${app}: KiB of log`] =
        (statSync(join(directory, `${app}.log`), { throwIfNoEntry: false })?.size ?? 0) / 1_024;
  }
}
