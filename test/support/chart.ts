import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { secretSettings, settingNames } from '@app/runtime';

const root = resolve(__dirname, '../..');

/** The chart as it is in the repository. */
export const chart = join(root, 'ops/helm/sendmux-domains');
/** The values without which it refuses to be rendered. */
export const required = join(root, 'ops/helm/required-values.yaml');

/** Gives the path of a counterpart; undefined where it is not installed: tools/install-counterparts. */
function installed(which: '--helm-path' | '--charts'): string | undefined {
  const { stdout } = spawnSync(join(root, 'tools/install-counterparts'), [which], { encoding: 'utf8' });
  return stdout.trim() || undefined;
}

/** The path of Helm; undefined where it is not installed. */
export const helm = installed('--helm-path');
const python = installed('--charts');
/** Whether the schemas of Kubernetes and hadolint are there. */
export const judgesAreThere = python !== undefined;
const hadolint = python && join(python, '../hadolint');

/** An object of Kubernetes, as far as tests look at it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** What a program has said, and how it has ended. */
export interface Said {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(program: string, args: readonly string[], input?: string): Said {
  const { status, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    // Nothing of this machine's own Helm: neither its plugins nor its settings.
    env: { PATH: process.env.PATH, HOME: '/nonexistent', TZ: 'UTC' },
    ...(input !== undefined && { input }),
  });
  return { status, stdout, stderr };
}

/** Runs Helm. */
export const callHelm = (...args: string[]): Said => run(helm!, args);

/** What is rendered does not depend on where that happens. */
const fixed = ['--namespace=mail', '--kube-version=1.37.0'];

/** Renders the chart, or says why not. */
export const render = (
  values: readonly string[],
  { of = chart, as = 'sendmux-domains', set = [] as readonly string[] } = {},
): Said =>
  callHelm(
    'template',
    as,
    of,
    ...fixed,
    ...values.flatMap((file) => ['--values', file]),
    ...set.flatMap((each) => ['--set-json', each]),
  );

/** A set of values, and the file of the repository that has what the chart is with them. */
export interface Rendering {
  readonly values: readonly string[];
  readonly file: string;
}
const withFurther = (name: string): Rendering => ({
  values: [required, join(root, `test/charts/${name}.yaml`)],
  file: join(root, `test/charts/rendered/${name}.yaml`),
});
/** What is kept rendered, so that it can be read and judged where there is no Helm. */
export const renderings = {
  required: { values: [required], file: join(root, 'ops/helm/rendered.yaml') },
  everything: withFurther('everything'),
  'external-lag': withFurther('external-lag'),
  least: withFurther('least'),
} satisfies Record<string, Rendering>;

/**
 * Gives a rendering as it is kept: under a line with the SHA-256 of all that it is made from and of itself. That says
 * without Helm whether it is older than the chart, or was changed by hand.
 *
 * settings.json is not part of it: it follows from the code, and a new setting should not need Helm.
 */
export function sealed(text: string, { values }: Pick<Rendering, 'values'>, of = chart): string {
  const hash = createHash('sha256').update(JSON.stringify(fixed));
  const files = readdirSync(of, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile() && !['settings.json', 'README.md'].includes(each.name))
    .map(({ parentPath, name }) => join(parentPath, name).slice(of.length))
    .sort();
  for (const file of files) hash.update(JSON.stringify([file, readFileSync(join(of, file), 'utf8')]));
  for (const file of values) hash.update(JSON.stringify(readFileSync(file, 'utf8')));
  return `# Written by npm run chart:render. SHA-256 of this and its sources: ${hash.update(text).digest('hex')}\n${text}`;
}

/** Says which renderings are not of the chart as it is now, or have been changed by hand; it does so without Helm. */
export const stale = (of = chart): string[] =>
  Object.values(renderings).flatMap((rendering) => {
    const kept = existsSync(rendering.file) ? readFileSync(rendering.file, 'utf8') : '';
    return sealed(kept.slice(kept.indexOf('\n') + 1), rendering, of) === kept ? [] : [nameOf(rendering.file)];
  });

