import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NotThePrimary, openClient } from '@app/database';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../local/embedded-postgres';

/**
 * Runs a PostgreSQL that archives its write-ahead log, and takes it back to an earlier moment: a base backup (that of
 * `pg_backup_start`, as `pg_basebackup` takes it) and the log up to a restore point.
 */
export class ArchivedPostgres {
  private server: EmbeddedPostgres | undefined;
  private home: string;

  private constructor(
    private readonly directory: string,
    private readonly archive: string,
  ) {
    this.home = join(directory, 'first');
  }

  static async start(): Promise<ArchivedPostgres> {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-archived-'));
    const archive = join(directory, 'archive');
    mkdirSync(archive);
    // The server may run as another user than this process.
    chmodSync(directory, 0o755);
    chmodSync(archive, 0o777);
    const postgres = new ArchivedPostgres(directory, archive);
    postgres.server = await startEmbeddedPostgres(postgres.home, postgres.settings());
    return postgres;
  }

  /** Gives the URL of a database, which is created when it does not exist. */
  database(name: string): Promise<string> {
    return this.server!.database(name);
  }

  /** Takes a base backup while the server runs. */
  async backUp(): Promise<void> {
    const admin = await openClient({ connectionString: await this.database('postgres') });
    try {
      await admin.query(`SELECT pg_backup_start('test', true)`);
      copied(`${this.home}/.`, this.backup);
      const { rows } = await admin.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)');
      writeFileSync(join(this.backup, 'data', 'backup_label'), rows[0]!.labelfile);
    } finally {
      await admin.end();
    }
  }

  /** Names this moment, to be gone back to. */
  async mark(point: string): Promise<void> {
    await this.query(`SELECT pg_create_restore_point('${point}')`);
  }

  /** Loses the server, and takes it back to a moment, at the same URL. */
  async restoreTo(point: string): Promise<void> {
    const file = (await this.query('SELECT pg_walfile_name(pg_switch_wal()) AS file')) as string;
    for (const until = Date.now() + 30_000; !existsSync(join(this.archive, file)); await delay(50))
      if (Date.now() > until) throw new Error(`${file} is not archived`);
    const { port } = this.server!;
    await this.server!.stop();
    this.home = join(this.directory, 'restored');
    copied(`${this.backup}/.`, this.home);
    for (const stale of ['postmaster.pid', 'postmaster.opts']) rmSync(join(this.home, 'data', stale), { force: true });
    rmSync(join(this.home, 'data', 'pg_wal'), { recursive: true });
    mkdirSync(join(this.home, 'data', 'pg_wal'));
    writeFileSync(join(this.home, 'data', 'recovery.signal'), '');
    spawnSync('chown', ['-R', `--reference=${join(this.home, 'data', 'PG_VERSION')}`, join(this.home, 'data')]);
    this.server = await startEmbeddedPostgres(
      this.home,
      {
        ...this.settings(),
        restore_command: `cp ${this.archive}/%f %p`,
        recovery_target_name: point,
        recovery_target_action: 'promote',
      },
      port,
    );
    await this.promoted();
  }

  /** Waits for the end of the recovery: the server answers reads before, as a standby does. */
  private async promoted(): Promise<void> {
    for (const until = Date.now() + 60_000; ; await delay(50))
      try {
        await this.query('SELECT 1');
        return;
      } catch (error) {
        if (!(error instanceof NotThePrimary) || Date.now() > until) throw error;
      }
  }

  async destroy(): Promise<void> {
    await this.server?.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private settings(): Record<string, string> {
    return { archive_mode: 'on', archive_command: `cp %p ${this.archive}/%f` };
  }

  private get backup(): string {
    return join(this.directory, 'backup');
  }

  private async query(text: string): Promise<unknown> {
    const admin = await openClient({ connectionString: await this.database('postgres') });
    try {
      const { rows } = await admin.query<Record<string, unknown>>(text);
      return Object.values(rows[0]!)[0];
    } finally {
      await admin.end();
    }
  }
}

/** Copies a folder with its owners. What a running server removes meanwhile may be missing. */
function copied(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  chmodSync(to, 0o755);
  spawnSync('cp', ['-a', from, to]);
}
