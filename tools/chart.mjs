// The Helm chart (ops/helm/sendmux-domains) and the image, with Helm, the schemas of Kubernetes and hadolint as
// tools/install-counterparts installs them.
//   node tools/chart.mjs --render          writes what follows from the code: the names of settings and the versions
//                                          in the chart; and the chart as it is rendered with several sets of values
//                                          (ops/helm/rendered.yaml: with none but those that it requires)
//   node tools/chart.mjs --check           ends with 1 when these are others, when `helm lint` or hadolint complain,
//                                          or when one of three releases of Kubernetes would refuse what is rendered.
//                                          Without Helm, sums say whether the renderings are those of the chart
//   node tools/chart.mjs --package FOLDER  packs the chart, with the alarms of ops/prometheus in it
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const {
  callHelm,
  chart,
  generated,
  helm,
  isOfKubernetes,
  judgesAreThere,
  lintDockerfile,
  manifestsOf,
  newestReleases,
  outdated,
  refused,
  render,
  renderings,
  sealed,
  stage,
  stale,
} = typescriptLoader(root)('./test/support/chart.ts');
const [mode, folder] = process.argv.slice(2);

const modes = { '--render': write, '--check': check, '--package': pack };
if (!(mode in modes)) fail('Say --render, --check or --package FOLDER.');
modes[mode]();

function write() {
  for (const [file, text] of generated()) writeFileSync(file, text);
  if (!helm) fail('The chart is not rendered: that needs Helm (tools/install-counterparts --helm).');
  for (const rendering of Object.values(renderings)) {
    mkdirSync(dirname(rendering.file), { recursive: true });
    writeFileSync(rendering.file, renderedNow(rendering));
  }
}

function check() {
  const old = outdated().map((file) => `${file} is not what the code says: npm run chart:render`);
  if (old.length > 0) fail(old.join('\n'));
  const faults = stale().map(
    (file) => `${file} is not of this chart: npm run chart:render, and look at the difference`,
  );
  if (faults.length > 0) fail(faults.join('\n'));
  for (const rendering of helm ? Object.values(renderings) : []) {
    if (renderedNow(rendering) !== readFileSync(rendering.file, 'utf8'))
      faults.push(`${relative(root, rendering.file)} is not what Helm renders: npm run chart:render`);
    const lint = callHelm(
      'lint',
      '--strict',
      '--quiet',
      chart,
      ...rendering.values.flatMap((file) => ['--values', file]),
    );
    if (lint.status !== 0) faults.push(`${lint.stdout}${lint.stderr}`.trim());
  }
  if (judgesAreThere) {
    const manifests = Object.values(renderings).flatMap(({ file }) => manifestsOf(readFileSync(file, 'utf8')));
    faults.push(...refused(manifests.filter(isOfKubernetes), newestReleases(3)));
    for (const file of ['Dockerfile', 'local/postfix/Dockerfile']) {
      const said = lintDockerfile(join(root, file));
      if (said !== '') faults.push(said);
    }
  } else console.log('The chart and the Dockerfiles are not judged: tools/install-counterparts brings what does it.');
  if (faults.length > 0) fail(faults.join('\n'));
}

function pack() {
  if (!folder) fail('Say into which folder: --package FOLDER.');
  if (!helm) fail('The chart cannot be packed: it needs Helm (tools/install-counterparts --helm).');
  const temporary = mkdtempSync(join(tmpdir(), 'sendmux-chart-'));
  const { status, stdout, stderr } = callHelm('package', stage(temporary), '--destination', resolve(folder));
  rmSync(temporary, { recursive: true, force: true });
  if (status !== 0) fail(stderr.trim());
  console.log(stdout.trim());
}

/** Gives what the chart renders now, as it is kept. */
function renderedNow(rendering) {
  const { status, stdout, stderr } = render(rendering.values);
  if (status !== 0) fail(stderr.trim());
  return sealed(stdout, rendering);
}

function fail(why) {
  console.error(why);
  process.exit(1);
}
