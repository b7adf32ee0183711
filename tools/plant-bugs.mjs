// Plants each of the bugs of tools/peer-bugs.mjs, one at a time, in a copy of the sources, and expects its named test
// to fail. Arguments are names of bugs; all without any. With `--check`, only looks whether each can still be planted,
// and whether its test is still there, which takes no time.
// Exit status: 0 each was caught, 1 one was not, or its test does not pass without it.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { peerBugs, planted, titlePattern } from './peer-bugs.mjs';

const root = resolve(import.meta.dirname, '..');
/** Milliseconds for a test that hangs because of a bug: each of these takes seconds without one. */
const hangsAfterMs = 90_000;

const args = process.argv.slice(2);
const names = args.filter((each) => each !== '--check');
const unknown = names.filter((name) => !peerBugs.some((bug) => bug.name === name));
if (unknown.length > 0) {
  console.error(`There is no bug called ${unknown.join(', ')}: ${peerBugs.map(({ name }) => name).join(', ')}.`);
  process.exit(1);
}
const chosen = names.length > 0 ? peerBugs.filter(({ name }) => names.includes(name)) : peerBugs;

if (args.includes('--check')) {
  const faults = chosen.flatMap(faultsOf);
  console.log(faults.length > 0 ? faults.join('\n') : `${chosen.length} bugs can be planted, and have their tests.`);
  process.exit(faults.length > 0 ? 1 : 0);
}

const copy = mkdtempSync(join(tmpdir(), 'peer-bugs-'));
let running;
process.on('exit', () => {
  running?.kill();
  rmSync(copy, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
copySources();

let failures = 0;
for (const bug of chosen) {
  const source = readFileSync(join(root, bug.file), 'utf8');
  const sound = await outcomeOf(bug);
  writeFileSync(join(copy, bug.file), planted(bug, source));
  const since = performance.now();
  const outcome = sound === 'passed' ? await outcomeOf(bug) : undefined;
  writeFileSync(join(copy, bug.file), source);
  const isCaught = outcome === 'failed';
  if (!isCaught) failures += 1;
  const seconds = ((performance.now() - since) / 1_000).toFixed(1);
  const told = isCaught
    ? `caught in ${seconds} s`
    : sound === 'passed'
      ? `NOT CAUGHT: its test ${outcome}`
      : `NOT TRIED: without it, its test ${sound}`;
  console.log(`${bug.name}: ${told}\n  ${bug.test.file}: ${bug.test.title}`);
}
console.log(`\n${chosen.length - failures} of ${chosen.length} bugs were caught by their tests.`);
process.exitCode = failures > 0 ? 1 : 0;

/** Gives what has become of a bug, or of its test, so that it can no longer be planted. */
function faultsOf(bug) {
  const faults = [];
  try {
    planted(bug, readFileSync(join(root, bug.file), 'utf8'));
  } catch (error) {
    faults.push(error.message);
  }
  const { file, title } = bug.test;
  if (!existsSync(join(root, file)) || !readFileSync(join(root, file), 'utf8').includes(`'${title}'`))
    faults.push(`${bug.name}: ${file} has no test '${title}'`);
  return faults;
}

/** Copies what Git knows or would add, as it is in the working tree; packages are shared. */
function copySources() {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root });
  for (const name of new Set(listed.toString().split('\0'))) {
    if (!/^(apps|libs|local|test|web)\/|^[^/]+$/.test(name)) continue;
    mkdirSync(dirname(join(copy, name)), { recursive: true });
    cpSync(join(root, name), join(copy, name));
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  writeFileSync(join(copy, 'test/support/patience.ts'), `jest.setTimeout(${hangsAfterMs});\n`);
}

/**
 * Runs the test of a bug in the copy.
 *
 * @returns `passed`, `failed`, or what became of it otherwise: a suite that does not begin shows nothing of a bug.
 */
async function outcomeOf({ test }) {
  const report = join(copy, 'report.json');
  rmSync(report, { force: true });
  const title = titlePattern(test.title);
  const args = [
    ...['node_modules/jest/bin/jest.js', '--selectProjects', test.level, '--runInBand', '--forceExit', '--silent'],
    ...['--json', '--outputFile', report, '--testNamePattern', `${title}$`, '--runTestsByPath', test.file],
  ];
  running = spawn(process.execPath, args, { cwd: copy, stdio: 'ignore' });
  await once(running, 'exit');
  const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
  const asked = testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter((result) => new RegExp(`^${title}$`).test(result.title));
  if (asked.some(({ status, failureMessages }) => status === 'failed' && failureMessages.length > 0)) return 'failed';
  if (asked.length > 0 && asked.every(({ status }) => status === 'passed')) return 'passed';
  return asked.length === 0 ? 'did not run' : `was ${asked.map(({ status }) => status).join(', ')}`;
}
