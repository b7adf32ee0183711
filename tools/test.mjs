// Runs all checks and tests for `make test`, continues after failures, and ends with a summary of what was run. With
// `--install`, installs the counterparts of the tests while checks and unit tests run, which need none.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const results = 'test-results';
rmSync(results, { recursive: true, force: true });
mkdirSync(results);

/** The checks, each the `name` of an npm script. Each counts as one. */
const checks = ['lint', 'format:check', 'typecheck', 'build', 'boundaries', 'events:check', 'openapi:check'];
/** Those that run before all tests, side by side: tests need what is built. */
const beforeTests = ['build', 'typecheck'];

// Suites with variants, and those that take a part of their cases, take the same ones where they are run again.
process.env.VARIANT ??= String(Date.now() % 1_000);
console.log(`VARIANT=${process.env.VARIANT}`);

const installing = process.argv.includes('--install')
  ? once(spawn('tools/install-counterparts', { stdio: 'inherit' }), 'exit')
  : undefined;
const rows = [];
const skipped = [];
const failures = [];
const flaky = [];
/** How many failed suites of a level are run again. More of them are no accident of the machine. */
const mostAgain = 3;

const byName = new Map();
await Promise.all(beforeTests.map(async (name) => byName.set(name, await check(name))));
const built = byName.get('build').failed === 0;
if (built) writeFileSync('dist/.built', '');
// The other checks only compute, which they may do whenever the tests wait.
const checking = checkOneByOne(checks.filter((name) => !beforeTests.includes(name)));
const levels = [await jest('unit')];
if (installing) {
  console.log('\n── waiting for the counterparts');
  await installing;
}
const counterparts = spawnSync('tools/install-counterparts', ['--check'], { encoding: 'utf8' });
for (const level of ['integration', 'system']) levels.push(await jest(level));
await checking;
rows.push(...checks.map((name) => byName.get(name)), ...levels);

const width = Math.max(...rows.map(({ name }) => name.length));
console.log('\n');
for (const { name, passed, failed, skips, seconds } of rows)
  console.log(
    [
      `  ${name.padEnd(width)}`,
      `${String(passed).padStart(5)} passed`,
      `${String(failed).padStart(3)} failed`,
      skips ? `${String(skips).padStart(3)} skipped` : '           ',
      `${seconds.toFixed(1).padStart(7)} s`,
    ].join('  '),
  );
if (skipped.length > 0) {
  console.log(`\nSkipped:\n${skipped.map((name) => `  ${name}`).join('\n')}`);
  if (counterparts.status !== 0) console.log(counterparts.stderr.trim());
}
const judged = `${results}/judges.txt`;
if (existsSync(judged)) console.log(`\nJudged by other implementations:\n${indented(readFileSync(judged, 'utf8'))}`);
if (flaky.length > 0) console.log(`\nFailed, and passed when run again:\n${indented(flaky.join('\n'))}`);
// The failures come last, since a CI system may keep only the end of the output.
if (failures.length > 0) console.log(`\nFailed:\n${indented(failures.join('\n'))}`);
const sum = (of) => rows.reduce((total, row) => total + row[of], 0);
const [passed, failed] = [sum('passed'), sum('failed')];
const line = `${passed} passed, ${failed} failed`;
writeFileSync(`${results}/summary.txt`, `${line}\n`);
console.log(`\n${line}`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);

function indented(text) {
  return text.trim().replace(/^/gm, '  ');
}

/** Gives the first lines of a failure, without colours: enough to know it by, where the whole output is not at hand. */
function reason(message) {
  const lines = stripVTControlCharacters(message).split('\n');
  return lines
    .filter((line) => line.trim() !== '')
    .slice(0, 8)
    .map((line) => `\n    ${line.trim().slice(0, 200)}`)
    .join('');
}

async function run(command, args) {
  const since = performance.now();
  const [status] = await once(spawn(command, args, { stdio: 'inherit' }), 'close');
  return { status, seconds: secondsSince(since) };
}

function secondsSince(since) {
  return (performance.now() - since) / 1000;
}

/** Runs checks one after the other, mostly on what the tests leave of the processors. */
async function checkOneByOne(names) {
  for (const name of names) byName.set(name, await check(name, ['nice', '-n', '10']));
}

/** Runs a check, and prints what it said when it has ended. */
async function check(name, by = []) {
  const since = performance.now();
  const [command, ...args] = [...by, 'npm', 'run', '--silent', name];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const output of [child.stdout, child.stderr]) output.setEncoding('utf8').on('data', (text) => (said += text));
  const [status] = await once(child, 'close');
  console.log(`\n── ${name}\n${said}`.trimEnd());
  if (status !== 0) failures.push(name);
  return { name, passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skips: 0, seconds: secondsSince(since) };
}

async function jest(level) {
  console.log(`\n── ${level} tests`);
  if (level === 'system' && !built) {
    console.log('The build failed: there are no processes to test.');
    return { name: level, passed: 0, failed: 1, skips: 0, seconds: 0 };
  }
  const first = await runSuites(level, level);
  const broken = first.suites.filter(isBroken);
  // A run can fail for other reasons than its tests, such as the stop of the database that they share.
  if (broken.length === 0) return count(level, first.suites, first.status === 0 ? 0 : 1, first.seconds);

  if (broken.length > mostAgain) {
    failures.push(...broken.flatMap(reasons));
    return count(level, first.suites, 0, first.seconds);
  }
  console.log(`\n── ${level} tests that failed, again`);
  const again = await runSuites(
    level,
    `${level}-again`,
    broken.map(({ name }) => relative('.', name)),
  );
  const second = new Map(again.suites.map((suite) => [suite.name, suite]));
  for (const suite of broken) {
    const result = second.get(suite.name) ?? suite;
    if (isBroken(result)) failures.push(...reasons(result));
    else flaky.push(...reasons(suite));
  }
  const suites = first.suites.map((suite) => second.get(suite.name) ?? suite);
  return count(level, suites, 0, first.seconds + again.seconds);
}

/** Runs the suites of a level, all of them unless `args` names some. */
async function runSuites(level, name, args = []) {
  const file = `${results}/${name}.json`;
  const output = ['--json', `--outputFile=${file}`];
  const { status, seconds } = await run('npm', ['run', '--silent', `test:${level}`, '--', ...output, ...args]);
  return { status, seconds, suites: existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).testResults : [] };
}

function isBroken({ status }) {
  return status === 'failed';
}

/** Names each failed test of a suite with the first lines of its reason. */
function reasons({ name, assertionResults, message }) {
  const suite = relative('.', name);
  const failed = assertionResults.filter(({ status }) => status === 'failed');
  if (failed.length === 0) return [`${suite} could not be run${reason(message)}`];
  return failed.map(({ fullName, failureMessages }) => `${suite}: ${fullName}${reason(failureMessages.join('\n'))}`);
}

function count(level, suites, others, seconds) {
  const tests = suites.flatMap(({ assertionResults }) => assertionResults);
  const of = (outcome) => tests.filter(({ status }) => status === outcome).length;
  for (const { status, fullName } of tests) if (status === 'pending') skipped.push(`${level}: ${fullName}`);
  // A suite that fails to load has no test to count.
  const notLoaded = suites.filter((suite) => isBroken(suite) && !hasFailedTest(suite)).length;
  const failed = of('failed') + notLoaded + others;
  return { name: level, passed: of('passed'), failed, skips: of('pending'), seconds };
}

function hasFailedTest({ assertionResults }) {
  return assertionResults.some(({ status }) => status === 'failed');
}
