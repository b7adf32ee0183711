/**
 * Measures what one operation costs an installation: the CPU of each process, the queries, rows and bytes of
 * PostgreSQL, and the calls of SES. All apps run as processes of their own against the sandbox; each operation is done
 * for so many domains, and what is idle in the same time is subtracted. docs/scale.md computes machines from the
 * figures.
 *
 *     node dist/bench/unit-costs.js [--domains 300]
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openPool } from '@app/database';
import type { Pool } from 'pg';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../local/embedded-postgres';
import { allApps, startSystem, type Answer, type AppName, type System } from '../test/support/processes';
import { WebhookReceiver } from '../test/support/webhook-receiver';
import { showTableSizes } from './table-sizes';
import { cpuMs, cpuMsOfServer, processesOfApps } from './process-figures';
import { inLanes } from './healthy-domains';

const apps: readonly AppName[] = [...allApps, 'sealer', 'webhooks'];
const counted = apps.filter((app) => app !== 'sandbox');
/** Operations under way at the same time. */
const lanes = 8;
/** Milliseconds between two looks at a domain, while looks are measured. */
const interval = 20_000;

/** What has been used up to a moment. */
interface Used {
  readonly at: number;
  /** CPU milliseconds of each process; `postgres` is all of its processes. */
  readonly cpu: Readonly<Record<string, number>>;
  readonly statements: number;
  readonly rows: number;
  readonly walBytes: number;
  readonly sesCalls: number;
}

/** Reads the CPU time of the apps and of PostgreSQL. */
const cpuTimes = (postgres: number): Record<string, number> => ({
  postgres: cpuMsOfServer(postgres),
  ...Object.fromEntries(processesOfApps().map(({ app, pid }) => [app, cpuMs(pid)])),
});

/** Counts what an operation uses. */
class Meter {
  private idle: Used | undefined;

  constructor(
    private readonly system: System,
    private readonly pool: Pool,
    private readonly postgres: number,
  ) {}

  /** Measures a time in which nothing is asked, which is subtracted from then on. */
  async rest(ms: number): Promise<void> {
    const before = await this.used();
    await delay(ms);
    this.idle = difference(before, await this.used());
  }

  async during(name: string, times: number, work: () => Promise<void>): Promise<void> {
    const before = await this.used();
    await work();
    this.show(name, times, difference(before, await this.used()));
  }

  private show(name: string, times: number, spent: Used): void {
    const share = this.idle ? spent.at / this.idle.at : 0;
    const each = (of: (used: Used) => number) =>
      Math.max(0, of(spent) - share * (this.idle ? of(this.idle) : 0)) / times;
    const cells = [
      ...['postgres', ...counted].map((app) => each(({ cpu }) => cpu[app] ?? 0).toFixed(2)),
      each(({ statements }) => statements).toFixed(1),
      each(({ rows }) => rows).toFixed(1),
      (each(({ walBytes }) => walBytes) / 1_024).toFixed(1),
      each(({ sesCalls }) => sesCalls).toFixed(2),
    ];
    console.log(`| ${name} | ${cells.join(' | ')} |`);
  }

  private async used(): Promise<Used> {
    // A backend reports its statistics at most once a second, and when it is idle for longer than that.
    await delay(2_500);
    const { rows } = await this.pool.query<Record<'statements' | 'rows' | 'wal', string>>(
      `SELECT (SELECT sum(calls) FROM pg_stat_statements WHERE query !~ 'pg_stat_') AS statements,
              (SELECT sum(tup_inserted + tup_updated + tup_deleted) FROM pg_stat_database) AS rows,
              pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS wal`,
    );
    return {
      at: performance.now(),
      cpu: cpuTimes(this.postgres),
      statements: Number(rows[0]!.statements),
      rows: Number(rows[0]!.rows),
      walBytes: Number(rows[0]!.wal),
      sesCalls: (await this.system.sandbox.sesCalls()).length,
    };
  }
}

