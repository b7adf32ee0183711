/**
 * The verification of the sealed log, a fold of all streams, and a rebuild of the table `domains`, against `COPY events TO STDOUT` of the same rows to nothing. All in turn, on one
 * embedded PostgreSQL with fsync on; what counts is the ratio. Then the memory that a rebuild and a verification take at a tenth of
 * the events and at all of them: it must not grow.
 *
 *     node dist/bench/replay.js [--events 1000000] [--rounds 5]
 */
import { spawnSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { auditMigrations, SealingKey, Seals, trusting, Verification } from '@app/audit';
import { migrate, openPool } from '@app/database';
import { EventLog, eventStoreMigrations } from '@app/event-store';
import { readModelMigrations } from '@app/read-model';
import { foldAll, rebuild } from '@app/rebuild';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { fillLog } from './lives';

/** The same in all processes of a run, so that each can verify what one has sealed. */
const key = new SealingKey(
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 7)]),
    ...{ format: 'der', type: 'pkcs8' },
  }),
);

const contestants = {
  copy: async (url: string) => {
    const client = new Client({ connectionString: url });
    await client.connect();
    try {
      await new Promise((resolve, reject) =>
        client.query(copyTo('COPY events TO STDOUT')).on('error', reject).on('end', resolve).resume(),
      );
    } finally {
      await client.end();
    }
  },
  verify: async (url: string) => {
    const pool = openPool(url, 2);
    const log = new EventLog(pool);
    const { faults, unsealed, events } = await new Verification(pool, log, { trusted: trusting(key.publicKey) }).run();
    await log.close();
    await pool.end();
    if (faults.length > 0 || unsealed > 0 || events === 0) throw new Error('The log is not what was sealed');
  },
  fold: async (url: string) => void (await foldAll(url, 'domains')),
  rebuild: async (url: string) => void (await rebuild(url, 'domains')),
};
type Contestant = keyof typeof contestants;
const names = Object.keys(contestants) as Contestant[];

const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!;

async function measure(url: string, events: number, rounds: number): Promise<void> {
  const seconds: Record<Contestant, number[]> = { copy: [], verify: [], fold: [], rebuild: [] };
  for (const name of names) await contestants[name](url);
  for (let round = 0; round < rounds; round++)
    // Who goes first changes, so that nobody always finds the quieter machine.
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      const begin = performance.now();
      await contestants[name](url);
      seconds[name].push((performance.now() - begin) / 1_000);
    }
  console.log('             events/s   ratio to COPY (each round)');
  for (const name of names) {
    const ratios = seconds[name].map((taken, round) => seconds.copy[round]! / taken);
    console.log(
      `${name.padEnd(9)}${Math.round(events / median(seconds[name]))
        .toLocaleString('en')
        .padStart(12)}   ${median(ratios).toFixed(2)}  (${ratios.map((ratio) => ratio.toFixed(2)).join(' ')})`,
    );
  }
}

async function seal(url: string): Promise<void> {
  const pool = openPool(url, 2, 600_000);
  const log = new EventLog(pool);
  await new Seals(pool, log, key).seal();
  await log.close();
  await pool.end();
}

async function versionOf(url: string): Promise<string> {
  const client = new Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ version: string }>(`SELECT current_setting('server_version') AS version`);
  await client.end();
  return rows[0]!.version;
}

/** The most that a process of its own held while it did that, in MiB. */
function peakOf(name: Contestant, url: string): number {
  // In a small heap, so that what is merely not collected yet does not count.
  const args = ['--max-old-space-size=128', __filename, '--alone', url, '--contestant', name];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return Number(stdout);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      events: { type: 'string', default: '1000000' },
      rounds: { type: 'string', default: '5' },
      alone: { type: 'string' },
      contestant: { type: 'string' },
    },
  });
  if (values.alone) {
    await contestants[values.contestant as Contestant](values.alone);
    console.log(Math.round(process.resourceUsage().maxRSS / 1_024));
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  // A quarter of the memory, as its manual has it: the 128 MB of a server that nobody has set up hold no log.
  const buffers = Math.round(totalmem() / 4 / 1_048_576);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'), { shared_buffers: `${buffers}MB` });
  try {
    const filled = async (about: number) => {
      const url = await server.database(`bench_${about}`);
      await migrate(url, [...eventStoreMigrations, ...auditMigrations, ...readModelMigrations]);
      const filling = await fillLog(url, about);
      await seal(url);
      return { url, ...filling };
    };
    const [few, many] = [await filled(Math.round(Number(values.events) / 10)), await filled(Number(values.events))];
    const version = await versionOf(many.url);
    console.log(
      `PostgreSQL ${version} with shared_buffers of ${buffers} MB, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; ` +
        `${many.events.toLocaleString('en')} events of ${many.streams.toLocaleString('en')} domains, each spread over all of the log; ` +
        `medians of ${values.rounds} rounds\n`,
    );
    await measure(many.url, many.events, Number(values.rounds));
    for (const name of ['verify', 'rebuild'] as const) {
      const [small, large] = [peakOf(name, few.url), peakOf(name, many.url)];
      console.log(
        `\nmost memory, ${name}: ${small} MiB at ${few.events.toLocaleString('en')} events, ` +
          `${large} MiB at ${many.events.toLocaleString('en')} (${(large / small).toFixed(2)})`,
      );
    }
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
