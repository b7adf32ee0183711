import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../local/embedded-postgres';

export interface PgBouncer {
  /** Gives the URL of a database through the pooler. */
  through(url: string): string;
  stop(): Promise<void>;
}

const program = '/usr/sbin/pgbouncer';

export const pgBouncerIsInstalled = (): boolean => existsSync(program);

/**
 * Starts a real PgBouncer before a server.
 *
 * @param server the URL of any database of the server.
 * @param sessions the most of the server for each database.
 */
export async function startPgBouncer(
  server: string,
  mode: 'transaction' | 'session' = 'transaction',
  sessions = 20,
): Promise<PgBouncer> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-pgbouncer-'));
  chmodSync(directory, 0o755);
  const { hostname, port: serverPort, username, password } = new URL(server);
  const port = await freePort();
  const file = join(directory, 'pgbouncer.ini');
  writeFileSync(
    file,
    `[databases]
* = host=${hostname} port=${serverPort} user=${username} password=${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
auth_type = any
pool_mode = ${mode}
default_pool_size = ${sessions}
max_client_conn = 500
unix_socket_dir =
`,
  );
  // It refuses to run as root.
  const asWhom = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  const child = spawn(program, ['-q', ...asWhom, file], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  for (const deadline = Date.now() + 10_000; ; await delay(20)) {
    if (await listens(port)) break;
    if (Date.now() < deadline && child.exitCode === null) continue;
    await stop();
    throw new Error(`PgBouncer does not listen: ${file}`);
  }
  return {
    stop,
    through: (url) => {
      const pooled = new URL(url);
      pooled.port = String(port);
      return pooled.href;
    },
  };
}

const listens = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.once('connect', () => (socket.destroy(), resolve(true))).once('error', () => resolve(false));
  });
