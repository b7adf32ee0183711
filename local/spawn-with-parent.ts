import { spawn, type ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';

/** Starts a Node program that stops when this process ends, for whatever reason: see `leave-with-parent.ts`. */
export function spawnWithParent(
  args: readonly string[],
  { stdio, ...options }: { stdio: ('ignore' | 'inherit' | 'pipe')[]; env?: NodeJS.ProcessEnv; detached?: boolean },
): ChildProcess {
  const preload = ['--require', resolve(__dirname, 'leave-with-parent.js')];
  return spawn(process.execPath, [...preload, ...args], { ...options, stdio: [...stdio, 'ipc'] });
}
