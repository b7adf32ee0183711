/**
 * Runs each part of the life of a domain once for each message that the apps exchange with what they speak with, with a
 * fault at that message, and looks at the invariants afterwards. `docs/invariants.md` says how it is used.
 */
import { fork, type ChildProcess } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startEmbeddedPostgres } from '../../local/embedded-postgres';
import { numbers } from '../support/numbers';
import { caseOf, casesOf, isDistinct, textOf } from './cases';
import { scenarioNames, type ScenarioName } from './scenarios';
import type { Done, Job } from './work';

const { values: options } = parseArgs({
  options: {
    case: { type: 'string' },
    sample: { type: 'string' },
    seed: { type: 'string', default: '23' },
    seconds: { type: 'string', default: 'Infinity' },
    scenario: { type: 'string', multiple: true },
    // One scenario, by the seed: to count the messages of all takes longer than a sample of them.
    one: { type: 'boolean', default: false },
    match: { type: 'string', default: '' },
    workers: { type: 'string', default: String(Math.min(4, availableParallelism())) },
    lanes: { type: 'string', default: '4' },
    again: { type: 'boolean', default: false },
  },
});
const seed = Number(options.seed);
const lanes = Number(options.lanes);
const directory = resolve('test-results/proof');
const run = [seed, ...(options.scenario ?? [])].join('-');
const files = { cases: join(directory, `cases-${run}.txt`), runs: join(directory, `runs-${run}.ndjson`) };
/** Runs without a fault by which the messages of a scenario are counted, after one that warms everything up. */
const countingRuns = options.sample === undefined ? 3 : 1;

const say = (text: string) => process.stdout.write(`${text}\n`);

/** Runs jobs on worker processes, as many at once as there are lanes. */
class Workers {
  private readonly children: ChildProcess[];
  private asked = 0;

  constructor(count: number) {
    this.children = Array.from({ length: count }, () =>
      fork(join(__dirname, 'work.js'), [String(lanes)], {
        execArgv: ['--enable-source-maps', '--max-old-space-size=1500'],
        env: { ...process.env, AWS_ACCESS_KEY_ID: 'sandbox', AWS_SECRET_ACCESS_KEY: 'sandbox' },
      }),
    );
  }

  /** Takes jobs from the list until it is empty or the time is over, and gives each result to `on`. */
  async run(jobs: readonly Omit<Job, 'id'>[], on: (done: Done) => void, giveUpAt = Infinity): Promise<void> {
    let next = 0;
    await Promise.all(
      this.children.flatMap((child) =>
        Array.from({ length: lanes }, async () => {
          while (next < jobs.length && performance.now() < giveUpAt)
            on(await ask(child, { ...jobs[next++]!, id: this.asked++ }));
        }),
      ),
    );
  }

  async end(): Promise<void> {
    await Promise.all(
      this.children.map(async (child) => {
        if (child.exitCode !== null) return;
        const ended = new Promise((done) => child.once('exit', done));
        setTimeout(() => child.kill('SIGKILL'), 40_000).unref();
        child.send('end');
        await ended;
      }),
    );
  }
}

function ask(child: ChildProcess, job: Job): Promise<Done> {
  return new Promise((done, failed) => {
    const onMessage = (message: Done) => {
      if (message.job.id !== job.id) return;
      child.off('message', onMessage).off('exit', onExit);
      done(message);
    };
    const onExit = () => failed(new Error(`A worker has ended while it ran ${JSON.stringify(job)}`));
    child.setMaxListeners(0).on('message', onMessage).once('exit', onExit);
    child.send(job);
  });
}

/** Shuffles by the seed alone, so that a part of the list is a fair sample of all of it. */
function shuffled<T>(items: readonly T[], next: () => number): T[] {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all;
}

/** Puts the cases into an order by the seed, in which those come first of which each leaves another state. */
function ordered(cases: readonly string[]): string[] {
  const all = shuffled(cases, numbers(seed));
  return [true, false].flatMap((isFirst) => all.filter((text) => isDistinct(caseOf(text)) === isFirst));
}

