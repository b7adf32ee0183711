import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Release } from '@app/database';

const root = resolve(__dirname, '../..');

/** Whether the history of this checkout has the commit of a release. A shallow clone does not. */
export const isInHistory = ({ commit }: Release): boolean =>
  commit !== undefined && spawnSync('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: root }).status === 0;

/** A build of an earlier release. */
export interface ReleaseBuild {
  /** The folder with `apps`, as `dist` is of this release. */
  readonly dist: string;
  remove(): void;
}

/**
 * Builds a release from its commit, as `make build` did. The build is kept in the cache of the counterparts, so that a
 * machine pays once for it. It runs on the packages of this checkout where those have not changed, else on its own.
 *
 * @throws {Error} with what the build said, when it fails.
 */
export function buildRelease({ commit }: Release): ReleaseBuild {
  const cache = join(homedir(), '.cache/sendmux-domains');
  const kept = join(cache, `release-${commit!.slice(0, 12)}`);
  if (!existsSync(kept)) {
    mkdirSync(cache, { recursive: true });
    const source = mkdtempSync(join(cache, 'release-making-'));
    try {
      run(root, 'sh', ['-c', `git archive ${commit} | tar -x -C "${source}"`]);
      if (hasSamePackages(source)) symlinkSync(join(root, 'node_modules'), join(source, 'node_modules'));
      else run(source, 'npm', ['ci', '--no-audit', '--no-fund', '--no-update-notifier']);
      run(source, 'npm', ['run', '--silent', 'build']);
      // Another run may have been faster.
      if (!existsSync(kept)) renameSync(source, kept);
    } finally {
      rmSync(source, { recursive: true, force: true });
    }
  }
  // The checkout whose packages were used for the build may be gone, or have others now.
  const folder = mkdtempSync(join(tmpdir(), 'sendmux-release-'));
  cpSync(join(kept, 'dist'), join(folder, 'dist'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) cpSync(join(kept, file), join(folder, file));
  if (hasSamePackages(folder)) symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  else run(folder, 'npm', ['ci', '--omit=dev', '--no-audit', '--no-fund', '--no-update-notifier']);
  return { dist: join(folder, 'dist'), remove: () => rmSync(folder, { recursive: true, force: true }) };
}

type Packages = Record<string, { readonly version?: string }>;

/** Tells whether this checkout has every package that the lock file in a folder has, in the same version. */
function hasSamePackages(folder: string): boolean {
  const packagesIn = (of: string) =>
    (JSON.parse(readFileSync(join(of, 'package-lock.json'), 'utf8')) as { packages: Packages }).packages;
  const here = packagesIn(root);
  return Object.entries(packagesIn(folder)).every(
    ([path, { version }]) => path === '' || here[path]?.version === version,
  );
}

function run(cwd: string, command: string, args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? `${stdout}${stderr}`.slice(-4_000)}`);
}
