// Runs Stryker over the libs that are named, all without any, in a copy of the sources (docs/mutants.md): changes one
// thing after another in them, and looks whether a test that reaches it fails. Says which changes no test has noticed,
// but for those that tools/mutants/survivors.json gives a reason for.
//   --part TEXT   only the files whose path has that text
//   --sample N    only N of a hundred lines, chosen by --seed: enough to know the share, where all take hours
//   --no-texts    leaves out the texts that are made empty, which are half of all changes in libs/mail-records
// Exit status: 0 less than a tenth survives and each survivor has a reason, 1 otherwise.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const own = join(import.meta.dirname, 'mutants');
const results = join(root, 'test-results/mutants');
/** The share of mutants that has to be killed. */
const wanted = 0.9;

/**
 * The tests that may notice a mutant, those that decide most first: some rules of a lib are shown where they are used.
 * The first test that fails is the last one that runs.
 */
const libs = {
  cycle: { tests: ['libs/cycle/*.spec.ts'] },
  'mail-domain': { tests: ['libs/mail-domain/*.spec.ts', 'libs/mailbox/sender-rules.spec.ts'] },
  mailbox: { tests: ['libs/mailbox/*.spec.ts'] },
  decider: { tests: ['libs/decider/*.spec.ts'] },
  'mail-records': {
    tests: [
      ...['checks/merge', 'judge', 'explain', 'plan', 'zone-file', '*'].map(
        (name) => `libs/mail-records/${name}.spec.ts`,
      ),
      ...['advice', 'verifier', 'canary'].map((name) => `libs/verification/${name}.spec.ts`),
      'libs/mail-domain/mail-domain.spec.ts',
    ],
    // It takes 15 seconds, and would be run for each mutant that no other test kills.
    leftOut: ['N2: what a zone puts into an event and an answer is bounded whatever the answers have'],
  },
  tasks: { tests: ['libs/tasks/*.spec.ts'] },
  // Those with a real Kafka begin with a broker, and take minutes.
  messaging: { tests: ['libs/messaging/*.spec.ts'], without: /kafka-(transport|drivers|security)\.integration/ },
  'event-store': { tests: ['libs/event-store/*.spec.ts'] },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string', default: '100' },
    seed: { type: 'string', default: '31' },
    part: { type: 'string', default: '' },
    'no-texts': { type: 'boolean', default: false },
  },
});
const unknown = positionals.filter((name) => !Object.hasOwn(libs, name));
if (unknown.length > 0) {
  console.error(`There are no tests named for ${unknown.join(', ')}: ${Object.keys(libs).join(', ')}.`);
  process.exit(1);
}
const stryker = await installed();
const reasons = JSON.parse(readFileSync(join(own, 'survivors.json'), 'utf8'));
const work = mkdtempSync(join(tmpdir(), 'mutants-'));
let running;
process.on('exit', () => {
  running?.kill();
  rmSync(work, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
mkdirSync(results, { recursive: true });

let isSound = true;
for (const lib of positionals.length > 0 ? positionals : Object.keys(libs)) isSound = (await run(lib)) && isSound;
process.exit(isSound ? 0 : 1);

/** Gives the program of Stryker, which is installed into the user's cache by its own lock file where it is missing. */
async function installed() {
  const lock = readFileSync(join(own, 'package-lock.json'));
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'sendmux-domains');
  const home = join(cache, `stryker-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`);
  if (!existsSync(home)) {
    mkdirSync(cache, { recursive: true });
    const fresh = mkdtempSync(`${home}.`);
    for (const name of ['package.json', 'package-lock.json']) cpSync(join(own, name), join(fresh, name));
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier'];
    const [status] = await once(spawn('npm', args, { cwd: fresh, stdio: 'inherit' }), 'exit');
    if (status !== 0) process.exit(1);
    renameSync(fresh, home);
  }
  return join(home, 'node_modules/@stryker-mutator/core/bin/stryker.js');
}

/** Runs one lib, and tells what has survived; gives whether nothing is left to be done about it. */
async function run(lib) {
  const { tests, leftOut = [], without } = libs[lib];
  const isIntegration = (name) => name.includes('.integration.');
  const files = [...new Set(tests.flatMap((pattern) => globSync(pattern, { cwd: root }).sort()))]
    .filter((name) => !name.includes('bounded-time') && !without?.test(name))
    .sort((a, b) => isIntegration(a) - isIntegration(b));
  // What a migration has done to a database is never changed: other tests hold that by checksums.
  const sources = globSync(`libs/${lib}/**/*.ts`, { cwd: root }).filter(
    (name) => !/\.spec\.ts$|\.migration\.ts$|\/(migrations|index)\.ts$/.test(name) && name.includes(values.part),
  );
  const report = join(work, `${lib}.json`);
  const config = {
    plugins: [join(own, 'runner.mjs')],
    testRunner: 'circus',
    circus: { files, mutated: sources, leftOut },
    mutate: sources.flatMap(sampleOf),
    mutator: { excludedMutations: values['no-texts'] ? ['StringLiteral'] : [] },
    coverageAnalysis: 'perTest',
    concurrency: 1,
    ignorePatterns: [
      '**',
      ...['libs', 'apps', 'test', 'local', 'docs'].flatMap((name) => [`!${name}`, `!${name}/**`]),
      '!*.*',
    ],
    tempDirName: join(work, 'tmp'),
    reporters: ['json', 'progress-append-only'],
    jsonReporter: { fileName: report },
    timeoutMS: 10_000,
    timeoutFactor: 2,
    dryRunTimeoutMinutes: 30,
    // The runner compiles by itself: there is no file of this name to be changed.
    tsconfigFile: 'none.json',
    disableTypeChecks: false,
    warnings: false,
  };
  writeFileSync(join(work, 'config.json'), JSON.stringify(config));
  const postgres = files.some(isIntegration) ? await startPostgres() : undefined;
  try {
    const args = [stryker, 'run', join(work, 'config.json')];
    const env = { ...process.env, ...(postgres && { TEST_DATABASE_URL: await postgres.database('admin') }) };
    running = spawn(process.execPath, args, { cwd: root, stdio: 'inherit', env });
    const [status] = await once(running, 'exit');
    if (status !== 0) return false;
  } finally {
    await postgres?.stop();
  }
  cpSync(report, join(results, `${lib}.json`));
  return tell(lib, JSON.parse(readFileSync(report, 'utf8')));
}

/** Gives the lines of a source that are in the sample, as Stryker has them; the source where all are. */
function sampleOf(name) {
  const share = Number(values.sample) / 100;
  if (share >= 1) return [name];
  const inSample = (line) =>
    createHash('sha256').update(`${values.seed} ${name} ${line}`).digest().readUInt32BE() < share * 2 ** 32;
  return readFileSync(join(root, name), 'utf8')
    .split('\n')
    .flatMap((text, i) => (inSample(i + 1) ? [`${name}:${i + 1}:0-${i + 1}:${text.length}`] : []));
}

async function startPostgres() {
  const { startEmbeddedPostgres } = typescriptLoader(root)('./local/embedded-postgres.ts');
  return startEmbeddedPostgres(join(work, 'postgres'), { max_connections: '500', fsync: 'off' });
}

function tell(lib, { files }) {
  const all = Object.entries(files).flatMap(([file, { source, mutants }]) =>
    mutants.map((mutant) => ({ ...mutant, file, text: textOf(source, mutant.location) })),
  );
  const alive = all.filter(({ status }) => status === 'Survived' || status === 'NoCoverage');
  const given = reasons.filter(({ file }) => file.startsWith(`libs/${lib}/`));
  const isOf = (mutant) => (reason) =>
    reason.file === mutant.file && reason.text === mutant.text && reason.instead === mutant.replacement;
  const open = alive.filter((mutant) => !given.some(isOf(mutant)));
  for (const { file, location, mutatorName, text, replacement, status } of open) {
    const how = status === 'NoCoverage' ? 'no test reaches it' : 'no test fails';
    console.log(`${file}:${location.start.line} ${mutatorName}, ${how}:\n  - ${text}\n  + ${replacement}`);
  }
  for (const reason of given.filter((each) => !alive.some((mutant) => isOf(mutant)(each))))
    if (reason.file.includes(values.part)) console.log(`${reason.file}: no longer survives: ${reason.text}`);
  const killed = all.length - alive.length;
  const share = ((killed / all.length) * 100).toFixed(1);
  console.log(
    `${lib}: ${killed} of ${all.length} mutants killed (${share} %); ${alive.length} survive, ${open.length} without a reason.\n`,
  );
  return killed >= wanted * all.length && open.length === 0;
}

/** Gives the text of a source that a mutant replaces. */
function textOf(source, { start, end }) {
  const lines = source.split('\n').slice(start.line - 1, end.line);
  lines[lines.length - 1] = lines.at(-1).slice(0, end.column - 1);
  lines[0] = lines[0].slice(start.column - 1);
  return lines.join('\n');
}
