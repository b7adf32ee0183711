import { spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, rmSync, statSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { register } from 'prom-client';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../local/embedded-postgres';
import { pgBouncerIsInstalled, startPgBouncer, type PgBouncer } from '../../test/support/pgbouncer';
import { PostgresServer } from '../../test/support/postgres-server';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { NotThePrimary, openClient, openPool, openSession } from './connections';
import { migrate } from './migrate';
import { checkPooled } from './routes';

class CreateNotes1790000000000 implements MigrationInterface {
  readonly name = 'CreateNotes1790000000000';
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE notes (text text)');
  }
  async down(): Promise<void> {}
}

/** Gives how often nothing could be written, as an alarm sees it. */
async function readOnlyFaults(): Promise<number> {
  const { values } = await register.getSingleMetric('sendmux_database_faults_total')!.get();
  return values.find(({ labels }) => labels.database === 'events' && labels.fault === 'read_only')!.value;
}

(pgBouncerIsInstalled() ? describe : describe.skip)('a database behind PgBouncer in transaction mode', () => {
  let database: TestDatabase;
  let pooler: PgBouncer;
  beforeAll(async () => {
    database = await testDatabase();
    pooler = await startPgBouncer(database.url);
  });
  afterAll(async () => {
    await pooler.stop();
    await database.drop();
  });

  it('is refused where sessions have to last, by the name of the setting to mend', async () => {
    const pooled = pooler.through(database.url);
    await expect(migrate(pooled, [])).rejects.toThrow(
      'DATABASE_URL leads through a pooler in transaction mode. Set DATABASE_DIRECT_URL to the server itself',
    );
    await expect(migrate({ url: pooled, directUrl: pooled, setting: 'MAIL_SERVER_DATABASE_URL' }, [])).rejects.toThrow(
      'MAIL_SERVER_DATABASE_DIRECT_URL leads through a pooler in transaction mode',
    );
  });

  it('is used for transactions, beside sessions at the server itself', async () => {
    const urls = { url: pooler.through(database.url), directUrl: database.url };
    await migrate(urls, [CreateNotes1790000000000]);
    const pool = openPool(urls, 4);
    // A named statement lives in one session of the server: without names, each connection may get any of them.
    const named = (text: string) => pool.query({ name: 'put', text: 'INSERT INTO notes VALUES ($1)', values: [text] });
    await Promise.all(Array.from({ length: 40 }, (_, i) => named(`note ${i}`)));
    expect((await pool.query('SELECT FROM notes')).rowCount).toBe(40);
    const session = await openSession(pool);
    const heard = new Promise((resolve) => session.once('notification', ({ channel }) => resolve(channel)));
    await session.query('LISTEN news');
    await pool.query('NOTIFY news');
    expect(await heard).toBe('news');
    await session.end();
    await pool.end();
  });

  it('is told from another one, and said to have no time limit for statements', async () => {
    const [other, urls] = [await testDatabase(), { url: pooler.through(database.url), directUrl: database.url }];
    expect(await checkPooled(urls)).toContain('ALTER ROLE');
    await expect(checkPooled({ ...urls, directUrl: other.url })).rejects.toThrow('lead to different databases');
    const { hostname, port, username, password, pathname } = new URL(database.url);
    const limited = await startPgBouncer(`postgres://${username}:${password}@${hostname}:${port}/postgres`);
    const admin = openPool(database.url, 1);
    await admin.query(`ALTER DATABASE ${pathname.slice(1)} SET statement_timeout = '30s'`);
    expect(await checkPooled({ url: limited.through(database.url), directUrl: database.url })).toBeUndefined();
    await admin.end();
    await limited.stop();
    await other.drop();
  });

  it('is used once its standby is promoted, though the pooler goes on telling of a standby', async () => {
    const primary = await PostgresServer.make({});
    const url = await primary.database('service');
    await primary.stop();
    const standby = await PostgresServer.standbyOf(primary, primary.url);
    const direct = standby.serviceUrl(new URL(url).pathname.slice(1));
    const behind = await startPgBouncer(direct);
    const pool = openPool({ url: () => behind.through(direct), directUrl: () => direct }, 1);
    const before = await readOnlyFaults();
    await expect(pool.query('SELECT 1')).rejects.toThrow(NotThePrimary);
    expect(await readOnlyFaults()).toBe(before + 1);
    await standby.query('SELECT pg_promote()');
    expect((await pool.query('SELECT 1')).rowCount).toBe(1);
    await (await openClient({ connectionString: behind.through(direct) })).end();
    await pool.end();
    await behind.stop();
    await standby.remove();
    await primary.remove();
  });

  it('in session mode needs no other URL', async () => {
    const sessions = await startPgBouncer(database.url, 'session');
    await migrate(sessions.through(database.url), [CreateNotes1790000000000]).finally(() => sessions.stop());
  });
});

describe('TLS by the parameters of the URL', () => {
  let server: EmbeddedPostgres;
  let directory: string;
  const url = async (host: string, parameters: string) => {
    const made = new URL(await server.database('a'));
    made.hostname = host;
    return `${made.href}?${parameters}`;
  };
  const file = (name: string) => join(directory, name);
  const certificate = (name: string) =>
    spawnSync(
      'openssl',
      `req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout ${file(`${name}.key`)} -out ${file(`${name}.pem`)}`.split(
        ' ',
      ),
    );
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sendmux-tls-'));
    chmodSync(directory, 0o755);
    for (const name of ['server', 'other']) certificate(name);
    const home = join(directory, 'postgres');
    await (await startEmbeddedPostgres(home, { fsync: 'off' })).stop();
    const { uid, gid } = statSync(join(home, 'data'));
    chownSync(file('server.key'), uid, gid);
    writeFileSync(
      join(home, 'data/pg_hba.conf'),
      'hostssl all all 127.0.0.1/32 scram-sha-256\nhost postgres all all scram-sha-256\n',
    );
    server = await startEmbeddedPostgres(home, {
      fsync: 'off',
      ssl: 'on',
      ssl_cert_file: file('server.pem'),
      ssl_key_file: file('server.key'),
    });
  });
  afterAll(async () => {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('reaches, migrates and listens at a server whose certificate is of the CA and the name', async () => {
    const right = await url('localhost', `sslmode=verify-full&sslrootcert=${file('server.pem')}`);
    await migrate(right, [CreateNotes1790000000000]);
    const pool = openPool(right, 1);
    const { rows } = await pool.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
    expect(rows).toEqual([{ ssl: true }]);
    await (await openSession(pool)).end();
    await pool.end();
  });

  it.each([
    ['of another CA', 'localhost', 'other.pem'],
    ['of another name', '127.0.0.1', 'server.pem'],
  ])('refuses a certificate %s', async (_what, host, ca) => {
    const wrong = await url(host, `sslmode=verify-full&sslrootcert=${file(ca)}`);
    await expect(migrate(wrong, [], { connectForMs: 0 })).rejects.toThrow(/certificate|altnames|Hostname/i);
  });
});
