/**
 * Compares appends to the event store with pgbench, which runs one prepared INSERT into a table with the same columns
 * and indexes, without the hashes. The same INSERT is sent by `pg` as well, each writer on a connection of its own:
 * what it is slower by is due to the driver, and to Node. All run in turn on one embedded PostgreSQL with fsync on; the
 * result is the ratio.
 *
 *     node dist/bench/append.js [--rounds 5] [--seconds 2]
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, type Pool } from 'pg';
import { migrate, openPool } from '@app/database';
import { EventStore, eventStoreMigrations, type NewEvent } from '@app/event-store';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { median, ratioText, report } from './figure';

const data = { name: 'mail.acme.com', team: 'team_abc123', note: 'x'.repeat(230) };
const metadata = { actor: 'key_bench', requestId: 'req_bench', correlationId: 'req_bench' };

/** Inserts into a new stream each time, as `appends` does. */
const insert = `\\set id random(1, 1000000000000)
INSERT INTO baseline (stream, version, type, schema_version, data, metadata, time)
VALUES ('mdom_' || :id, 1, 'DomainAdded', 1, '${JSON.stringify(data)}', '${JSON.stringify(metadata)}', now());
`;

/** Measures inserts per second. */
function pgbench(url: string, script: string, clients: number, seconds: number): number {
  const { hostname, port, username, password, pathname } = new URL(url);
  const threads = Math.min(clients, availableParallelism());
  const { error, status, stdout, stderr } = spawnSync(
    'pgbench',
    ['-n', '-M', 'prepared', '-f', script, ...['-c', clients, '-j', threads, '-T', seconds].map(String)],
    {
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH,
        PGHOST: hostname,
        PGPORT: port,
        PGUSER: username,
        PGPASSWORD: decodeURIComponent(password),
        PGDATABASE: pathname.slice(1),
      },
    },
  );
  const rate = /^tps = ([\d.]+)/m.exec(stdout ?? '')?.[1];
  if (error || status !== 0 || !rate) throw new Error(`pgbench failed: ${error?.message ?? stderr}`);
  return Number(rate);
}

/** Measures appends per second of writers that each wait for the answer, as requests do. */
async function appends(store: EventStore, writers: number, seconds: number): Promise<number> {
  const begin = performance.now();
  const end = begin + seconds * 1_000;
  let done = 0;
  const writer = async () => {
    while (performance.now() < end) {
      const event: NewEvent = { type: 'DomainAdded', schemaVersion: 1, data, time: new Date().toISOString() };
      const stream = `mdom_${randomInt(1, 1_000_000_000_000)}`;
      await store.append({ stream, expectedVersion: 0, events: [event], metadata });
      done++;
    }
  };
  await Promise.all(Array.from({ length: writers }, writer));
  return (done * 1_000) / (performance.now() - begin);
}

/** Measures inserts per second by `pg`, each writer on a connection of its own. */
async function inserts(url: string, writers: number, seconds: number): Promise<number> {
  const clients = Array.from({ length: writers }, () => new Client({ connectionString: url }));
  await Promise.all(clients.map((client) => client.connect()));
  const begin = performance.now();
  const end = begin + seconds * 1_000;
  let done = 0;
  const writer = async (client: Client) => {
    while (performance.now() < end) {
      await client.query({
        name: 'insert',
        text: `INSERT INTO baseline (stream, version, type, schema_version, data, metadata, time)
          VALUES ($1, 1, 'DomainAdded', 1, $2, $3, now())`,
        values: [`mdom_${randomInt(1, 1_000_000_000_000)}`, JSON.stringify(data), JSON.stringify(metadata)],
      });
      done++;
    }
  };
  await Promise.all(clients.map(writer));
  const rate = (done * 1_000) / (performance.now() - begin);
  await Promise.all(clients.map((client) => client.end()));
  return rate;
}

async function measure(pool: Pool, url: string, script: string, rounds: number, seconds: number): Promise<void> {
  const store = new EventStore(pool);
  const all = ['pgbench', 'pg', 'ours'] as const;
  const rates: Record<(typeof all)[number], (writers: number) => number | Promise<number>> = {
    pgbench: (writers) => pgbench(url, script, writers, seconds),
    pg: (writers) => inserts(url, writers, seconds),
    ours: (writers) => appends(store, writers, seconds),
  };
  for (const what of all) await rates[what](8);
  console.log('writers   pgbench/s        pg/s   appends/s   ratios (each round)');
  for (const writers of [1, 8, 32]) {
    const runs: Record<(typeof all)[number], number>[] = [];
    for (let round = 0; round < rounds; round++) {
      await pool.query('CHECKPOINT');
      const run = { pgbench: 0, pg: 0, ours: 0 };
      // The order changes every round, so that none always has the less busy disk.
      for (let turn = 0; turn < all.length; turn++) {
        const what = all[(round + turn) % all.length]!;
        run[what] = await rates[what](writers);
      }
      runs.push(run);
    }
    const ratios = (of: 'pg' | 'ours') => runs.map((run) => run[of] / run.pgbench);
    const cells = [writers, ...all.map((key) => Math.round(median(runs.map((run) => run[key]))))];
    console.log(
      `${cells.map((cell, i) => cell.toLocaleString('en').padStart(i ? 12 : 7)).join('')}   ` +
        `${report(`append, ${writers} writers, to pgbench`, ratios('ours'))}; pg ${ratioText(ratios('pg'))}`,
    );
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '2' } },
  });
  const version = spawnSync('pgbench', ['--version'], { encoding: 'utf8' });
  if (version.error || version.status !== 0) {
    console.error(
      'pgbench is not here: it comes with the PostgreSQL server packages (Debian: apt-get install postgresql).',
    );
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const script = join(directory, 'insert.sql');
  writeFileSync(script, insert);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'));
  try {
    const url = await server.database('bench');
    await migrate(url, eventStoreMigrations);
    const pool = openPool(url);
    try {
      await pool.query('CREATE TABLE baseline (LIKE events_1 INCLUDING ALL)');
      await pool.query(`ALTER TABLE baseline DROP COLUMN previous, DROP COLUMN hash,
        ALTER COLUMN position ADD GENERATED ALWAYS AS IDENTITY`);
      const { rows } = await pool.query<{ version: string }>(`SELECT current_setting('server_version') AS version`);
      console.log(
        `PostgreSQL ${rows[0]!.version}, ${version.stdout.trim()}, Node ${process.versions.node}, ` +
          `${cpus().length} × ${cpus()[0]?.model}; medians of ${values.rounds} rounds of ${values.seconds} s\n`,
      );
      await measure(pool, url, script, Number(values.rounds), Number(values.seconds));
    } finally {
      await pool.end();
    }
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