const nameOf = (file: string) => file.slice(root.length + 1);

/** Gives the objects of what was rendered. */
export const manifestsOf = (text: string): Manifest[] =>
  parseAllDocuments(text).flatMap((document) => (document.toJS() as Manifest | null) ?? []);

/** Gives the newest releases of Kubernetes whose schemas are there. */
export const newestReleases = (count: number): string[] =>
  run(python!, ['-I', '-B', join(root, 'test/charts/validate.py'), '--newest', String(count)])
    .stdout.trim()
    .split('\n');

/** Says whose schema Kubernetes itself does not have. */
export const isOfKubernetes = ({ apiVersion }: Manifest): boolean =>
  !/^[^/]*\.(coreos\.com|sh)\/|^gateway\.networking\.k8s\.io\//.test(apiVersion);

/**
 * Gives what releases of Kubernetes would refuse by their schemas, such as a field that one of them does not know.
 *
 * @throws {Error} where the judge breaks.
 */
export function refused(manifests: readonly Manifest[], releases: readonly string[]): string[] {
  const lines = [...new Set(manifests.map((each) => JSON.stringify(each)))];
  const script = join(root, 'test/charts/validate.py');
  const { status, stdout, stderr } = run(python!, ['-I', '-B', script, ...releases], lines.join('\n'));
  if (status !== 0) throw new Error(`The schemas of Kubernetes cannot be read:\n${stderr}`);
  return stdout.split('\n').filter((line) => line !== '');
}

/** Gives what hadolint says of a Dockerfile. */
export const lintDockerfile = (file: string): string => run(hadolint!, ['--no-color', file]).stdout.trim();

/** Copies the chart into a folder, with the alarms of ops/prometheus in it, where there are some. */
export function stage(folder: string): string {
  const staged = join(folder, basename(chart));
  cpSync(chart, staged, { recursive: true });
  const rules = join(root, 'ops/prometheus/rules');
  if (existsSync(rules)) mkdirSync(join(staged, 'rules'));
  for (const file of existsSync(rules) ? readdirSync(rules).filter((name) => /\.ya?ml$/.test(name)) : [])
    cpSync(join(rules, file), join(staged, 'rules', file));
  return staged;
}

/** The settings that the chart gives by itself. */
const ofChart = ['PORT', 'SENDMUX_DATA_DIR'];
/** The credentials of AWS that are secrets, and that the SDK takes from no file of this kind. */
const credentials = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];

/** Gives the names of all settings, sorted by how the chart treats them: its file settings.json. */
export function settingsOfChart(): Record<'plain' | 'secrets' | 'files' | 'credentials' | 'ofChart', string[]> {
  const secrets: string[] = [...secretSettings];
  const files = settingNames.filter((name) => name.endsWith('_FILE') || name === 'OTEL_EXPORTER_OTLP_CERTIFICATE');
  const others: string[] = [...secrets, ...files, ...credentials, ...ofChart];
  return { plain: settingNames.filter((name) => !others.includes(name)), secrets, files, credentials, ofChart };
}

/** Gives the files of the chart that follow from the code, by their paths. */
export function generated(): ReadonlyMap<string, string> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const about = join(chart, 'Chart.yaml');
  return new Map([
    [join(chart, 'settings.json'), `${JSON.stringify(settingsOfChart(), null, 2)}\n`],
    [about, readFileSync(about, 'utf8').replace(/^(version|appVersion): .*$/gm, `$1: ${version}`)],
  ]);
}

/** Says which of the files that follow from the code are others. */
export const outdated = (): string[] =>
  [...generated()].flatMap(([file, text]) =>
    existsSync(file) && readFileSync(file, 'utf8') === text ? [] : [nameOf(file)],
  );
