/**
 * Compares reads and adds of domains by the gateway with a bare Fastify server, which sends the same SQL through `pg`
 * and gives the same answers (`bare-server.ts`). Each server is a process of its own, with a database of its own in one
 * embedded PostgreSQL. They are loaded in turn, one at a time. Each ratio is of one round, and there are two: that of
 * the requests a second, and that of the CPU time that the process of the server takes for a request, which what else
 * runs on the machine changes less. `statements` are the transactions of a request, as PostgreSQL counts them.
 *
 * The gateway's POST answers after a stand-in for provisioning, in the same process, has received `DomainAdded` from
 * the log and recorded `DomainProvisioned`. The bare handler runs the same two transactions in sequence and receives no
 * events.
 *
 * Two gateways that are equal, each on a database of its own, are compared as well: what they differ by is the error of
 * the other figures. Another one traces, on the same database, with one trace of a hundred sampled and exported.
 *
 *     node dist/bench/http.js [--rounds 5] [--seconds 3] [--connections 32] [--profile folder]
 *
 * Each server writes a profile of its CPU time into the folder of `--profile`, where that is given, when it ends.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import type { Pool } from 'pg';
import { migrate, openPool } from '@app/database';
import { startTracing } from '@app/tracing';
import { serviceTables } from '../apps/cli/migrations';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { spawnWithParent } from '../local/spawn-with-parent';
import { startGateway } from '../test/support/gateway';
import { serveBare, type Serving } from './bare-server';
import { median, report } from './figure';
import { cpuMs } from './process-figures';

/** A server as this process loads it. */
interface Server extends Serving {
  readonly child: ChildProcess;
  /** A connection to its database. */
  readonly pool: Pool;
}

/** How many domains a list has. */
const listed = 20;

/** @param collector that gets the spans of one request of a hundred; nothing is traced when absent. */
async function serveGateway(url: string, collector?: string): Promise<Serving> {
  if (collector) await traceTo(collector);
  const traces = collector ? { continuesOthers: true } : undefined;
  const gateway = await startGateway(url, { LOG_LEVEL: 'warn' as 'silent' }, undefined, undefined, traces);
  const { key } = await gateway.key({ role: 'root:full' });
  return { origin: await gateway.app.getUrl(), key };
}

