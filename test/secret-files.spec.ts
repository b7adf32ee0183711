import { randomBytes } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool } from '@app/database';
import { mailboxKeyRing, resealMailboxKeys } from '@app/mailbox-keys';
import { personalDataKeys, personalDataRing } from './support/mailbox-keys';
import { allApps, startSystem, type System } from './support/processes';
import { withAdmin } from './support/test-database';
import { webhookSecretKeys } from './support/webhooks';

/** Replaces the value of a variable by the path of a file. */
const inFiles = (files: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(files).flatMap(([name, path]) => [
      [name, ''],
      [`${name}_FILE`, path],
    ]),
  );

describe('a system whose secrets are in files', () => {
  let directory: string;
  let system: System;
  const role = `r_${randomBytes(6).toString('hex')}`;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'secret-files-'));
    await withAdmin((admin) => admin.query(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'first'`));
    system = await startSystem({ apps: [] });
  });
  afterAll(async () => {
    await system.end();
    await withAdmin((admin) => admin.query(`DROP ROLE ${role}`));
    rmSync(directory, { recursive: true });
  });

  /** Replaces a file in one step; gives its path. */
  function put(name: string, text: string): string {
    const file = join(directory, name);
    writeFileSync(`${file}.new`, `${text}\n`);
    renameSync(`${file}.new`, file);
    return file;
  }
  const as = (password: string, url: string) => Object.assign(new URL(url), { username: role, password }).href;
  const databases = (password: string) => ({
    DATABASE_URL: put('database', as(password, system.databaseUrl)),
    MAIL_SERVER_DATABASE_URL: put('mail-server', as(password, system.mailServerDatabaseUrl)),
  });

  it('goes on through a change of the passwords of its databases and of its keys, without a restart', async () => {
    const keys = { PERSONAL_DATA_KEYS: personalDataKeys, WEBHOOK_SECRET_KEYS: webhookSecretKeys };
    const env = inFiles({
      ...databases('first'),
      ...Object.fromEntries(Object.entries(keys).map(([name, text]) => [name, put(name, text)])),
      SMTP_URL: put('smtp', system.settings.SMTP_URL!),
    });
    await Promise.all(allApps.map((app) => system.start(app, env)));
    const { id: team, api } = await system.team();

    const answers: { at: number; status: number }[] = [];
    let runs = true;
    const load = Array.from({ length: 3 }, async (_, customer) => {
      for (let n = 0; runs; n++) {
        const at = performance.now();
        const { status } = await api.add(`c${customer}-${n}.example.com`);
        answers.push({ at, status });
      }
    });
    const until = (more: number) => {
      const wanted = answers.length + more;
      return system.until('more domains are added', () => answers.length >= wanted);
    };
    await until(6);
    await withAdmin((admin) => admin.query(`ALTER ROLE ${role} PASSWORD 'second'`));
    databases('second');
    const later = Buffer.alloc(32, 3);
    for (const [name, text] of Object.entries(keys)) put(name, `later=${later.toString('base64')},${text}`);
    await until(6);
    expect(answers.filter(({ status }) => status !== 201)).toEqual([]);
    const endedAt = performance.now();
    await withAdmin((admin) =>
      admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role]),
    );
    const settled = performance.now() + 2_000;
    await until(6);
    while (performance.now() < settled) await sleep(50);
    await until(6);
    runs = false;
    await Promise.all(load);

    // What is lost is what ran on a connection that has ended: none of it was refused for good.
    const failed = answers.filter(({ status }) => status !== 201);
    expect(failed.filter(({ status }) => status !== 503)).toEqual([]);
    expect(failed.filter(({ at }) => at > endedAt + 2_000)).toEqual([]);
    expect(failed.length).toBeLessThanOrEqual(9);
    process.stdout.write(`${answers.length} adds through a change of passwords, ${failed.length} of them 503\n`);

    const mailbox = await api.call('POST', '/mailboxes', { address: `ada${team.replace('team_', '-')}@myagent.mx` });
    expect(mailbox.status).toBe(201);
    const webhook = await api.call('POST', '/webhooks', { url: 'https://example.com/' });
    expect(webhook.status).toBe(201);
    const pool = openPool(system.databaseUrl, 1);
    const { rows } = await pool.query('SELECT key_id FROM mailbox_keys UNION ALL SELECT secret_key_id FROM webhooks');
    expect(rows).toEqual([{ key_id: 'later' }, { key_id: 'later' }]);
    // The end of the test reads the log by the key that all tests have.
    await resealMailboxKeys(pool, mailboxKeyRing(new Map([...personalDataRing, ['later', later]])));
    await pool.end();
  });
});