/** Counts the messages of each scenario, and gives all cases; undefined where one fails without a fault. */
async function allCases(workers: Workers, names: readonly ScenarioName[]): Promise<string[] | undefined> {
  const counts = new Map<ScenarioName, Map<string, number>[]>();
  let failed: Omit<Job, 'id'>[] = [];
  const count = async (jobs: readonly Omit<Job, 'id'>[]) => {
    failed = [];
    await workers.run(jobs, ({ job, violations, counts: counted }) => {
      if (violations.length > 0) {
        failed.push({ scenario: job.scenario! });
        say(`${job.scenario} fails without a fault:\n${violations.join('\n')}`);
      } else counts.set(job.scenario!, [...(counts.get(job.scenario!) ?? []), new Map(counted)]);
    });
  };
  const times = Array.from({ length: countingRuns + 1 });
  await count([...names, 'rest' as const].flatMap((scenario) => times.map(() => ({ scenario }))));
  // As a case that fails, each is run again, on a world that is new.
  if (failed.length > 0) await count(failed);
  if (failed.length > 0) return undefined;
  const atRest = new Map(counts.get('rest')!.flatMap((each) => [...each]));
  const cases = names.flatMap((scenario) => {
    const found = casesOf(scenario, counts.get(scenario)!.slice(1), atRest);
    const messages = new Set(found.map(({ message, nth }) => `${message} ${nth}`));
    const distinct = found.filter(isDistinct).length;
    say(`${scenario}: ${messages.size} messages, ${found.length} cases, of which ${distinct} come first`);
    return found;
  });
  return cases.map(textOf);
}

async function main(): Promise<number> {
  mkdirSync(directory, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), 'sendmux-prove-'));
  chmodSync(scratch, 0o755);
  const server = process.env.TEST_DATABASE_URL
    ? undefined
    : await startEmbeddedPostgres(join(scratch, 'postgres'), { max_connections: '1800', fsync: 'off' });
  if (server) process.env.TEST_DATABASE_URL = await server.database('admin');
  const workers = new Workers(options.case === undefined ? Number(options.workers) : 1);
  try {
    if (options.case !== undefined) return await runAlone(workers, options.case);
    return await runMany(workers);
  } finally {
    await workers.end();
    await server?.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function runAlone(workers: Workers, text: string): Promise<number> {
  let status = 1;
  await workers.run([{ case: text }], ({ violations, isReached, ms }) => {
    say(`${text}\n${isReached ? 'The fault happened' : 'The message did not come'}; ${ms} ms`);
    say(violations.length > 0 ? violations.join('\n') : 'All invariants hold.');
    status = violations.length > 0 ? 1 : 0;
  });
  return status;
}

async function runMany(workers: Workers): Promise<number> {
  const names = options.one
    ? [scenarioNames[seed % scenarioNames.length]!]
    : ((options.scenario as ScenarioName[] | undefined) ?? scenarioNames);
  const isSample = options.sample !== undefined;
  say(`Seed ${seed}`);
  if (options.again) for (const file of Object.values(files)) rmSync(file, { force: true });
  let cases: string[] | undefined;
  if (!isSample && existsSync(files.cases)) cases = readFileSync(files.cases, 'utf8').trim().split('\n');
  else {
    const all = await allCases(workers, names);
    if (!all) return 1;
    cases = ordered(all).slice(0, isSample ? Number(options.sample) : undefined);
    if (!isSample) writeFileSync(files.cases, `${cases.join('\n')}\n`);
  }
  const before = !isSample && existsSync(files.runs) ? readFileSync(files.runs, 'utf8').trim().split('\n') : [];
  const ran = new Set(before.filter(Boolean).map((line) => (JSON.parse(line) as { case: string }).case));
  const jobs = cases.filter((each) => !ran.has(each) && each.includes(options.match)).map((each) => ({ case: each }));
  const distinct = cases.filter((each) => isDistinct(caseOf(each))).length;
  say(`${cases.length} cases, of which ${distinct} come first and ${ran.size} were run before`);

  const begun = performance.now();
  const tally = { runs: 0, reached: 0, failed: 0 };
  let toldAt = 0;
  const giveUpAt = begun + 1_000 * Number(options.seconds);
  const onDone = ({ job, isReached, violations, ms, repeats }: Done) => {
    tally.runs++;
    if (isReached) tally.reached++;
    if (violations.length > 0) {
      tally.failed++;
      say(`\nFAILED ${repeats ? 'twice' : 'once of two runs'}: ${job.case}\n${violations.join('\n').slice(0, 4_000)}`);
      say(`Run it again: make prove CASE='${job.case}'\n`);
    }
    if (!isSample)
      appendFileSync(files.runs, `${JSON.stringify({ case: job.case, isReached, violations, ms, repeats })}\n`);
    const seconds = (performance.now() - begun) / 1_000;
    if (seconds - toldAt > 15) {
      toldAt = seconds;
      say(
        `${tally.runs} of ${jobs.length} runs, ${tally.failed} failed, ${(tally.runs / seconds).toFixed(2)} a second`,
      );
    }
  };
  await workers.run(jobs, onDone, giveUpAt);
  const left = jobs.length - tally.runs;
  say(
    `Message boundaries: seed ${seed}, ${tally.runs} runs in ${Math.round((performance.now() - begun) / 1_000)} s, ` +
      `the fault happened in ${tally.reached}, ${tally.failed} failed, ${left} cases left`,
  );
  return tally.failed > 0 ? 1 : 0;
}

void main().then((status) => process.exit(status));
