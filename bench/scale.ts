/**
 * Compares a small installation with a large one: reads of one domain, lists, searches, the verification of the sealed
 * log and the rebuild of the table `domains`, with the memory of each process. All domains are of one team, and
 * verified. Requests go to two gateways in turn, one of each size; the result is the ratio of the medians. The memory
 * of a scheduler is in bench/cycle.ts.
 *
 *     node dist/bench/scale.js [--sizes 10000,1000000] [--runs 300]
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client } from 'undici';
import { Accounts } from '@app/accounts';
import { openPool } from '@app/database';
import { advanceCheckpoint } from '@app/messaging';
import { rebuild } from '@app/rebuild';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { migratedDatabase } from '../test/support/migrated-database';
import { numbers } from '../test/support/numbers';
import { startSystem, type AppName, type System } from '../test/support/processes';
import { quantile } from './figure';
import { processesOfApps, residentMiB, type AppProcess } from './process-figures';
import { fillLog, idOf } from './lives';
import { alone, seal, type Taken } from './log-passes';
import { showTableSizes } from './table-sizes';

const seed = 21;
const eventsADomain = 4;
const consumers = ['provisioning', 'notifier', 'webhooks'] as const;
const apps: readonly AppName[] = ['sandbox', 'gateway', 'sealer', ...consumers];

interface Installation {
  readonly url: string;
  readonly key: string;
  readonly domains: number;
  readonly events: number;
  readonly system: System;
  readonly http: Client;
  readonly processes: readonly AppProcess[];
}

const cursorOf = (id: string): string => Buffer.from(id).toString('base64url');

/** The requests, each with a path that differs from run to run. */
const requests: Readonly<Record<string, (domains: number, random: () => number) => string>> = {
  'one domain': (domains, random) => `/api/v1/domains/${idOf(Math.floor(random() * domains))}`,
  'list, its first page': () => '/api/v1/domains?limit=20',
  'list, a page within': (domains, random) =>
    `/api/v1/domains?limit=20&cursor=${cursorOf(idOf(Math.floor((0.1 + 0.9 * random()) * domains)))}`,
  'list, verified alone': () => '/api/v1/domains?limit=20&status=verified',
  // Names are `d` and eight digits of the number to the base of 36: the last ones differ most.
  'search, 4 characters': (domains, random) =>
    `/api/v1/domains?limit=20&name=${Math.floor(random() * domains)
      .toString(36)
      .padStart(8, '0')
      .slice(4)}`,
  'search, nobody has it': () => '/api/v1/domains?limit=20&name=qqqqq',
};

const count = (number: number): string => Math.round(number).toLocaleString('en');

async function install(domains: number): Promise<Installation> {
  const database = await migratedDatabase('service');
  const { url } = database;
  const pool = openPool(url, 1, 600_000);
  const accounts = new Accounts(pool);
  const team = await accounts.createTeam('Bench', ['ada@acme.example']);
  const { key } = await accounts.createKey(team.id, { role: 'root:full' });
  const { events, streams } = await fillLog(url, domains * eventsADomain, seed, [team.id], true);
  await seal(url);
  await rebuild(url, 'domains');
  await pool.query('VACUUM ANALYZE domains');
  for (const consumer of consumers) await advanceCheckpoint(pool, consumer, events);
  await pool.end();
  const known = new Set(processesOfApps().map(({ pid }) => pid));
  const system = await startSystem({ database, apps, env: { RATE_LIMIT_PER_MINUTE: '10000000', LOG_LEVEL: 'warn' } });
  const processes = processesOfApps().filter(({ pid }) => !known.has(pid));
  const http = new Client(`http://127.0.0.1:${system.port}`);
  return { url, key, domains: streams, events, system, http, processes };
}

/** Gives the milliseconds of a request. */
async function timeOf({ http, key }: Installation, path: string): Promise<number> {
  const begin = performance.now();
  const { statusCode, body } = await http.request({ method: 'GET', path, headers: { authorization: `Bearer ${key}` } });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`${path} answered ${statusCode}: ${text}`);
  return performance.now() - begin;
}

