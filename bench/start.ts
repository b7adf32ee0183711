/**
 * Measures `make start` on a data folder of its own: the time until everything is ready, at the first start and at
 * later ones, and the memory and CPU time of all processes three seconds later, PostgreSQL included.
 *
 *     node dist/bench/start.js [--rounds 3] [--build another/dist]
 *
 * `--build` measures the launcher of another build in turn with this one, so that both meet the same machine.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { spawnWithParent } from '../local/spawn-with-parent';
import { freePortBlock } from '../test/support/processes';
import { median } from './figure';
import { cpuMsWithEnded, processTree, proportionalMiB, residentMiB } from './process-figures';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, build: { type: 'string' } },
});

/** Milliseconds between readiness and the look at memory, in which the processes come to rest. */
const restMs = 3_000;
const readyWithinMs = 180_000;

interface Figures {
  readonly readySeconds: number;
  readonly proportionalMiB: number;
  readonly nodeMiB: number;
  readonly cpuSeconds: number;
  readonly processes: number;
}

/** Starts the launcher of a build, measures, and stops it. */
async function measure(build: string, directory: string): Promise<Figures> {
  const port = await freePortBlock();
  const begun = performance.now();
  const launcher = spawnWithParent([join(build, 'local/start.js')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: String(port), SENDMUX_DATA_DIR: directory },
  });
  try {
    await untilReady(launcher);
    const readySeconds = (performance.now() - begun) / 1_000;
    await delay(restMs);
    const tree = processTree(launcher.pid!);
    const ofNode = tree.filter(({ command }) => /^\S*\bnode\b/.test(command));
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    return {
      readySeconds,
      proportionalMiB: sum(tree.map(({ pid }) => proportionalMiB(pid))),
      nodeMiB: sum(ofNode.map(({ pid }) => residentMiB(pid))),
      cpuSeconds: sum(tree.map(({ pid }) => cpuMsWithEnded(pid))) / 1_000,
      processes: ofNode.length,
    };
  } finally {
    if (launcher.exitCode === null) {
      launcher.kill('SIGTERM');
      await once(launcher, 'close');
    }
  }
}

async function untilReady(launcher: ChildProcess): Promise<void> {
  let said = '';
  launcher.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  const deadline = Date.now() + readyWithinMs;
  while (!said.includes('Ready after')) {
    if (launcher.exitCode !== null || Date.now() > deadline) throw new Error(`It is not ready:\n${said}`);
    await delay(10);
  }
}

/** Gives the median with the least and the largest value. */
const spread = (values: readonly number[], digits: number): string =>
  `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;

async function main(): Promise<void> {
  const builds = { 'this build': resolve(__dirname, '..'), ...(options.build && { other: resolve(options.build) }) };
  console.log(`make start, ${options.rounds} rounds, ${cpus().length} processors, median (least–most)`);
  const first: Record<string, Figures[]> = {};
  const later: Record<string, Figures[]> = {};
  for (let round = 0; round < Number(options.rounds); round++)
    for (const [name, build] of Object.entries(builds)) {
      const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-start-'));
      chmodSync(directory, 0o755);
      try {
        (first[name] ??= []).push(await measure(build, join(directory, 'data')));
        (later[name] ??= []).push(await measure(build, join(directory, 'data')));
      } finally {
        rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
      }
    }
  console.log('| build | start | ready, s | CPU of all, s | Node processes | their RSS, MiB | PSS of all, MiB |');
  console.log('|---|---|---|---|---|---|---|');
  for (const [name] of Object.entries(builds))
    for (const [start, figures] of [
      ['first', first[name]!],
      ['later', later[name]!],
    ] as const) {
      const of = (value: (each: Figures) => number, digits = 0) => spread(figures.map(value), digits);
      const cells = [
        of(({ readySeconds }) => readySeconds, 1),
        of(({ cpuSeconds }) => cpuSeconds, 1),
        figures[0]!.processes,
        of(({ nodeMiB }) => nodeMiB),
        of((each) => each.proportionalMiB),
      ];
      console.log(`| ${name} | ${start} | ${cells.join(' | ')} |`);
    }
}

void main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
