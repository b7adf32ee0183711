import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, renameSync, type WriteStream } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { backOffMs } from '@app/runtime';

export interface AppProcessOptions {
  readonly name: string;
  /** `http://host:port` of its health endpoints. */
  readonly url: string;
  readonly env: NodeJS.ProcessEnv;
  /** Gets `<name>.log`; the log of the run before becomes `<name>.log.1`. */
  readonly logDirectory: string;
  /** Shows the user a line. */
  readonly say: (line: string) => void;
  /** It died too often; it will not be started again. */
  readonly gaveUp: (reason: string) => void;
}

const readyWithinMs = 30_000;
const stopWithinMs = 10_000;
const restarts = { most: 3, withinMs: 60_000, baseMs: 500, capMs: 5_000 };
/** The same warning of an app is shown once in this time; the log has all of them. */
const repeatAfterMs = 30_000;
const tailLines = 15;

/** One app as a process of its own: its log in a file, its warnings shown, itself started again when it dies. */
export class AppProcess {
  private readonly log: WriteStream;
  private readonly tail: string[] = [];
  private readonly shown = new Map<string, number>();
  private deaths: number[] = [];
  private child: ChildProcess | undefined;
  private stopping = false;

  constructor(private readonly options: AppProcessOptions) {
    mkdirSync(options.logDirectory, { recursive: true });
    if (existsSync(this.logFile)) renameSync(this.logFile, `${this.logFile}.1`);
    this.log = createWriteStream(this.logFile);
  }

  get name(): string {
    return this.options.name;
  }

  get logFile(): string {
    return join(this.options.logDirectory, `${this.options.name}.log`);
  }

  /**
   * Resolves when `/health/ready` answers 200.
   *
   * @throws {Error} naming the app, with the end of its log, when it ends or is not ready within 30 s.
   */
  async start(): Promise<void> {
    const child = this.spawn();
    await this.untilReady(child);
    child.once('exit', (code, signal) => void this.died(code ?? signal));
    if (child.exitCode !== null || child.signalCode !== null) throw this.notReady('ended at once');
  }

  /** SIGTERM; SIGKILL when that has not helped within 10 s. */
  async stop(): Promise<void> {
    this.stopping = true;
    const { child } = this;
    if (child && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((done) => child.once('exit', done));
      const late = setTimeout(() => child.kill('SIGKILL'), stopWithinMs);
      child.kill('SIGTERM');
      await ended;
      clearTimeout(late);
    }
    this.log.end();
  }

  kill(): void {
    this.stopping = true;
    this.child?.kill('SIGKILL');
  }

  private spawn(): ChildProcess {
    const { name, env } = this.options;
    const main = resolve(__dirname, '../apps', name, 'main.js');
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', '--require', resolve(__dirname, 'leave-with-parent.js'), main],
      // A process group of its own: Ctrl-C on the terminal reaches the launcher alone, which stops things in order.
      { env, detached: true, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
    );
    for (const stream of [child.stdout!, child.stderr!])
      createInterface({ input: stream }).on('line', (line) => this.heard(line));
    this.child = child;
    return child;
  }

  private async untilReady(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + readyWithinMs;
    let ended: string | undefined;
    child.once('exit', (code, signal) => (ended = `ended with ${code ?? signal}`));
    child.once('error', (error) => (ended = `cannot be started: ${error.message}`));
    let answer = 'no answer';
    while (Date.now() < deadline) {
      try {
        const response = await fetch(`${this.options.url}/health/ready`, { signal: AbortSignal.timeout(5_000) });
        if (response.ok) return;
        answer = await response.text();
      } catch (error) {
        answer = (error as Error).message;
      }
      if (ended) break;
      await delay(50);
    }
    // Its last words are still in the pipe.
    await delay(100);
    throw this.notReady(ended ?? `is not ready after ${readyWithinMs / 1000} s: ${answer}`);
  }

  private notReady(why: string): Error {
    const tail = this.tail.map((line) => `    ${line}`).join('\n');
    return new Error(`${this.options.name} ${why}.${tail && `\n${tail}`}\nIts whole log: ${this.logFile}`);
  }

  private async died(status: number | NodeJS.Signals | null): Promise<void> {
    if (this.stopping) return;
    const { name, say, gaveUp } = this.options;
    const now = Date.now();
    this.deaths = [...this.deaths.filter((time) => now - time < restarts.withinMs), now];
    if (this.deaths.length > restarts.most)
      return gaveUp(this.notReady(`ended ${this.deaths.length} times within a minute`).message);
    const wait = backOffMs(restarts, this.deaths.length);
    say(`${name} ended unexpectedly (${status}); starting it again in ${(wait / 1000).toFixed(1)} s. ${this.logFile}`);
    await delay(wait);
    if (this.stopping) return;
    const child = this.spawn();
    child.once('exit', (code, signal) => void this.died(code ?? signal));
    await this.untilReady(child).then(
      () => say(`${name} is ready again.`),
      (error: Error) => {
        // One that ended has been told of already.
        if (!this.stopping && child.exitCode === null && child.signalCode === null) say(error.message);
      },
    );
  }

  private heard(line: string): void {
    if (!this.log.writableEnded) this.log.write(`${line}\n`);
    this.tail.push(line);
    if (this.tail.length > tailLines) this.tail.shift();
    const warning = warningOf(line);
    if (!warning || this.stopping) return;
    const now = Date.now();
    if (now - (this.shown.get(warning) ?? 0) < repeatAfterMs) return;
    this.shown.set(warning, now);
    this.options.say(`${this.options.name} ${warning}`);
  }
}

/** The words of a structured log line of level warn (40) or worse. */
function warningOf(line: string): string | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const { level, msg, err } = JSON.parse(line) as { level?: number; msg?: string; err?: { message?: string } };
    if (level === undefined || level < 40) return undefined;
    const word = level >= 50 ? 'error' : 'warning';
    return `${word}: ${msg ?? ''}${err?.message && err.message !== msg ? ` (${err.message})` : ''}`;
  } catch {
    return undefined;
  }
}
