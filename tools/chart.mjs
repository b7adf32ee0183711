// The Helm chart (ops/helm/sendmux-domains) and the image, with Helm, the schemas of Kubernetes and hadolint as
// tools/install-counterparts installs them.
//   node tools/chart.mjs --render          writes what follows from the code: the names of settings and the versions
//                                          in the chart, and ops/helm/rendered.yaml, which is the chart with no
//                                          values but those that it requires
//   node tools/chart.mjs --check           ends with 1 when these are others, when `helm lint` or hadolint complain,
//                                          or when one of three releases of Kubernetes would refuse what is rendered
//   node tools/chart.mjs --package FOLDER  packs the chart, with the alarms of ops/prometheus in it
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const {
  areThere,
  callHelm,
  chart,
  generated,
  helm,
  isOfKubernetes,
  lintDockerfile,
  manifestsOf,
  newestReleases,
  outdated,
  refused,
  render,
  required,
  stage,
} = typescriptLoader(root)('./test/support/chart.ts');
const rendered = join(root, 'ops/helm/rendered.yaml');
const [mode, folder] = process.argv.slice(2);

const modes = { '--render': write, '--check': check, '--package': pack };
if (!(mode in modes)) fail('Say --render, --check or --package FOLDER.');
modes[mode]();

function write() {
  for (const [file, text] of generated()) writeFileSync(file, text);
  if (!helm) fail('ops/helm/rendered.yaml is not written: it needs Helm (tools/install-counterparts).');
  writeFileSync(rendered, renderedNow());
}

function check() {
  const old = outdated().map((file) => `${file} is not what the code says: npm run chart:render`);
  if (old.length > 0) fail(old.join('\n'));
  const faults = [];
  if (areThere) {
    const text = renderedNow();
    if (text !== readFileSync(rendered, 'utf8'))
      faults.push(
        'ops/helm/rendered.yaml is not what the chart renders: npm run chart:render, and look at the difference',
      );
    const lint = callHelm('lint', '--strict', '--quiet', chart, '--values', required);
    if (lint.status !== 0) faults.push(`${lint.stdout}${lint.stderr}`.trim());
    faults.push(...refused(manifestsOf(text).filter(isOfKubernetes), newestReleases(3)));
    for (const file of ['Dockerfile', 'local/postfix/Dockerfile']) {
      const said = lintDockerfile(join(root, file));
      if (said !== '') faults.push(said);
    }
  } else
    console.log(
      'The chart is not rendered and the Dockerfiles are not judged: tools/install-counterparts brings what does it.',
    );
  if (faults.length > 0) fail(faults.join('\n'));
}

function pack() {
  if (!folder) fail('Say into which folder: --package FOLDER.');
  if (!helm) fail('The chart cannot be packed: it needs Helm (tools/install-counterparts).');
  const temporary = mkdtempSync(join(tmpdir(), 'sendmux-chart-'));
  const { status, stdout, stderr } = callHelm('package', stage(temporary), '--destination', resolve(folder));
  rmSync(temporary, { recursive: true, force: true });
  if (status !== 0) fail(stderr.trim());
  console.log(stdout.trim());
}

/** Gives what the chart renders now, with the values that it requires. */
function renderedNow() {
  const { status, stdout, stderr } = render([required]);
  if (status !== 0) fail(stderr.trim());
  return stdout;
}

function fail(why) {
  console.error(why);
  process.exit(1);
}
