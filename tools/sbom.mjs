// Prints the list of the packages that the product is made of and that are installed, in the format of CycloneDX.
//
// `npm sbom --omit dev` fails where the packages of development are not installed, and where they are it leaves out
// what the product needs as well. So npm is shown a project that has never had any.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const read = (name) => JSON.parse(readFileSync(join(root, name), 'utf8'));
const { devDependencies, overrides, ...manifest } = read('package.json');
const lock = read('package-lock.json');
const ofProduct = (record = {}) =>
  Object.fromEntries(Object.entries(record).filter(([name]) => !(name in devDependencies)));

manifest.overrides = ofProduct(overrides);
delete lock.packages[''].devDependencies;
for (const [path, { dev }] of Object.entries(lock.packages))
  if (path !== '' && (dev || !existsSync(join(root, path)))) delete lock.packages[path];

const temporary = mkdtempSync(join(tmpdir(), 'sendmux-sbom-'));
try {
  // npm calls an application by the name of its folder.
  const project = join(temporary, manifest.name);
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(project, 'package-lock.json'), JSON.stringify(lock));
  const options = ['--package-lock-only', '--sbom-format', 'cyclonedx', '--sbom-type', 'application'];
  execFileSync('npm', ['sbom', ...options], { cwd: project, stdio: ['ignore', 'inherit', 'inherit'] });
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
