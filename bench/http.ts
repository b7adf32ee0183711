/**
 * Compares POST and GET of the gateway with a bare Fastify handler that runs the same SQL through `pg`. Each server is
 * a process of its own, with a database of its own in one embedded PostgreSQL. Both are loaded in turn; the result is
 * the ratio.
 *
 * The gateway's POST answers after a stand-in for provisioning, in the same process, has received `DomainAdded` from
 * the log and recorded `DomainProvisioned`. The bare handler runs the same two transactions in sequence and receives no
 * events.
 *
 * At last the gateway answers GET beside one that traces, with one trace of a hundred sampled and exported.
 *
 *     node dist/bench/http.js [--rounds 5] [--seconds 3] [--connections 32]
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import { fastify } from 'fastify';
import { Accounts } from '@app/accounts';
import { migrate, openPool } from '@app/database';
import { dnsRecords } from '@app/mail-records';
import type { DomainView } from '@app/read-model';
import { newId } from '@app/runtime';
import { startTracing } from '@app/tracing';
import { serviceTables } from '../apps/cli/migrations';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { spawnWithParent } from '../local/spawn-with-parent';
import { startGateway } from '../test/support/gateway';

/** The message of a server to its parent when it listens. */
interface Serving {
  readonly origin: string;
  readonly key: string;
}

const provisioned = {
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesDkimStatus: 'pending',
};

const sql = {
  authenticate: 'SELECT id, team, role, permissions FROM api_keys WHERE hash = $1 AND revoked_at IS NULL',
  find: `SELECT id, name, team, status, ses_dkim_status AS "sesDkimStatus", dkim_tokens AS "dkimTokens", dkim_zone AS "dkimZone",
    ses_region AS "sesRegion",
    verified_at AS "verifiedAt", created_at AS "createdAt", version FROM domains
    WHERE id = $1 AND team = $2 AND status IN ('pending', 'verified', 'failed', 'deleting')`,
  holder: `SELECT id, team, status FROM domains WHERE name = $1 AND status NOT IN ('rolled_back', 'deleted')`,
  stream: 'SELECT * FROM events WHERE stream = $1 ORDER BY version',
  append: `WITH appended AS (INSERT INTO events (stream, version, type, schema_version, data, metadata, time, previous, hash)
      VALUES ($1, $2, $3, 1, $4, $5, now(), '', ''))
    INSERT INTO domains (id, name, team, status, ses_dkim_status, dkim_tokens, dkim_zone, ses_region, created_at, updated_at, version)
    VALUES ($1, $6, $7, $8, $9, $10, $11, $12, now(), now(), $2)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, ses_dkim_status = excluded.ses_dkim_status,
      dkim_tokens = excluded.dkim_tokens, dkim_zone = excluded.dkim_zone, ses_region = excluded.ses_region,
      updated_at = excluded.updated_at, version = excluded.version`,
};

