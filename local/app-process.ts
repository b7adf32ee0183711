import type { ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, renameSync, type WriteStream } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { RestartBackOff, startingAgain } from './restart-back-off';
import { spawnWithParent } from './spawn-with-parent';

export interface AppProcessOptions {
  readonly name: string;
  /** The base of the health endpoints: `http://host:port`. */
  readonly url: string;
  readonly env: NodeJS.ProcessEnv;
  /** The directory of `<name>.log`. The log of the run before becomes `<name>.log.1`. */
  readonly logDirectory: string;
  /** Shows a line to the user. */
  readonly say: (line: string) => void;
}

/**
 * Milliseconds until an app counts as failed that is not ready. Apps take seconds, but a busy machine may need much
 * longer.
 */
const readyWithinMs = 120_000;
const stopWithinMs = 10_000;
/** Ends within ten minutes from which on the last lines of the log are shown. */
const keepsEnding = 3;
/** Milliseconds in which the same warning of an app is shown only once; the log has all of them. */
const repeatAfterMs = 30_000;
const tailLines = 15;

/**
 * Runs one app as a child process: writes its log to a file, shows its warnings, and starts it again when it ends
 * unexpectedly.
 */
export class AppProcess {
  private readonly log: WriteStream;
  private readonly tail: string[] = [];
  private readonly shown = new Map<string, number>();
  private readonly restarts = new RestartBackOff();
  private child: ChildProcess | undefined;
  private stopping = false;

  constructor(private readonly options: AppProcessOptions) {
    mkdirSync(options.logDirectory, { recursive: true });
    if (existsSync(this.logFile)) renameSync(this.logFile, `${this.logFile}.1`);
    this.log = createWriteStream(this.logFile, { mode: 0o600 });
  }

  get name(): string {
    return this.options.name;
  }

  get logFile(): string {
    return join(this.options.logDirectory, `${this.options.name}.log`);
  }

  /**
   * Starts the app; resolves when `/health/ready` answers 200.
   *
   * @throws {Error} naming the app, with the end of its log, when it ends or is not ready within two minutes.
   */
  async start(): Promise<void> {
    const child = this.spawn();
    await this.untilReady(child);
    child.once('exit', (code, signal) => void this.died(code ?? signal));
    if (child.exitCode !== null || child.signalCode !== null) throw this.notReady('ended at once');
  }

  /** Stops the app by SIGTERM, and by SIGKILL if it has not ended within 10 s. */
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
    // The app gets a process group of its own, so that Ctrl-C on the terminal only reaches the launcher, which stops
    // all processes in order.
    const child = spawnWithParent(['--enable-source-maps', main], {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
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
    // The last lines of the app may still be in the pipe.
    await delay(100);
    throw this.notReady(ended ?? `is not ready after ${readyWithinMs / 1000} s: ${answer}`);
  }

  private notReady(why: string): Error {
    const tail = this.tail.map((line) => `    ${line}`).join('\n');
    return new Error(`${this.options.name} ${why}.${tail && `\n${tail}`}\nIts whole log: ${this.logFile}`);
  }

  private async died(status: number | NodeJS.Signals | null): Promise<void> {
    if (this.stopping) return;
    const { name, say } = this.options;
    const again = this.restarts.ended();
    const tail = again.times < keepsEnding ? '' : `\n${this.tail.map((line) => `    ${line}`).join('\n')}`;
    say(`${name} ended unexpectedly (${status}); ${startingAgain(again)}. ${this.logFile}${tail}`);
    await delay(again.waitMs);
    if (this.stopping) return;
    const child = this.spawn();
    child.once('exit', (code, signal) => void this.died(code ?? signal));
    await this.untilReady(child).then(
      () => say(`${name} is ready again.`),
      (error: Error) => {
        // `died` reports an app that has ended.
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

/** Gives the text of a structured log line of level warn (40) or above. */
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
