/**
 * Compares the verification of the sealed log, a fold of all streams, and a rebuild of the table `domains` with `COPY
 * events TO STDOUT` of the same rows, discarded. All run in turn on one embedded PostgreSQL with fsync on; the result
 * is the ratio. Then measures the memory of a rebuild and a verification at a tenth of the events and at all of them,
 * which must not grow.
 *
 *     node dist/bench/replay.js [--events 1000000] [--rounds 5]
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { auditMigrations } from '@app/audit';
import { migrate } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { readModelMigrations } from '@app/read-model';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { median, ratioText, report } from './figure';
import { fillLog } from './lives';
import { alone, passes, seal, type Pass } from './log-passes';

const names = Object.keys(passes) as Pass[];

async function measure(url: string, events: number, rounds: number): Promise<void> {
  const seconds: Record<Pass, number[]> = { copy: [], verify: [], fold: [], rebuild: [] };
  for (const name of names) await passes[name](url);
  for (let round = 0; round < rounds; round++)
    // The order changes every round, so that none always has the less busy machine.
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      const begin = performance.now();
      await passes[name](url);
      seconds[name].push((performance.now() - begin) / 1_000);
    }
  console.log('             events/s   ratio to COPY (each round)');
  for (const name of names) {
    const ratios = seconds[name].map((taken, round) => seconds.copy[round]! / taken);
    console.log(
      `${name.padEnd(9)}${Math.round(events / median(seconds[name]))
        .toLocaleString('en')
        .padStart(12)}   ${name === 'copy' ? ratioText(ratios) : report(`${name}, to COPY`, ratios)}`,
    );
  }
}

async function versionOf(url: string): Promise<string> {
  const client = new Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ version: string }>(`SELECT current_setting('server_version') AS version`);
  await client.end();
  return rows[0]!.version;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      events: { type: 'string', default: '1000000' },
      rounds: { type: 'string', default: '5' },
    },
  });
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
      const [small, large] = [(await alone(name, few.url)).peakMiB, (await alone(name, many.url)).peakMiB];
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