async function serveBare(url: string): Promise<Serving> {
  const pool = openPool(url);
  const query = <Row extends object>(name: keyof typeof sql, values: unknown[]) =>
    pool.query<Row>({ name, text: sql[name], values });
  const accounts = new Accounts(pool);
  const { id: benchTeam } = await accounts.createTeam('Bench', ['bench@sendmux.ai']);
  const { key } = await accounts.createKey(benchTeam, { role: 'root:full' });
  const teamOf = async (authorization = ''): Promise<string | undefined> => {
    const hash = createHash('sha256').update(authorization.slice('Bearer '.length)).digest();
    return (await query<{ team: string }>('authenticate', [hash])).rows[0]?.team;
  };
  const answer = (view: DomainView) => ({
    ok: true,
    data: {
      id: view.id,
      domain: view.name,
      verification_status: view.status,
      ses_dkim_status: view.sesDkimStatus,
      verified_at: view.verifiedAt,
      created_at: view.createdAt,
      dns_records: dnsRecords(view),
    },
    meta: { request_id: newId('req') },
  });
  const server = fastify();
  server.get<{ Params: { id: string } }>('/api/v1/domains/:id', async (request, reply) => {
    const team = await teamOf(request.headers.authorization);
    if (!team) return reply.status(401).send();
    const [view] = (await query<DomainView>('find', [request.params.id, team])).rows;
    return view ? answer(view) : reply.status(404).send();
  });
  server.post<{ Body: { domain: string } }>('/api/v1/domains', async (request, reply) => {
    const team = await teamOf(request.headers.authorization);
    if (!team) return reply.status(401).send();
    const name = request.body.domain;
    if ((await query('holder', [name])).rows.length > 0) return reply.status(409).send();
    const id = newId('mdom');
    const metadata = JSON.stringify({ actor: 'key_bench', requestId: 'req_bench', correlationId: 'req_bench' });
    const append = (version: number, type: string, data: object, status: string, more: unknown[]) =>
      query('append', [id, version, type, JSON.stringify(data), metadata, name, team, status, ...more]);
    await query('stream', [id]);
    await append(1, 'DomainAdded', { name, team, deadline: new Date().toISOString() }, 'provisioning', [
      null,
      null,
      null,
      null,
    ]);
    await query('stream', [id]);
    const { dkimTokens, dkimZone, sesRegion, sesDkimStatus } = provisioned;
    await append(2, 'DomainProvisioned', provisioned, 'pending', [
      sesDkimStatus,
      JSON.stringify(dkimTokens),
      dkimZone,
      sesRegion,
    ]);
    const [view] = (await query<DomainView>('find', [id, team])).rows;
    return reply.status(201).header('location', `/api/v1/domains/${id}`).send(answer(view!));
  });
  return { origin: await server.listen({ port: 0, host: '127.0.0.1' }), key };
}

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
  collector?: string,
): Promise<{ child: ChildProcess; serving: Serving }> {
  const more = collector ? ['--collector', collector] : [];
  const child = spawnWithParent([__filename, '--serve', kind, '--url', url, ...more], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = once(child, 'exit').then(([status]) => {
    throw new Error(`The ${kind} server ended with ${status}.`);
  });
  const [serving] = (await Promise.race([once(child, 'message'), ended])) as [Serving];
  ended.catch(() => undefined);
  return { child, serving };
}

interface Load {
  readonly seconds: number;
  readonly connections: number;
}

let names = 0;

/**
 * Measures requests per second with the expected status. Prints how many had another one, which may happen on a busy
 * machine.
 */
async function load(
  { origin, key }: Serving,
  method: 'GET' | 'POST',
  path: string,
  { seconds, connections }: Load,
): Promise<number> {
  const result = await autocannon({
    url: origin + path,
    connections,
    duration: seconds,
    headers: { authorization: `Bearer ${key}`, ...(method === 'POST' && { 'content-type': 'application/json' }) },
    requests: [
      {
        method,
        ...(method === 'POST' && {
          setupRequest: (request) => ({ ...request, body: JSON.stringify({ domain: `b${++names}.acme.com` }) }),
        }),
      },
    ],
  });
  if (result['2xx'] === 0) throw new Error(`${path}: ${result.non2xx} other statuses, ${result.errors} errors`);
  if (result.non2xx > 0 || result.errors > 0)
    console.log(`  (${method} ${path}: ${result.non2xx} other statuses, ${result.errors} errors)`);
  return result['2xx'] / result.duration;
}

const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!;

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
    },
  });
  if (values.serve) {
    const { serve, url, collector } = values;
    process.send!(await (serve === 'bare' ? serveBare(url!) : serveGateway(url!, collector)));
    return;
  }
  const rounds = Number(values.rounds);
  const how: Load = { seconds: Number(values.seconds), connections: Number(values.connections) };
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'));
  const children: ChildProcess[] = [];
  try {
    const bareUrl = await server.database('bare');
    const [gatewayUrl, tracedUrl] = [await server.database('gateway'), await server.database('traced')];
    for (const url of [bareUrl, gatewayUrl, tracedUrl]) await migrate(url, serviceTables);
    const bare = await inOwnProcess('bare', bareUrl);
    const gateway = await inOwnProcess('gateway', gatewayUrl);
    children.push(bare.child, gateway.child);
    console.log(
      `PostgreSQL 18, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; ` +
        `${how.connections} connections, medians of ${rounds} rounds of ${how.seconds} s\n`,
    );
    const added = async ({ origin, key }: Serving): Promise<string> => {
      const answer = await fetch(`${origin}/api/v1/domains`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ domain: 'mail.acme.com' }),
      });
      return ((await answer.json()) as { data: { id: string } }).data.id;
    };
    const [bareId, gatewayId] = [await added(bare.serving), await added(gateway.serving)];
    console.log('request        bare/s   gateway/s   ratio (each round)');
    const compare = async (what: string, ours: () => Promise<number>, theirs: () => Promise<number>) => {
      await ours();
      await theirs();
      const runs: { ours: number; theirs: number }[] = [];
      for (let round = 0; round < rounds; round++) {
        if (round % 2) runs.push({ ours: await ours(), theirs: await theirs() });
        else runs.push({ theirs: await theirs(), ours: await ours() });
      }
      const ratios = runs.map((run) => run.ours / run.theirs);
      const rate = (key: 'ours' | 'theirs') => Math.round(median(runs.map((run) => run[key]))).toLocaleString('en');
      console.log(
        `${what.padEnd(12)}${rate('theirs').padStart(9)}${rate('ours').padStart(12)}   ` +
          `${median(ratios).toFixed(2)}  (${ratios.map((ratio) => ratio.toFixed(2)).join(' ')})`,
      );
    };
    const get = (id: string) => `/api/v1/domains/${id}`;
    for (const method of ['GET', 'POST'] as const) {
      const path = (id: string) => (method === 'GET' ? get(id) : '/api/v1/domains');
      await compare(
        method === 'GET' ? 'GET domain' : 'POST domains',
        () => load(gateway.serving, method, path(gatewayId), how),
        () => load(bare.serving, method, path(bareId), how),
      );
    }
    const traced = await inOwnProcess('gateway', tracedUrl, await openCollector());
    children.push(traced.child);
    const tracedId = await added(traced.serving);
    console.log('\nrequest     gateway/s    traced/s   ratio (each round)');
    await compare(
      'GET domain',
      () => load(traced.serving, 'GET', get(tracedId), how),
      () => load(gateway.serving, 'GET', get(gatewayId), how),
    );
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
