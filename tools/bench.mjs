// Runs the benches in sequence for `make bench`, each in a process and a temporary folder of its own. A failure does
// not stop the others.
//   node tools/bench.mjs [append http …] [--compare] [--keep] [-- options of these]
// With `--compare` the ratios are compared with those of bench/figures.json, and the status is 1 where one is worse by
// more than a fifth. With `--keep` they take the place of those.
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { compared, keep, readKept } from './figures.mjs';

const dist = resolve(import.meta.dirname, '../dist');
const separator = process.argv.indexOf('--');
const [own, options] =
  separator < 0 ? [process.argv.slice(2), []] : [process.argv.slice(2, separator), process.argv.slice(separator + 1)];
const { positionals: named, values: asked } = parseArgs({
  args: own,
  allowPositionals: true,
  options: { compare: { type: 'boolean', default: false }, keep: { type: 'boolean', default: false } },
});
const all = ['append', 'http', 'latency', 'lists', 'sweep', 'cycle', 'replay', 'kafka', 'webhooks', 'start'];
const benches = named.length > 0 ? named : all;
const failed = [];
const figures = [];
let child;
let ending;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end(signal));
// A process gets no signal when its parent is killed.
const parent = process.ppid;
setInterval(() => process.ppid !== parent && end('SIGTERM'), 500).unref();

console.log(`Benches on Node ${process.versions.node}`);
for (const name of benches) {
  console.log(`\n── ${name}`);
  const status = await run(name);
  if (ending) break;
  if (status === 0) continue;
  console.log(`${name} failed: it ended with ${status}.`);
  failed.push(name);
}
if (ending) process.exit(130);
if (failed.length > 0) console.log(`\n${failed.length} of ${benches.length} failed: ${failed.join(', ')}`);
const { lines, worse } = asked.compare ? compared(figures, readKept().figures) : { lines: [], worse: [] };
if (asked.compare) console.log(`\nAgainst what is kept:\n${lines.join('\n') || '  none of these figures is kept'}`);
if (worse.length > 0) console.log(`${worse.length} of ${lines.length} are worse by more than a fifth.`);
if (asked.keep) keep(figures);
process.exit(failed.length > 0 || worse.length > 0 ? 1 : 0);

/** Runs a bench; gives its exit status or signal. The bench ends with this process: see local/leave-with-parent.ts. */
async function run(name) {
  const scratch = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  // PostgreSQL runs as another user when this one is root, and needs access.
  chmodSync(scratch, 0o755);
  child = spawn(
    process.execPath,
    ['--require', join(dist, 'local/leave-with-parent.js'), join(dist, 'bench', `${name}.js`), ...options],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...process.env, TMPDIR: scratch } },
  );
  child.on('message', ({ figure }) => figure && figures.push(figure));
  const status = await new Promise((done) => child.once('close', (code, signal) => done(code ?? signal)));
  // Processes that the bench had started may still be ending.
  rmSync(scratch, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  return status;
}

function end(signal) {
  if (ending) child?.kill('SIGKILL');
  ending = signal;
  child?.kill('SIGTERM');
}
