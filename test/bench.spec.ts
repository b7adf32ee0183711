import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { commandOf } from '../local/embedded-postgres';

const root = resolve(__dirname, '..');

const childrenOf = (pid: number): number[] =>
  spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((line) => line !== '')
    .map(Number);
const descendantsOf = (pid: number): number[] => childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(100);
}

describe('a bench that is ended early leaves no process behind', () => {
  /** The parent of the bench is a shell, as it is under make. */
  let shell: ChildProcess;
  let all: number[];
  let runner: number;

  beforeEach(async () => {
    const command = `${process.execPath} tools/bench.mjs http -- --seconds 600; true`;
    shell = spawn('sh', ['-c', command], { cwd: root, stdio: 'ignore', detached: true });
    // The processes are the bench, PostgreSQL with its watchdog, and two servers.
    const servers = () => all.filter((pid) => commandOf(pid).includes('--serve')).length;
    await until(() => {
      all = descendantsOf(shell.pid!);
      return servers() === 2;
    });
    runner = all[0]!;
    expect(all.some((pid) => /bin\/postgres/.test(commandOf(pid)))).toBe(true);
    expect(all.some((pid) => /stop-with-launcher/.test(commandOf(pid)))).toBe(true);
  });
  afterEach(() => {
    for (const pid of [shell.pid!, ...all]) if (commandOf(pid) !== '') process.kill(pid, 'SIGKILL');
  });

  it.each([
    ['is interrupted by Ctrl-C', () => process.kill(-shell.pid!, 'SIGINT')],
    ['is killed', () => process.kill(runner, 'SIGKILL')],
    ['loses its parent', () => process.kill(shell.pid!, 'SIGKILL')],
  ])('when it %s', async (_how, end) => {
    end();
    await until(() => all.every((pid) => commandOf(pid) === ''));
  });
});
