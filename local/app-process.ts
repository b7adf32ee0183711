import type { ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, renameSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { visible } from '@app/runtime';
import { RestartBackOff, startingAgain } from './restart-back-off';
import { spawnWithParent } from './spawn-with-parent';

export interface AppProcessOptions {
  readonly name: string;
  /** The file that it runs, and its arguments. */
  readonly main: string;
  readonly args: readonly string[];
  /** The bases of the health endpoints of its apps, `http://host:port`, by their names. */
  readonly apps: ReadonlyMap<string, string>;
  readonly env: NodeJS.ProcessEnv;
  /** The directory of `<name>.log`. The log of the run before becomes `<name>.log.1`. */
  readonly logDirectory: string;
  /** Shows a line to the user. */
  readonly say: (line: string) => void;
  /** Called for each app when it is ready the first time. */
  readonly onReady: (app: string, url: string) => void;
}

/**
 * Milliseconds until a process counts as failed that is not ready. It takes seconds, but a busy machine may need much
 * longer.
 */
const readyWithinMs = 120_000;
const stopWithinMs = 10_000;
/** Ends within ten minutes from which on the last lines of the log are shown. */
const keepsEnding = 3;
/** Milliseconds in which the same warning is shown only once; the log has all of them. */
const repeatAfterMs = 30_000;
const tailLines = 15;

/**
 * Runs apps as one child process: writes their log to a file, shows their warnings, and starts it again when it ends
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

  get logFile(): string {
    return join(this.options.logDirectory, `${this.options.name}.log`);
  }

  /**
   * Starts the apps; resolves when `/health/ready` of each answers 200.
   *
   * @throws {Error} naming the process, with the end of its log, when it ends or is not ready within two minutes.
   */
  async start(): Promise<void> {
    const child = this.spawn();
    await this.untilReady(child, this.options.onReady);
    child.once('exit', (code, signal) => void this.died(code ?? signal));
    if (child.exitCode !== null || child.signalCode !== null) throw this.notReady('ended at once');
  }

  /** Stops the apps by SIGTERM, and by SIGKILL if it has not ended within 10 s. */
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
    const { main, args, env } = this.options;
    // The process gets a group of its own, so that Ctrl-C on the terminal only reaches the launcher, which stops
    // all processes in order.
    const child = spawnWithParent(['--enable-source-maps', main, ...args], {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout!, child.stderr!])
      createInterface({ input: stream }).on('line', (line) => this.heard(line));
    this.child = child;
    return child;
  }

  private async untilReady(
    child: ChildProcess,
    onReady: AppProcessOptions['onReady'] = () => undefined,
  ): Promise<void> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(`is not ready after ${readyWithinMs / 1000} s`), readyWithinMs);
    let ended = false;
    const ends = (how: string) => {
      ended = true;
      late.abort(how);
    };
    child.once('exit', (code, signal) => ends(`ended with ${code ?? signal}`));
    child.once('error', (error) => ends(`cannot be started: ${error.message}`));
    try {
      // One after the other: questions that nobody answers yet take CPU time from the start itself.
      for (const [app, url] of this.options.apps) {
        const answer = await answered(url, late.signal);
        if (late.signal.aborted) throw new Error(`${app} says ${answer}`);
        onReady(app, url);
      }
    } catch (error) {
      // Its last lines may still be in the pipe.
      await delay(100);
      throw this.notReady(`${String(late.signal.reason)}${ended ? '' : `: ${(error as Error).message}`}`);
    } finally {
      clearTimeout(timer);
    }
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
    this.tail.push(visible(line));
    if (this.tail.length > tailLines) this.tail.shift();
    const warning = warningOf(line);
    if (!warning || this.stopping) return;
    const now = Date.now();
    if (now - (this.shown.get(warning) ?? 0) < repeatAfterMs) return;
    for (const [text, at] of this.shown) if (now - at >= repeatAfterMs) this.shown.delete(text);
    this.shown.set(warning, now);
    this.options.say(warning);
  }
}

/** Asks an app until it is ready, or the signal aborts; gives the last answer. */
async function answered(url: string, signal: AbortSignal): Promise<string> {
  let answer = 'no answer';
  while (!signal.aborted) {
    try {
      const response = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(5_000) });
      if (response.ok) return '';
      answer = await response.text();
    } catch (error) {
      answer = (error as Error).message;
    }
    await delay(50);
  }
  return answer;
}

interface LogLine {
  readonly level?: number;
  readonly app?: string;
  readonly msg?: string;
  readonly err?: { readonly message?: string };
}

/**
 * Gives the app and the text of a structured log line of level warn (40) or above, with hidden characters as escapes.
 */
function warningOf(line: string): string | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const { level, app, msg, err } = JSON.parse(line) as LogLine;
    if (level === undefined || level < 40) return undefined;
    const word = level >= 50 ? 'error' : 'warning';
    const reason = err?.message && err.message !== msg ? ` (${err.message})` : '';
    // What the line has as escapes is read as the characters themselves.
    return visible(`${app ?? 'all-in-one'} ${word}: ${msg ?? ''}${reason}`);
  } catch {
    return undefined;
  }
}
