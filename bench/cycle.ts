/**
 * Compares one cycle over N healthy domains with a bare `node:http2` loop that sends the same queries. The schedulers
 * are processes of their own, with their database, a BIND (h2c) and an SES that lists its identities in pages; the loop
 * is one process. Two sizes show what grows with the number of domains: memory and the cost of a domain should not.
 *
 *     node dist/bench/cycle.js [--sizes 10000,100000] [--schedulers 1,2] [--rounds 1]
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Logger } from '@nestjs/common';
import { cycleMigrations, slotOf } from '@app/cycle';
import { migrate, openPool } from '@app/database';
import { DohClient } from '@app/dns';
import { eventStoreMigrations } from '@app/event-store';
import type { LiveDomain } from '@app/mail-domain';
import { answersInPlace, judge } from '@app/mail-records';
import { readModelMigrations } from '@app/read-model';
import { defaultShard, type SesShard } from '@app/runtime';
import { SesIdentities, SesLister, SesListings, sesMigrations, SesShards, SesStatuses } from '@app/ses';
import { Canary, Verifier } from '@app/verification';
import { Scheduler } from '../apps/verification-scheduler/scheduler';
import { Slots } from '../apps/verification-scheduler/slots';
import { watched } from '../apps/verification-scheduler/watched-domain';
import { WatchedDomains } from '../apps/verification-scheduler/watched-domains';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../local/embedded-postgres';
import { spawnWithParent } from '../local/spawn-with-parent';
import { bindIsInstalled, startBind } from '../test/support/bind';
import { atOnce } from '../test/support/turns';
import { report } from './figure';
import {
  bare,
  domainAt,
  pathsOf,
  queriesADomain,
  sessions,
  zone,
  zoneFile,
  type Domain,
  type Round,
} from './healthy-domains';
import { peakMiB } from './process-figures';

const intervalMs = 6 * 3_600_000;
const concurrency = 50;

interface Job {
  readonly databaseUrl: string;
  readonly dohUrl: string;
  readonly sesUrl: string;
}

interface Cycle extends Round {
  readonly looks: number;
  /** The largest resident set of a scheduler's process, in MiB. */
  readonly peakMiB: number;
}

/** The message of a scheduler's process to its parent: that it is warm, or the results of its part of the cycle. */
type ChildMessage = 'warm' | { readonly looks: number; readonly cpuMicros: number; readonly peakMiB: number };

/**
 * Runs in a scheduler's process: one cycle to warm up, of which only the memory counts, and then its part of a cycle as
 * fast as possible.
 */
async function scheduler({ databaseUrl, dohUrl, sesUrl }: Job): Promise<void> {
  const tell = (told: ChildMessage) => process.send!(told);
  Logger.overrideLogger(['error', 'warn']);
  const pool = openPool(databaseUrl);
  const client = new DohClient({ url: dohUrl, sessions });
  const shard: SesShard = {
    name: defaultShard,
    region: 'eu-west-1',
    endpoint: sesUrl,
    capacity: 1e9,
    callsPerSecond: 1,
  };
  const ses = new SesShards([shard], () => new SesIdentities({ ...shard, timeoutMs: 30_000 }, atOnce));
  const listings = new SesListings(pool);
  const lister = new SesLister(listings, ses, { shards: ses.names(), refreshMs: 60_000, timeoutMs: 300_000 });
  let looks = 0;
  const verifier = new Verifier([client], ses);
  const nobody = { execute: () => Promise.reject(new Error('a healthy domain needs no command')) };
  let now = Date.now();
  const scheduler = new Scheduler(
    new Slots(pool),
    new WatchedDomains(pool),
    { check: (domain, dkim) => (looks++, verifier.check(domain, dkim)) },
    new SesStatuses(listings, ses, { tooOldMs: intervalMs, timeoutMs: 300_000 }),
    nobody,
    new Canary([client], 'verification-canary.sendmux.ai'),
    { intervalMs, concurrency, clock: () => now, pollMs: 20 },
  );
  const done = async () => {
    while ((await scheduler.lagMs()) > 0) await delay(50);
  };
  // A scheduler normally runs for months, so the measured cycle must not include its warm-up.
  lister.onApplicationBootstrap();
  scheduler.onApplicationBootstrap();
  await done();
  tell('warm');
  await once(process, 'message');
  looks = 0;
  const cpu = process.cpuUsage();
  now += intervalMs;
  await done();
  const { user, system } = process.cpuUsage(cpu);
  tell({ looks, cpuMicros: user + system, peakMiB: peakMiB() });
  await scheduler.beforeApplicationShutdown();
  await lister.beforeApplicationShutdown();
  client.close();
  ses.close();
  await pool.end();
  process.exit();
}

