/**
 * Compares the verification of the sealed log, a fold of all streams, and a rebuild of the table `domains` with `COPY
 * events TO STDOUT` of the same rows, discarded. All run in turn on one embedded PostgreSQL with fsync on; the result
 * is the ratio. Then measures the memory of a rebuild and a verification at a tenth of the events and at all of them,
 * which must not grow.
 *
 *     node dist/bench/replay.js [--events 1000000] [--rounds 5]
 */
import { once } from 'node:events';
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
import { spawnWithParent } from '../local/spawn-with-parent';
import { fillLog } from './lives';

/** The key is the same in all processes of a run, so that each can verify what another has sealed. */
const key = new SealingKey(
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 7)]),
    format: 'der',
    type: 'pkcs8',
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
    // The order changes every round, so that none always has the less busy machine.
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

/** Measures the peak memory of a process that only runs this contestant, in MiB. */
async function peakOf(name: Contestant, url: string): Promise<number> {
  // The heap is small, so that garbage that is not collected yet does not count.
  const args = ['--max-old-space-size=128', __filename, '--alone', url, '--contestant', name];
  const child = spawnWithParent(args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`${name} ended with ${status}`);
  return Number(said);
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
  // A quarter of the memory, as the PostgreSQL manual recommends. The default of 128 MB is too small for the log.
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
      const [small, large] = [await peakOf(name, few.url), await peakOf(name, many.url)];
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
