/**
 * Measures how long one customer waits who does one thing after another, with counterparts that answer at once: `POST`
 * until 201, a verification, and `DELETE` until 200. All apps run as processes of their own, and then in one process,
 * as a small installation runs them, against the sandbox, whose SES and DNS answer without a delay. Beside each of them
 * a single `INSERT` is committed through `pg`: the ratio says how many durable transactions, one after another, the
 * customer waits for.
 *
 *     node dist/bench/latency.js [--rounds 5] [--domains 60]
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openPool } from '@app/database';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { allApps, startSystem, type Answer, type AppName } from '../test/support/processes';
import { quantile, report } from './figure';

/** Domains that come first, while code is compiled and caches are filled. */
const warmUps = 30;

type Step = 'add' | 'verify' | 'delete' | 'commit';

async function measure(rounds: number, domains: number, together: boolean): Promise<void> {
  const env = { RATE_LIMIT_PER_MINUTE: '10000000', SES_CALLS_PER_SECOND: '1000', LOG_LEVEL: 'info' };
  const apps: readonly AppName[] = [...allApps, 'sealer', 'webhooks'];
  const system = await startSystem({ apps, together: together ? 'all' : [], env });
  const pool = openPool(system.databaseUrl, 1);
  try {
    await pool.query('CREATE TABLE bench_commits (at timestamptz NOT NULL DEFAULT clock_timestamp(), text text)');
    const { api } = await system.team();
    let names = 0;
    const life = async (times: Record<Step, number[]>) => {
      const timed = async <T>(step: Step, call: () => Promise<T>) => {
        const began = performance.now();
        const result = await call();
        times[step].push(performance.now() - began);
        return result;
      };
      const expected = (status: number, answer: Answer) => {
        if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
        return answer.body as { data: { id: string } };
      };
      const body = expected(201, await timed('add', () => api.add(`d${++names}.example.com`)));
      await system.sandbox.place(body);
      expected(200, await timed('verify', () => api.verify(body.data.id)));
      expected(200, await timed('delete', () => api.delete(body.data.id)));
      await timed('commit', () => pool.query({ name: 'c', text: 'INSERT INTO bench_commits (text) VALUES (1)' }));
    };
    const runs: Record<Step, number[]>[] = [];
    for (let round = -1; round < rounds; round++) {
      const times: Record<Step, number[]> = { add: [], verify: [], delete: [], commit: [] };
      for (let i = 0; i < (round < 0 ? warmUps : domains); i++) await life(times);
      if (round >= 0) runs.push(times);
    }
    console.log(`\n${together ? 'apps in one process' : 'apps in processes of their own'}`);
    console.log('                p50 ms    p99 ms   in single commits (each round)');
    for (const step of ['add', 'verify', 'delete', 'commit'] as const) {
      const all = runs.flatMap((run) => run[step]);
      const ratios = runs.map((run) => quantile(run[step], 0.5) / quantile(run.commit, 0.5));
      console.log(
        step.padEnd(12) +
          [0.5, 0.99].map((share) => quantile(all, share).toFixed(1).padStart(10)).join('') +
          (step === 'commit'
            ? ''
            : `   ${report(`wait for ${step}${together ? ', one process' : ''}, in single commits`, ratios, 'lower')}`),
      );
    }
  } finally {
    await pool.end();
    await system.end();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '5' }, domains: { type: 'string', default: '60' } },
  });
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'));
  try {
    console.log(
      `PostgreSQL 18, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}; one customer, ${values.domains} domains in each of ${values.rounds} rounds\n`,
    );
    process.env.TEST_DATABASE_URL = await server.database('postgres');
    for (const together of [false, true]) await measure(Number(values.rounds), Number(values.domains), together);
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

void main();
