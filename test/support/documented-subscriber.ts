import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const root = resolve(__dirname, '../..');
const blocks = [...readFileSync(join(root, 'docs/subscribe.md'), 'utf8').matchAll(/```(\w+)\n([^]*?)```/g)].map(
  ([, language, text]) => ({ language, text: text! }),
);

/** Reads a program of docs/subscribe.md, and the commands that follow it. */
export function documented(language: 'typescript' | 'python'): { file: string; text: string; commands: string[] } {
  const index = blocks.findIndex((block) => block.language === language);
  const [{ text }, shell] = [blocks[index]!, blocks[index + 1]!];
  return { text, file: /^(?:\/\/|#) (\S+)\n/.exec(text)![1]!, commands: shell.text.trim().split('\n') };
}
export const typescript = documented('typescript');
export const python = documented('python');
export const kcat = blocks.at(-1)!.text;

/** Makes the virtual environment as the document says, and keeps it; gives undefined where it cannot be made. */
export function virtualEnvironment(): string | undefined {
  const [make, install] = python.commands as [string, string];
  const caches = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'sendmux-domains');
  const kept = join(
    caches,
    `subscriber-${createHash('sha256')
      .update(make + install)
      .digest('hex')
      .slice(0, 12)}`,
  );
  // It is created at its final path, since its scripts contain that path.
  if (!existsSync(join(kept, 'complete'))) {
    rmSync(kept, { recursive: true, force: true });
    mkdirSync(kept, { recursive: true });
    const { status, stderr } = spawnSync('sh', ['-ec', `${make}\n${install}`], { cwd: kept, encoding: 'utf8' });
    if (status !== 0) {
      process.stderr.write(`The subscriber in Python is skipped: ${stderr.trim().split('\n').at(-1)}\n`);
      return undefined;
    }
    writeFileSync(join(kept, 'complete'), '');
  }
  return join(kept, '.venv');
}

/** A subscriber that runs in a folder of its own. */
export class Subscriber {
  output = '';
  errors = '';
  readonly ended: Promise<number | null>;
  private readonly child: ChildProcess;

  constructor(command: string, cwd: string, env: NodeJS.ProcessEnv) {
    const { PATH, HOME } = process.env;
    // It gets a process group of its own, since kcat and jq are two processes.
    this.child = spawn('bash', ['-c', command], { cwd, env: { PATH, HOME, ...env }, detached: true });
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    this.ended = new Promise((done) => this.child.once('close', (code) => done(code)));
  }

  get lines(): string[] {
    return this.output.split('\n').slice(0, -1);
  }

  async says(what: RegExp, withinMs = 60_000): Promise<void> {
    const deadline = Date.now() + withinMs;
    while (!what.test(this.output)) {
      if (this.child.exitCode !== null || Date.now() > deadline)
        throw new Error(`It does not say ${String(what)}, but:\n${this.output}\n${this.errors}`);
      await delay(50);
    }
  }

  async stop(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) process.kill(-this.child.pid!, 'SIGTERM');
    return this.ended;
  }
}

/**
 * Runs all commands of the document except the last, which runs the subscriber. Packages that are installed here are
 * not fetched again.
 */
export function prepare(home: string, commands: readonly string[], venv?: string): void {
  if (venv !== undefined) return symlinkSync(venv, join(home, '.venv'));
  const [install, compile] = commands as [string, string];
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  expect(install).toBe(
    `npm install kafkajs@${dependencies.kafkajs} typescript@${devDependencies.typescript} @types/node@22`,
  );
  symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'));
  expect(spawnSync('sh', ['-c', compile], { cwd: home, encoding: 'utf8' })).toMatchObject({ status: 0, stdout: '' });
}
