import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { AppProcess } from './app-process';

/** A child process that runs nothing. */
class MockChild extends EventEmitter {
  readonly stdout = new PassThrough();
  readonly stderr = new PassThrough();
  exitCode: number | null = null;
  signalCode: NodeJS.Signals | null = null;

  kill(signal: NodeJS.Signals): void {
    this.signalCode = signal;
    this.emit('exit', null, signal);
  }
}

let mockChild: MockChild;
jest.mock('./spawn-with-parent', () => ({ spawnWithParent: () => mockChild as unknown as ChildProcess }));

let directory: string;
let umask: number;
let said: string[];
let apps: AppProcess;
const logDirectory = () => join(directory, 'logs');
const open = (urls: Record<string, string> = {}) =>
  new AppProcess({
    name: 'all-in-one',
    main: 'main.js',
    args: [],
    apps: new Map(Object.entries(urls)),
    env: {},
    logDirectory: logDirectory(),
    say: (line) => said.push(line),
    onReady: () => undefined,
  });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sendmux-apps-'));
  umask = process.umask(0);
  said = [];
  mockChild = new MockChild();
});
afterEach(async () => {
  jest.restoreAllMocks();
  process.umask(umask);
  await apps.stop();
  rmSync(directory, { recursive: true });
});

const modeOf = (file: string) => statSync(join(logDirectory(), file)).mode & 0o777;

/** Has the process write lines, and waits until they were read. */
async function writes(...lines: string[]): Promise<void> {
  mockChild.stdout.write(lines.map((line) => `${line}\n`).join(''));
  await delay(20);
}

it('keeps the log, and that of the run before, from everybody but its owner', async () => {
  mkdirSync(logDirectory());
  writeFileSync(join(logDirectory(), 'all-in-one.log'), 'before\n', { mode: 0o600 });
  apps = open();
  await apps.start();
  await writes('{"level":30}');
  await apps.stop();
  await delay(20);
  expect(readFileSync(apps.logFile, 'utf8')).toBe('{"level":30}\n');
  expect(readFileSync(`${apps.logFile}.1`, 'utf8')).toBe('before\n');
  expect([modeOf('all-in-one.log'), modeOf('all-in-one.log.1')]).toEqual([0o600, 0o600]);
});

it('shows warnings with hidden characters as escapes, which those of the log stand for', async () => {
  apps = open();
  await apps.start();
  const text = 'a\x1b]0;pwned\x07\u202e\nBAD';
  await writes(
    JSON.stringify({ level: 40, app: 'notifier', msg: text, err: { message: `${text}!` } }),
    JSON.stringify({ level: 30, msg: text }),
  );
  const escaped = 'a\\u{1b}]0;pwned\\u{7}\\u{202e}\\u{a}BAD';
  expect(said).toEqual([`notifier warning: ${escaped} (${escaped}!)`]);
});

it('shows a warning once in thirty seconds, and remembers none for longer', async () => {
  apps = open();
  await apps.start();
  const now = jest.spyOn(Date, 'now');
  const warning = (msg: string) => JSON.stringify({ level: 50, msg });
  for (const [at, ...lines] of [
    [1_000_000, 'a', 'b', 'a'],
    [1_029_999, 'a', 'c'],
    [1_030_000, 'a', 'c'],
  ] as const) {
    now.mockReturnValue(at);
    await writes(...lines.map(warning));
  }
  expect(said).toEqual(['a', 'b', 'c', 'a'].map((msg) => `all-in-one error: ${msg}`));
  expect([...(apps as unknown as { shown: Map<string, number> }).shown.keys()]).toEqual([
    'all-in-one error: c',
    'all-in-one error: a',
  ]);
});

it('shows the end of the log with hidden characters as escapes where it cannot start', async () => {
  apps = open({ gateway: 'http://127.0.0.1:1' });
  const started = apps.start();
  mockChild.stderr.write('\x1b[2J\n');
  mockChild.emit('exit', (mockChild.exitCode = 1), null);
  await expect(started).rejects.toThrow(/^all-in-one ended with 1\.\n {4}\\u\{1b\}\[2J\nIts whole log: /);
});
