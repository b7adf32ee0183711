import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const root = resolve(__dirname, '../..');
const installed = (what: '--clients' | '--rust'): string | undefined =>
  spawnSync(join(root, 'tools/install-counterparts'), [what], { encoding: 'utf8' }).stdout.trim() || undefined;

/** The Python that has the clients; undefined where they are not installed: tools/install-counterparts. */
export const python = installed('--clients');

/** Where cargo has built what the client in Rust needs; undefined where it has not. */
export const rust = installed('--rust');

/**
 * Runs a program to its end, and gives what it has written. Other processes whose output goes through this one go on
 * meanwhile.
 *
 * @throws {Error} with what it has written to stderr, when it fails.
 */
export function runProgram(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv },
  input = '',
): Promise<string> {
  const child = spawn(command, args, options);
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', (text: string) => (output[stream] += text));
  // It may end before it has read anything.
  child.stdin.on('error', () => undefined).end(input);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) =>
      status === 0 ? resolve(output.stdout) : reject(new Error(`${command} ended with ${status}\n${output.stderr}`)),
    );
  });
}

/**
 * Builds the programs of test/clients/rust without the network, where the libraries have been built already.
 *
 * @param documented the program that docs/clients.md shows.
 * @returns the folder of the programs.
 */
export async function buildInRust(documented: string): Promise<string> {
  const [project, target] = [join(rust!, 'project'), join(rust!, 'target')];
  const put = (file: string, text: string) => {
    const path = join(project, file);
    // An unchanged file keeps its time, so that cargo has nothing to do.
    if (existsSync(path) && readFileSync(path, 'utf8') === text) return;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  };
  for (const file of ['Cargo.toml', 'Cargo.lock', 'src/management.rs'])
    put(file, readFileSync(join(__dirname, 'rust', file), 'utf8'));
  put('src/documented.rs', documented);
  const build = ['build', '--quiet', '--locked', '--offline', '--target-dir', target];
  await runProgram('cargo', build, { cwd: project });
  return join(target, 'debug');
}
