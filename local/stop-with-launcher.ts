import { spawn } from 'node:child_process';

/**
 * Ends a process when this one ends, even if it is killed: a shell waits for the end of its standard input, which comes
 * with the end of this process. The returned function cancels that.
 */
export function stopWithLauncher(pid: number, signal: 'INT' | 'KILL'): () => void {
  const script = 'trap "" HUP INT TERM; read -r dismissed || kill -"$2" "$1"';
  const watch = spawn('sh', ['-c', script, 'stop-with-launcher', String(pid), signal], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watch.unref();
  return () => void watch.stdin.end('dismissed\n');
}