/** Fills the database with domains that the scheduler knows, verified and unchanged since the last look. */
async function fill(databaseUrl: string, domains: readonly Domain[]): Promise<void> {
  await migrate(databaseUrl, [...eventStoreMigrations, ...readModelMigrations, ...cycleMigrations, ...sesMigrations]);
  const pool = openPool(databaseUrl);
  for (let from = 0; from < domains.length; from += 5_000) {
    const rows = domains.slice(from, from + 5_000).map((domain) => {
      const id = `mdom_${domain.name}`;
      const answers = answersInPlace(domain, 1);
      const lastAssessment = judge(domain, answers, 'success');
      return watched({ ...domain, id, status: 'verified', lastAssessment } as unknown as LiveDomain, 1);
    });
    await pool.query(
      `INSERT INTO watched_domains (id, slot, name, team, dkim_tokens, dkim_zone, ses_region, status, lapsed, look, version)
       SELECT id, slot, name, team, '{a,b,c}', 'dkim.amazonses.com', 'eu-west-1', 'verified', false, look, 1
       FROM unnest($1::text[], $2::smallint[], $3::text[], $4::text[], $5::text[]) AS rows(id, slot, name, team, look)`,
      [
        rows.map(({ id }) => id),
        rows.map(({ id }) => slotOf(id)),
        rows.map(({ name }) => name),
        rows.map(({ team }) => team),
        rows.map(({ look }) => look),
      ],
    );
  }
  await pool.query('ANALYZE');
  await pool.end();
}

const tables = ['watched_domains', 'domains', 'events'];
/** Hashes `xmin` and `ctid` of every row, which change when a row is written again. */
async function fingerprint(databaseUrl: string): Promise<string> {
  const pool = openPool(databaseUrl, 1);
  try {
    const counts = [];
    for (const table of tables) {
      const { rows } = await pool.query<{ rows: string; hash: string }>(
        `SELECT count(*) AS rows, coalesce(sum(hashtextextended(xmin::text || ctid::text, 0)), 0) AS hash FROM ${table}`,
      );
      counts.push(`${table} ${rows[0]!.rows} ${rows[0]!.hash}`);
    }
    return counts.join('; ');
  } finally {
    await pool.end();
  }
}

