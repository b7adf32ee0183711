// Asks the registry of npm about the packages of package-lock.json, without installing anything:
//   faults      which of them have known faults (advisories), those of development included
//   signatures  whether the installed ones are signed by the registry, and attested where they say so
// Arguments name what to ask; both without any. A registry that does not answer says nothing about the packages, and
// this says so: with `--strict`, as a release is made, that is a failure too.
// Exit status: 0 nothing is known, 1 something is, 2 not answered and `--strict`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
/** Milliseconds for one question. npm itself would try again for minutes. */
const withinMs = 60_000;
const onceOnly = ['--fetch-retries=0', '--fetch-timeout=20000', '--no-update-notifier'];

const count = Object.keys(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages).length - 1;

/** Runs `npm audit …`, and gives its status and what it has written. */
async function audit(...args) {
  const npm = spawn('npm', ['audit', ...args, '--json', ...onceOnly], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const timer = setTimeout(() => npm.kill(), withinMs);
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) npm[name].setEncoding('utf8').on('data', (text) => (texts[name] += text));
  const [status] = await once(npm, 'close');
  clearTimeout(timer);
  return { status, ...texts };
}

/** Gives the document of an answer; undefined where npm has written none. */
function documentOf({ stdout }) {
  try {
    return JSON.parse(stdout);
  } catch {
    return undefined;
  }
}

/** Gives why there is no answer, on one line: of a document of npm, or else of what it has written beside. */
const whyNot = (document, { stderr }) =>
  String(document?.message ?? document?.error?.summary ?? /error network (.*)/.exec(stderr)?.[1] ?? 'no answer in time')
    .split('\n')[0]
    .replace(/https?:\/\/\S+/, 'it');

async function faults() {
  const answer = await audit();
  const document = documentOf(answer);
  const found = document?.vulnerabilities;
  if (!found) return { what: 'known faults', unanswered: whyNot(document, answer) };
  const told = Object.values(found).flatMap(({ name, via }) =>
    // A package that only needs a faulty one has a name here, and no advisory.
    via.flatMap((each) =>
      typeof each === 'string' ? [] : [`${name} ${each.range}: ${each.severity}, ${each.title} (${each.url})`],
    ),
  );
  return { what: 'known faults', found: told };
}

async function signatures() {
  const answer = await audit('signatures');
  const document = documentOf(answer);
  if (!document?.invalid || !document.missing)
    return { what: 'wrong or missing signatures', unanswered: whyNot(document, answer) };
  const told = (list, how) => list.map(({ name, version }) => `${name} ${version}: ${how}`);
  const found = [
    ...told(document.invalid, 'its signature or attestation is wrong'),
    ...told(document.missing, 'it is not signed'),
  ];
  return { what: 'wrong or missing signatures', found };
}

const questions = { faults, signatures };
const args = process.argv.slice(2);
const isStrict = args.includes('--strict');
const named = args.filter((each) => each !== '--strict');
const unknown = named.filter((each) => !Object.hasOwn(questions, each));
if (unknown.length > 0) {
  console.error(`There is nothing to ask that is called ${unknown.join(', ')}: ${Object.keys(questions).join(', ')}.`);
  process.exit(2);
}
let status = 0;
for (const name of named.length > 0 ? named : Object.keys(questions)) {
  const { what, found, unanswered } = await questions[name]();
  if (unanswered !== undefined) {
    console.log(
      `Not answered: the registry says nothing of ${what} (${unanswered}). Ask again where it can be reached.`,
    );
    if (isStrict && status === 0) status = 2;
  } else if (found.length === 0) console.log(`None of ${count} packages has ${what}.`);
  else {
    console.log(`These have ${what}:\n${found.map((line) => `  ${line}`).join('\n')}`);
    status = 1;
  }
}
process.exitCode = status;
