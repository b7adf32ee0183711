// `make test`: runs everything, goes on after a failure, and ends with what really ran.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

const results = 'test-results';
rmSync(results, { recursive: true, force: true });
mkdirSync(results);

/** Each check counts as one: `name` of `scripts` in the package.json. */
const checks = ['format:check', 'lint', 'typecheck', 'boundaries', 'events:check', 'build'];
const levels = ['unit', 'integration', 'system'];

const counterparts = spawnSync('tools/install-counterparts', ['--check'], { encoding: 'utf8' });
const rows = [];
const skipped = [];

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
const sum = (of) => rows.reduce((total, row) => total + row[of], 0);
const [passed, failed] = [sum('passed'), sum('failed')];
const line = `${passed} passed, ${failed} failed`;
writeFileSync(`${results}/summary.txt`, `${line}\n`);
console.log(`\n${line}`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);

function run(command, args) {
  const since = performance.now();
  const { status } = spawnSync(command, args, { stdio: 'inherit' });
  return { status, seconds: (performance.now() - since) / 1000 };
}

function check(name) {
  console.log(`\n── ${name}`);
  const { status, seconds } = run('npm', ['run', '--silent', name]);
  if (status === 0 && name === 'build') writeFileSync('dist/.built', '');
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
  for (const { assertionResults } of report.testResults)
    for (const { status: outcome, fullName } of assertionResults)
      if (outcome === 'pending') skipped.push(`${level}: ${fullName}`);
  // A file that does not load has no tests to count, and a run can fail beside its tests.
  const failed = report.numFailedTests + report.numRuntimeErrorTestSuites;
  return {
    name: level,
    passed: report.numPassedTests,
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skips: report.numPendingTests,
    seconds,
  };
}