/** Serves the list of identities in pages of a thousand, and each by itself, as SES v2 does. */
async function startSes(names: readonly string[]): Promise<Server> {
  const pageFrom = (from: number) => ({
    EmailIdentities: names.slice(from, from + 1_000).map((IdentityName) => ({
      IdentityName,
      IdentityType: 'DOMAIN',
      SendingEnabled: true,
      VerificationStatus: 'SUCCESS',
    })),
    ...(from + 1_000 < names.length && { NextToken: String(from + 1_000) }),
  });
  const one = {
    VerificationStatus: 'SUCCESS',
    DkimAttributes: { Status: 'SUCCESS', Tokens: ['a', 'b', 'c'], SigningHostedZone: 'dkim.amazonses.com' },
  };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      response.setHeader('x-amzn-RequestId', 'bench');
      response.setHeader('content-type', 'application/json');
      const { NextToken = '0' } = JSON.parse(body || '{}') as { NextToken?: string };
      response.end(JSON.stringify(request.method === 'GET' ? one : pageFrom(Number(NextToken))));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/**
 * Runs the schedulers in child processes, so that each has its own memory. The time is from the first start to the last
 * end.
 */
async function inChildren(job: Job, schedulers: number): Promise<Cycle> {
  const env = { ...process.env, AWS_ACCESS_KEY_ID: 'bench', AWS_SECRET_ACCESS_KEY: 'bench', NODE_NO_WARNINGS: '1' };
  const children = Array.from({ length: schedulers }, () =>
    spawnWithParent([__filename, '--job', JSON.stringify(job)], { env, stdio: ['ignore', 'inherit', 'inherit'] }),
  );
  const told = async () =>
    (await Promise.all(children.map((child) => once(child, 'message')))).map(([said]) => said as ChildMessage);
  await told();
  const begin = performance.now();
  for (const child of children) child.send('begin');
  const parts = (await told()).filter((said) => said !== 'warm');
  const seconds = (performance.now() - begin) / 1_000;
  await Promise.all(children.map(async (child) => child.exitCode ?? (await once(child, 'exit'))));
  const looks = parts.reduce((sum, part) => sum + part.looks, 0);
  return {
    looks,
    domainsPerSecond: looks / seconds,
    cpuPerQuery: parts.reduce((sum, part) => sum + part.cpuMicros, 0) / (looks * queriesADomain),
    peakMiB: Math.max(...parts.map((part) => part.peakMiB)),
  };
}

async function atSize(
  server: EmbeddedPostgres,
  count: number,
  schedulers: number,
  rounds: number,
): Promise<{ ours: Cycle; bare: Round; ratios: number[]; cpuRatios: number[] }> {
  const domains = Array.from({ length: count }, (_, i) => domainAt(i));
  const bind = await startBind([], { [zone]: zoneFile(domains) });
  const ses = await startSes(domains.map(({ name }) => name));
  const runs: { ours: Cycle; bare: Round }[] = [];
  try {
    const paths = domains.map((domain) => pathsOf(bind.dohUrl, domain));
    const warmUp = paths.slice(0, 3_000);
    for (let round = 0; round < rounds; round++) {
      const databaseUrl = await server.database(`cycle_${count}_${schedulers}_${round}`);
      await fill(databaseUrl, domains);
      const job = {
        databaseUrl,
        dohUrl: bind.dohUrl,
        sesUrl: `http://127.0.0.1:${(ses.address() as AddressInfo).port}`,
      };
      await bare(bind.dohUrl, warmUp, concurrency);
      const before = await fingerprint(databaseUrl);
      const run = { ours: await inChildren(job, schedulers), bare: await bare(bind.dohUrl, paths, concurrency) };
      if (run.ours.looks !== count) throw new Error(`${run.ours.looks} looks at ${count} domains`);
      const after = await fingerprint(databaseUrl);
      if (after !== before) throw new Error(`rows were written:\n${before}\n${after}`);
      runs.push(run);
    }
  } finally {
    ses.close();
    bind.stop();
  }
  const ratios = runs.map((run) => run.ours.domainsPerSecond / run.bare.domainsPerSecond);
  const middle = [...runs].sort(
    (a, b) => a.ours.domainsPerSecond / a.bare.domainsPerSecond - b.ours.domainsPerSecond / b.bare.domainsPerSecond,
  )[runs.length >> 1]!;
  return { ...middle, ratios, cpuRatios: runs.map((run) => run.ours.cpuPerQuery / run.bare.cpuPerQuery) };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sizes: { type: 'string', default: '10000,100000' },
      schedulers: { type: 'string', default: '1,2' },
      rounds: { type: 'string', default: '1' },
      job: { type: 'string' },
    },
  });
  if (values.job) return await scheduler(JSON.parse(values.job) as Job);
  if (!bindIsInstalled()) {
    console.error('named is not here (Debian: apt-get install bind9 bind9-dnsutils).');
    return;
  }
  const version = spawnSync('/usr/sbin/named', ['-v'], { encoding: 'utf8' }).stdout.trim();
  console.log(
    `${version}, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; one cycle, ${concurrency} domains at a time, ${values.rounds} round(s)\n`,
  );
  console.log(
    '  domains   schedulers   domains/s   bare/s   ratio   CPU µs a query   to bare   peak MiB   rows written',
  );
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'));
  try {
    for (const schedulers of values.schedulers.split(',').map(Number)) {
      const results: Cycle[] = [];
      for (const size of values.sizes.split(',').map(Number)) {
        const { ours, bare: loop, ratios, cpuRatios } = await atSize(server, size, schedulers, Number(values.rounds));
        results.push(ours);
        const what = `cycle of ${size} domains, ${schedulers} scheduler${schedulers > 1 ? 's' : ''}`;
        const ratio = report(`${what}, to a bare loop`, ratios);
        const cpuRatio = report(`${what}, CPU a query, to a bare loop`, cpuRatios, 'lower');
        console.log(
          size.toLocaleString('en').padStart(9) +
            String(schedulers).padStart(13) +
            Math.round(ours.domainsPerSecond).toLocaleString('en').padStart(12) +
            Math.round(loop.domainsPerSecond).toLocaleString('en').padStart(9) +
            ratio.slice(0, ratio.indexOf(' ')).padStart(8) +
            ours.cpuPerQuery.toFixed(0).padStart(17) +
            cpuRatio.slice(0, cpuRatio.indexOf(' ')).padStart(10) +
            ours.peakMiB.toFixed(0).padStart(11) +
            '0'.padStart(15) +
            (ratios.length > 1 ? ratio.slice(ratio.indexOf(' ')) : ''),
        );
      }
      const [small, large] = [results[0]!, results.at(-1)!];
      if (small !== large)
        console.log(
          `  largest against smallest: memory ${(large.peakMiB / small.peakMiB).toFixed(2)}, CPU a domain ${(large.cpuPerQuery / small.cpuPerQuery).toFixed(2)}`,
        );
    }
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
