import { randomBytes } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadSettings } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { pgBouncerIsInstalled, startPgBouncer } from '../../test/support/pgbouncer';
import { testDatabase, withAdmin, type TestDatabase } from '../../test/support/test-database';
import { databaseUrls, mailServerUrls, openPool, openSession } from './connections';

describe('a password of PostgreSQL that is changed while a process runs', () => {
  let directory: string;
  let database: TestDatabase;
  let role: string;

  beforeEach(async () => {
    Logger.overrideLogger(false);
    directory = mkdtempSync(join(tmpdir(), 'rotation-'));
    database = await testDatabase();
    role = `r_${randomBytes(6).toString('hex')}`;
    await withAdmin((admin) => admin.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'first'`));
  });
  afterEach(async () => {
    await database.drop();
    await withAdmin((admin) => admin.query(`DROP ROLE ${role}`));
    rmSync(directory, { recursive: true });
  });

  const file = (name: string) => join(directory, name);
  /** Replaces a file in one step. */
  function put(name: string, password: string, server = database.url): string {
    const url = new URL(server);
    Object.assign(url, { username: role, password });
    writeFileSync(file(`${name}.new`), `${url.href}\n`);
    renameSync(file(`${name}.new`), file(name));
    return file(name);
  }
  const change = (password: string) => withAdmin((admin) => admin.query(`ALTER ROLE ${role} PASSWORD '${password}'`));
  const endAll = () =>
    withAdmin((admin) =>
      admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role]),
    );

  it('is used by every connection from then on, and costs only the queries that run on a connection that ends', async () => {
    const env = { SENDMUX_DATA_DIR: directory, DATABASE_URL_FILE: put('url', 'first') };
    const pool = openPool(databaseUrls(loadSettings(env, ['DATABASE_URL', 'DATABASE_DIRECT_URL'])), 4);
    const failed: string[] = [];
    let [answers, runs] = [0, true];
    const load = Array.from({ length: 4 }, async () => {
      while (runs)
        await pool.query('SELECT pg_sleep(0.005)').then(
          () => answers++,
          (error: Error) => failed.push(error.message),
        );
    });
    const until = async (more: number) => {
      for (const wanted = answers + more; answers < wanted;) await sleep(5);
    };
    await until(50);
    await change('second');
    put('url', 'second');
    // The connections that are open stay, and nothing fails.
    await until(50);
    expect(failed).toEqual([]);
    await endAll();
    await until(50);
    runs = false;
    await Promise.all(load);
    expect(failed.length).toBeLessThanOrEqual(4);
    expect(failed.filter((message) => !/terminat/i.test(message))).toEqual([]);
    await (await openSession(pool)).end();
    await pool.end();
  });

  (pgBouncerIsInstalled() ? it : it.skip)(
    'is used beside a pooler, in the database of the mail server as well',
    async () => {
      const pooler = await startPgBouncer(database.url);
      const settings = loadSettings(
        {
          SENDMUX_DATA_DIR: directory,
          MAIL_SERVER_DATABASE_URL_FILE: put('url', 'first', pooler.through(database.url)),
          MAIL_SERVER_DATABASE_DIRECT_URL_FILE: put('direct', 'first'),
        },
        ['MAIL_SERVER_DATABASE_URL', 'MAIL_SERVER_DATABASE_DIRECT_URL'],
      );
      const pool = openPool(mailServerUrls(settings), 1);
      await (await openSession(pool)).end();
      await change('second');
      await expect(openSession(pool)).rejects.toThrow('password authentication failed');
      put('direct', 'second');
      await (await openSession(pool)).end();
      // PgBouncer here asks nobody for a password: that the URL is read anew is seen by its port.
      put('url', 'second', 'postgres://127.0.0.1:1/a');
      await expect(pool.query('SELECT 1')).rejects.toThrow('ECONNREFUSED');
      put('url', 'second', pooler.through(database.url));
      await pool.query('SELECT 1');
      await pool.end();
      await pooler.stop();
    },
  );
});