const difference = (before: Used, after: Used): Used => ({
  at: after.at - before.at,
  cpu: Object.fromEntries(Object.entries(after.cpu).map(([app, ms]) => [app, ms - (before.cpu[app] ?? 0)])),
  statements: after.statements - before.statements,
  rows: after.rows - before.rows,
  walBytes: after.walBytes - before.walBytes,
  sesCalls: after.sesCalls - before.sesCalls,
});

async function measure(server: EmbeddedPostgres, domains: number): Promise<void> {
  process.env.TEST_DATABASE_URL = await server.database('postgres');
  const env = { RATE_LIMIT_PER_MINUTE: '10000000', SES_CALLS_PER_SECOND: '1000', LOG_LEVEL: 'info' };
  const system = await startSystem({ apps, env });
  const receiver = await WebhookReceiver.open();
  const pool = openPool(system.databaseUrl, 1);
  try {
    await pool.query('CREATE EXTENSION pg_stat_statements');
    const { api } = await system.team();
    const expected = (status: number, answer: Answer) => {
      if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
      return answer.body as { data: { id: string } };
    };
    // The first ones compile code and fill caches.
    for (let i = 0; i < 30; i++) {
      const body = expected(201, await api.add(`warm${i}.example.com`));
      await system.sandbox.place(body);
      expected(200, await api.verify(body.data.id));
      expected(200, await api.delete(body.data.id));
    }
    const meter = new Meter(system, pool, server.pid);
    await meter.rest(15_000);
    console.log(`| operation | ${['postgres', ...counted].join(' | ')} | statements | rows | WAL KiB | SES calls |`);
    console.log(`|---${'|---:'.repeat(counted.length + 5)}|`);
    const numbers = Array.from({ length: domains }, (_, i) => i);
    const added: { id: string; body: unknown }[] = [];
    await meter.during('add', domains, () =>
      inLanes(numbers, lanes, async (i) => {
        const body = expected(201, await api.add(`d${i}.example.com`));
        added.push({ id: body.data.id, body });
      }),
    );
    await inLanes(added, lanes, async ({ body }) => void (await system.sandbox.place(body)));
    await meter.during('verify', domains, () =>
      inLanes(added, lanes, async ({ id }) => void expected(200, await api.verify(id))),
    );
    await showTableSizes(pool, domains);
    console.log();
    await meter.during('GET', domains * 10, () =>
      inLanes(
        [...Array(10).keys()].flatMap(() => added),
        lanes,
        async ({ id }) => void expected(200, await api.get(id)),
      ),
    );
    await meter.during('list of 20', domains, () =>
      inLanes(numbers, lanes, async () => void expected(200, await api.list('?limit=20'))),
    );
    const hook = expected(201, await api.call('POST', '/webhooks', { url: receiver.url }));
    await meter.during('verify again, with a webhook', domains, () =>
      inLanes(added, lanes, async ({ id }) => void expected(200, await api.verify(id))),
    );
    expected(200, await api.call('DELETE', `/webhooks/${hook.data.id}`));
    await system.stop('verification-scheduler');
    await system.start('verification-scheduler', { VERIFICATION_INTERVAL: `${interval / 1_000}s` });
    await delay(interval);
    await meter.during('scheduled look', domains * 3, () => delay(3 * interval));
    await system.stop('verification-scheduler');
    await system.start('verification-scheduler');
    await meter.during('delete', domains, () =>
      inLanes(added, lanes, async ({ id }) => void expected(200, await api.delete(id))),
    );
  } finally {
    receiver.close();
    await pool.end();
    await system.end();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { domains: { type: 'string', default: '300' } } });
  const domains = Number(values.domains);
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'), {
    shared_preload_libraries: 'pg_stat_statements',
  });
  try {
    console.log(
      `PostgreSQL 18, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; ${domains} domains, ` +
        `${lanes} operations at a time\nCPU milliseconds of each process for one operation:\n`,
    );
    await measure(server, domains);
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
