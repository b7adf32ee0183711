import { spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Client, type QueryResultRow } from 'pg';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../local/embedded-postgres';

/**
 * A real PostgreSQL that belongs to one test, which may do to it what happens to servers. Its superuser is not the user
 * of the apps, so that what is reserved for superusers is not theirs.
 */
export class PostgresServer {
  private server: EmbeddedPostgres | undefined;
  /** The same after a restart. */
  private port: number | undefined;
  private admin = '';

  /** @param home the folder of the server, which has its data in `data`. */
  private constructor(
    readonly home: string,
    private readonly settings: Record<string, string>,
    private readonly isMounted = false,
  ) {}

  /**
   * Makes a server with no databases of its own, and starts it.
   *
   * @param diskMegabytes the size of a disk of its own, which needs the right to mount one (`mayMount`).
   */
  static async make(settings: Record<string, string>, diskMegabytes?: number): Promise<PostgresServer> {
    const home = folder();
    if (diskMegabytes !== undefined && !mount(home, diskMegabytes))
      throw new Error(`Nothing can be mounted on ${home}.`);
    const made = new PostgresServer(home, settings, diskMegabytes !== undefined);
    await made.start();
    return made;
  }

  /**
   * Makes a standby of a server that is stopped, and starts it. It follows that server, once that runs again, to which
   * `primary` leads.
   */
  static async standbyOf(original: PostgresServer, primary: string): Promise<PostgresServer> {
    if (original.server) throw new Error('A server is copied while it is stopped.');
    const home = folder();
    const copied = spawnSync('cp', ['-a', `${original.home}/.`, home], { encoding: 'utf8' });
    if (copied.status !== 0) throw new Error(copied.stderr);
    writeFileSync(join(home, 'data', 'standby.signal'), '');
    const { hostname, port, username, password } = new URL(primary);
    const standby = new PostgresServer(home, {
      primary_conninfo: `host=${hostname} port=${port} user=${username} password=${password}`,
      // Nothing here may depend on how soon it looks for its primary again.
      wal_retrieve_retry_interval: '200ms',
    });
    await standby.start();
    return standby;
  }

  /** @param more settings, for as long as it runs. */
  async start(more: Record<string, string> = {}): Promise<void> {
    this.server = await startEmbeddedPostgres(this.home, { ...this.settings, ...more }, this.port);
    this.port = this.server.port;
    this.admin = `postgres://sendmux:${readFileSync(join(this.home, 'password'), 'utf8').trim()}@127.0.0.1:${this.server.port}/postgres`;
  }

  get isRunning(): boolean {
    return this.server !== undefined && isThere(this.server.pid);
  }

  /** The URL of the superuser. */
  get url(): string {
    return this.admin;
  }

  /** Creates a database for a user of the apps, and gives its URL. */
  async database(name: string): Promise<string> {
    const exists = await this.query(`SELECT FROM pg_roles WHERE rolname = 'service'`);
    if (exists.length === 0) await this.query(`CREATE ROLE service LOGIN PASSWORD 'service'`);
    await this.query(`CREATE DATABASE ${name} OWNER service`);
    return this.serviceUrl(name);
  }

  serviceUrl(name: string): string {
    const url = new URL(this.admin);
    [url.username, url.password, url.pathname] = ['service', 'service', `/${name}`];
    return url.href;
  }

  /** Runs a statement as the superuser, on a standby too, in a session of its own. */
  async query<Row extends QueryResultRow>(text: string, values: unknown[] = [], url = this.admin): Promise<Row[]> {
    // eslint-disable-next-line sendmux/one-way-to-the-database -- a standby is no primary, and the product takes none
    const client = new Client({ connectionString: url });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query<Row>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** Waits until a statement gives a row. */
  async shows(text: string, values: unknown[] = []): Promise<void> {
    const deadline = Date.now() + 60_000;
    for (;;) {
      if ((await this.query(text, values).catch(() => [])).length > 0) return;
      if (Date.now() > deadline) throw new Error(`Never true: ${text}`);
      await new Promise((again) => setTimeout(again, 50));
    }
  }

  /** Ends it in order, as an operator does; what is connected is ended. */
  async stop(): Promise<void> {
    await this.server?.stop();
    this.server = undefined;
  }

  /** Kills every process of it at once, as a machine that loses its power. */
  async kill(): Promise<void> {
    signalAll(this.server!.pid, 'SIGKILL');
    await this.ended();
  }

  /** Stops every process of it where it stands: nothing of it ends, and nothing answers any more. */
  freeze(): void {
    signalAll(this.server!.pid, 'SIGSTOP');
  }

  /** Waits until it has ended by itself. */
  async ended(): Promise<void> {
    await this.server!.ended;
    this.server = undefined;
  }

  /** Takes all that is left of its disk. */
  fillDisk(): void {
    const chunk = Buffer.alloc(65_536);
    for (let size = chunk.length; size >= 512;)
      try {
        appendFileSync(this.filler, chunk.subarray(0, size));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        size /= 2;
      }
  }

  freeDisk(): void {
    rmSync(this.filler);
  }

  /** Ends it if it runs, and removes what it has. */
  async remove(): Promise<void> {
    if (this.isRunning) await this.stop();
    if (this.isMounted) spawnSync('umount', ['--lazy', this.home]);
    rmSync(dirname(this.home), { recursive: true, force: true });
  }

  private get filler(): string {
    return join(this.home, 'filler');
  }
}

/** Makes a folder that the user of PostgreSQL can reach. */
function folder(): string {
  const parent = mkdtempSync(join(tmpdir(), 'sendmux-postgres-'));
  chmodSync(parent, 0o755);
  const home = join(parent, 'home');
  mkdirSync(home);
  return home;
}

const mount = (directory: string, megabytes: number): boolean =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', directory]).status === 0;

/** Whether this user may give a server a disk of its own, which can then be full: root, where mounting is allowed. */
export function mayMount(): boolean {
  const probe = mkdtempSync(join(tmpdir(), 'sendmux-mount-'));
  const may = process.getuid?.() === 0 && mount(probe, 1);
  if (may) spawnSync('umount', [probe]);
  rmSync(probe, { recursive: true });
  return may;
}

/** Signals a server and every process that it has, each of which has a process group of its own; the server first. */
function signalAll(pid: number, signal: NodeJS.Signals): void {
  process.kill(pid, 'SIGSTOP');
  const { stdout } = spawnSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' });
  const pairs = stdout.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  for (const [child, parent] of pairs) if (parent === pid) process.kill(child!, signal);
  process.kill(pid, signal);
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
