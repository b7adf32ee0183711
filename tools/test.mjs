// Runs all checks and tests for `make test`, continues after failures, and ends with a summary of what was run.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const results = 'test-results';
rmSync(results, { recursive: true, force: true });
mkdirSync(results);

/** The checks, each the `name` of an npm script. Each counts as one. */
const checks = ['format:check', 'lint', 'typecheck', 'boundaries', 'events:check', 'openapi:check', 'build'];
const levels = ['unit', 'integration', 'system'];

const counterparts = spawnSync('tools/install-counterparts', ['--check'], { encoding: 'utf8' });
const rows = [];
const skipped = [];
const failures = [];

for (const name of checks) rows.push(check(name));
const built = rows.at(-1).failed === 0;
for (const level of levels) rows.push(jest(level));

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
if (failures.length > 0) console.log(`\nFailed:\n${indented(failures.join('\n'))}`);
const judged = `${results}/judges.txt`;
if (existsSync(judged)) console.log(`\nJudged by other implementations:\n${indented(readFileSync(judged, 'utf8'))}`);
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

function run(command, args) {
  const since = performance.now();
  const { status } = spawnSync(command, args, { stdio: 'inherit' });
  return { status, seconds: (performance.now() - since) / 1000 };
}

function check(name) {
  console.log(`\n── ${name}`);
  const { status, seconds } = run('npm', ['run', '--silent', name]);
  if (status === 0 && name === 'build') writeFileSync('dist/.built', '');
  if (status !== 0) failures.push(name);
  return { name, passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skips: 0, seconds };
}

function jest(level) {
  console.log(`\n── ${level} tests`);
  if (level === 'system' && !built) {
    console.log('The build failed: there are no processes to test.');
    return { name: level, passed: 0, failed: 1, skips: 0, seconds: 0 };
  }
  const file = `${results}/${level}.json`;
  const { status, seconds } = run('npm', ['run', '--silent', `test:${level}`, '--', '--json', `--outputFile=${file}`]);
  if (!existsSync(file)) return { name: level, passed: 0, failed: 1, skips: 0, seconds };
  const report = JSON.parse(readFileSync(file, 'utf8'));
  for (const { name, assertionResults, message } of report.testResults) {
    const suite = relative('.', name);
    for (const { status: outcome, fullName, failureMessages } of assertionResults) {
      if (outcome === 'pending') skipped.push(`${level}: ${fullName}`);
      if (outcome === 'failed') failures.push(`${suite}: ${fullName}${reason(failureMessages.join('\n'))}`);
    }
    if (assertionResults.length === 0) failures.push(`${suite} could not be run${reason(message)}`);
  }
  // A test file that fails to load has no tests to count, and a run can fail for other reasons than its tests.
  const failed = report.numFailedTests + report.numRuntimeErrorTestSuites;
  return {
    name: level,
    passed: report.numPassedTests,
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skips: report.numPendingTests,
    seconds,
  };
}
