// Runs the benches in sequence for `make bench`, each in a process and a temporary folder of its own. A failure does
// not stop the others.
//   node tools/bench.mjs [append http …] [-- options of these]
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const dist = resolve(import.meta.dirname, '../dist');
const separator = process.argv.indexOf('--');
const [named, options] =
  separator < 0 ? [process.argv.slice(2), []] : [process.argv.slice(2, separator), process.argv.slice(separator + 1)];
const benches = named.length > 0 ? named : ['append', 'http', 'lists', 'sweep', 'cycle', 'replay', 'kafka', 'webhooks', 'start'];
const failed = [];
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
process.exit(failed.length > 0 ? 1 : 0);

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