async function measureMemory(small: Installation, large: Installation): Promise<void> {
  // Timers of the apps, such as counts for metrics, have run at least once by then.
  await delay(30_000);
  console.log('\nresident memory in MiB');
  for (const { app, pid } of small.processes) {
    const [few, many] = [residentMiB(pid), residentMiB(large.processes.find((process) => process.app === app)!.pid)];
    if (app !== 'sandbox')
      console.log(
        `${app.padEnd(24)}${few.toFixed(0).padStart(8)}${many.toFixed(0).padStart(8)}${(many / few).toFixed(2).padStart(8)}`,
      );
  }
}

async function measureRequests(small: Installation, large: Installation, runs: number): Promise<void> {
  console.log('\nrequest                   ms at p50, p99     ms at p50, p99   ratio of the medians');
  for (const [name, pathOf] of Object.entries(requests)) {
    const random = numbers(seed);
    const [few, many] = [[] as number[], [] as number[]];
    for (let run = 0; run < runs + 20; run++) {
      const [small1, large1] = [
        await timeOf(small, pathOf(small.domains, random)),
        await timeOf(large, pathOf(large.domains, random)),
      ];
      // The first ones compile code and fill caches.
      if (run < 20) continue;
      few.push(small1);
      many.push(large1);
    }
    const shown = (taken: readonly number[]) =>
      `${quantile(taken, 0.5).toFixed(2).padStart(8)} ${quantile(taken, 0.99).toFixed(2).padStart(8)}`;
    console.log(
      `${name.padEnd(24)}${shown(few)}  ${shown(many)}   ${(quantile(many, 0.5) / quantile(few, 0.5)).toFixed(2)}`,
    );
  }
}

async function measurePasses(small: Installation, large: Installation): Promise<void> {
  console.log('\npass             events/s      events/s   ratio   peak MiB   peak MiB');
  for (const name of ['verify', 'rebuild'] as const) {
    // The small one runs before and after the large one, in case the machine is less busy at one of these times.
    const before = await alone(name, small.url);
    const many = await alone(name, large.url);
    const after = await alone(name, small.url);
    const rateOf = (events: number, { seconds }: Taken) => events / seconds;
    const few = (rateOf(small.events, before) + rateOf(small.events, after)) / 2;
    const rate = rateOf(large.events, many);
    console.log(
      `${name.padEnd(12)}${count(few).padStart(13)}${count(rate).padStart(14)}${(rate / few).toFixed(2).padStart(8)}` +
        `${String(before.peakMiB).padStart(11)}${String(many.peakMiB).padStart(11)}`,
    );
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { sizes: { type: 'string', default: '10000,1000000' }, runs: { type: 'string', default: '300' } },
  });
  const [few, many] = values.sizes.split(',').map(Number);
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  // A quarter of the memory, as the PostgreSQL manual recommends.
  const buffers = Math.round(totalmem() / 4 / 1_048_576);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'), { shared_buffers: `${buffers}MB` });
  process.env.TEST_DATABASE_URL = await server.database('postgres');
  const installed: Installation[] = [];
  try {
    for (const size of [few!, many!]) {
      const begin = performance.now();
      const one = await install(size);
      installed.push(one);
      console.log(
        `${count(one.domains)} domains with ${count(one.events)} events, made in ${((performance.now() - begin) / 1_000).toFixed(0)} s`,
      );
    }
    const [small, large] = installed as [Installation, Installation];
    console.log(
      `PostgreSQL 18 with shared_buffers of ${buffers} MB, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; ` +
        `${values.runs} runs of each request, seed ${seed}`,
    );
    // What the tables have from being filled is written back before anything is measured.
    const pool = openPool(process.env.TEST_DATABASE_URL, 1, 600_000);
    await pool.query('CHECKPOINT');
    await pool.end();
    const filled = openPool(large.url, 1, 600_000);
    await showTableSizes(filled, large.domains);
    await filled.end();
    await measureRequests(small, large, Number(values.runs));
    await measureMemory(small, large);
    await measurePasses(small, large);
  } finally {
    for (const { system, http } of installed) {
      await http.close();
      await system.end();
    }
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