/** Opens a collector that forgets what it gets, and gives its URL. */
async function openCollector(): Promise<string> {
  const collector = createServer((request, response) => request.resume().on('end', () => response.end()));
  collector.unref().listen(0, '127.0.0.1');
  await once(collector, 'listening');
  return `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
}

async function traceTo(collector: string): Promise<void> {
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector;
  await startTracing({
    service: 'bench',
    sampler: 'parentbased_traceidratio',
    ratio: 0.01,
    exportEveryMs: 5_000,
    mostWaiting: 2_048,
    failed: (reason) => console.log(`  (spans are lost: ${reason})`),
  });
}

async function inOwnProcess(
  kind: 'bare' | 'gateway',
  url: string,
  { collector, key, profile }: { collector?: string; key?: string; profile?: string | undefined },
): Promise<Server> {
  const profiling = profile === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', profile];
  const more = collector === undefined ? [] : ['--collector', collector];
  const child = spawnWithParent([...profiling, __filename, '--serve', kind, '--url', url, ...more], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = once(child, 'exit').then(([status]) => {
    throw new Error(`The ${kind} server ended with ${status}.`);
  });
  const [serving] = (await Promise.race([once(child, 'message'), ended])) as [Serving];
  ended.catch(() => undefined);
  return { ...serving, ...(key !== undefined && { key }), child, pool: openPool(url, 1) };
}

async function end({ child, pool }: Server): Promise<void> {
  await pool.end();
  const exit = once(child, 'exit');
  child.send('end');
  await exit;
}

/** Requests that are made again and again: each connection takes the paths in turn. */
interface Requests {
  readonly method: 'GET' | 'POST';
  readonly paths: readonly string[];
}

interface Load {
  readonly seconds: number;
  readonly connections: number;
}

/** What a server has done under load: answers a second, and microseconds of its CPU and transactions for each. */
interface Measured {
  readonly rate: number;
  readonly cpuUs: number;
  readonly statements: number;
}

let names = 0;

/** Measures answers of the expected status. Says how many had another one, which may happen on a busy machine. */
async function load(server: Server, { method, paths }: Requests, { seconds, connections }: Load): Promise<Measured> {
  const { origin, key, child, pool } = server;
  const transactions = await countTransactions(pool);
  const cpu = cpuMs(child.pid!);
  const result = await autocannon({
    url: origin,
    connections,
    duration: seconds,
    headers: { authorization: `Bearer ${key}`, ...(method === 'POST' && { 'content-type': 'application/json' }) },
    requests: paths.map((path) => ({
      method,
      path,
      ...(method === 'POST' && {
        setupRequest: (request) => ({ ...request, body: JSON.stringify({ domain: `b${++names}.acme.com` }) }),
      }),
    })),
  });
  const answers = result['2xx'];
  if (answers === 0) throw new Error(`${paths[0]}: ${result.non2xx} other statuses, ${result.errors} errors`);
  if (result.non2xx > 0 || result.errors > 0)
    console.log(`  (${method} ${paths[0]}: ${result.non2xx} other statuses, ${result.errors} errors)`);
  return {
    rate: answers / result.duration,
    cpuUs: ((cpuMs(child.pid!) - cpu) * 1_000) / answers,
    statements: ((await countTransactions(pool)) - transactions) / answers,
  };
}

/** Counts the transactions of a database. A connection reports its own once it has been idle for a moment. */
async function countTransactions(pool: Pool): Promise<number> {
  await delay(100);
  const { rows } = await pool.query<{ committed: number }>(
    'SELECT xact_commit::float8 AS committed FROM pg_stat_database WHERE datname = current_database()',
  );
  return rows[0]!.committed;
}

const medianOf = (all: readonly Measured[], figure: keyof Measured): number => median(all.map((one) => one[figure]));

/**
 * Loads two servers in turn, and prints a line of what they do, and of the ratios of all rounds.
 *
 * @param to what the second one is compared with, for the name of the figures.
 */
async function compare(
  what: string,
  to: string,
  of: readonly [Server, Server],
  requests: readonly Requests[],
  rounds: number,
  how: Load,
) {
  const [theirs, ours]: [Measured[], Measured[]] = [[], []];
  for (let round = -1; round < rounds; round++) {
    const measured: Measured[] = [];
    // The order changes every round, so that neither always has the less busy machine.
    for (const i of round % 2 ? [1, 0] : [0, 1]) measured[i] = await load(of[i]!, requests[i]!, how);
    // The first one warms up.
    if (round < 0) continue;
    theirs.push(measured[0]!);
    ours.push(measured[1]!);
  }
  const cells = (figure: keyof Measured, digits: number, ratio?: (own: number, other: number) => number) => {
    const [their, our] = [medianOf(theirs, figure), medianOf(ours, figure)].map((each) => each.toFixed(digits));
    const ratios = ratio && ours.map((one, i) => ratio(one[figure], theirs[i]![figure]));
    const said = ratios && report(`${what}, ${figure === 'rate' ? 'requests' : 'CPU'}, ${to}`, ratios);
    return `${their!.padStart(7)} ${our!.padStart(7)}${said ? ` ${said}` : ''}`;
  };
  console.log(
    [
      what.padEnd(18),
      cells('rate', 0, (own, other) => own / other),
      cells('cpuUs', 0, (own, other) => other / own),
      cells('statements', 2),
    ].join(' | '),
  );
}

/** Adds one domain more than a list has, and gives their ids. */
async function addSome({ origin, key }: Serving): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length <= listed) {
    const answer = await fetch(`${origin}/api/v1/domains`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ domain: `mail${ids.length}.acme.com` }),
    });
    ids.push(((await answer.json()) as { data: { id: string } }).data.id);
  }
  return ids;
}

/** Compares the data of two answers, whose values may differ where they say an id or a time. */
async function assertSameAnswers(servers: readonly Serving[], paths: readonly string[]): Promise<void> {
  const bodies = await Promise.all(
    servers.map(async ({ origin, key }, i) => {
      const answer = await fetch(origin + paths[i]!, { headers: { authorization: `Bearer ${key}` } });
      return (await answer.text()).replace(/\b\d{4}-\d\d-[\dT:Z-]+|\b(mdom|req|team)_\w+|(?<=cursor":")[\w-]+/g, '…');
    }),
  );
  if (bodies[0] !== bodies[1]) throw new Error(`The answers differ:\n${bodies.join('\n')}`);
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      serve: text,
      url: text,
      collector: text,
      rounds: { ...text, default: '5' },
      seconds: { ...text, default: '3' },
      connections: { ...text, default: '32' },
      profile: text,
    },
  });
  if (values.serve) {
    const { serve, url, collector } = values;
    process.once('message', () => process.exit());
    process.send!(await (serve === 'bare' ? serveBare(url!) : serveGateway(url!, collector)));
    return;
  }
  const { profile } = values;
  const rounds = Number(values.rounds);
  const how: Load = { seconds: Number(values.seconds), connections: Number(values.connections) };
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const postgres = await startEmbeddedPostgres(join(directory, 'postgres'));
  const servers: Server[] = [];
  const open = async (...how: Parameters<typeof inOwnProcess>): Promise<Server> => {
    const server = await inOwnProcess(...how);
    servers.push(server);
    return server;
  };
  try {
    const urls: string[] = [];
    for (const name of ['bare', 'gateway', 'twin']) urls.push(await postgres.database(name));
    for (const url of urls) await migrate(url, serviceTables);
    const bare = await open('bare', urls[0]!, { profile });
    const gateway = await open('gateway', urls[1]!, { profile });
    const all = [bare, gateway];
    const ids: string[][] = [];
    for (const server of all) ids.push(await addSome(server));
    console.log(
      `PostgreSQL 18, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; ` +
        `${how.connections} connections, medians of ${rounds} rounds of ${how.seconds} s\n`,
    );
    const get = (ofServer: readonly string[]): Requests => ({
      method: 'GET',
      paths: ofServer.map((id) => `/api/v1/domains/${id}`),
    });
    const list: Requests = { method: 'GET', paths: [`/api/v1/domains?limit=${listed}`] };
    const post: Requests = { method: 'POST', paths: ['/api/v1/domains'] };
    const gets = ids.map(get);
    for (const requests of [gets, [list, list]])
      await assertSameAnswers(
        all,
        requests.map(({ paths }) => paths[0]!),
      );
    const title = (theirs: string, ours: string) =>
      console.log(
        `\n${''.padEnd(18)} | requests a second: ${theirs}, ${ours}, ratio | CPU µs a request, likewise | statements`,
      );
    title('bare', 'gateway');
    await compare('GET one', 'to a bare server', [bare, gateway], gets, rounds, how);
    await compare(`GET list of ${listed}`, 'to a bare server', [bare, gateway], [list, list], rounds, how);

    const twin = await open('gateway', urls[2]!, { profile });
    const twins = get(await addSome(twin));
    title('gateway', 'its equal');
    await compare('GET one', 'to its equal', [gateway, twin], [gets[1]!, twins], rounds, how);

    const collector = await openCollector();
    const traced = await open('gateway', urls[1]!, { profile, collector, key: gateway.key });
    title('gateway', 'traced');
    await compare('GET one', 'traced, to one that is not', [gateway, traced], [gets[1]!, gets[1]!], rounds, how);
    // Its stand-in for provisioning would do the work of the other one a second time.
    await end(traced);

    title('bare', 'gateway');
    await compare('POST', 'to a bare server', [bare, gateway], [post, post], rounds, how);
    for (const server of [bare, gateway, twin]) await end(server);
  } finally {
    for (const { child } of servers) child.kill('SIGKILL');
    await postgres.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
