import { spawn, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '@app/database';
import { eventStoreMigrations } from '@app/event-store';
import { readModelMigrations } from '@app/read-model';
import { Client } from 'pg';
import { fillLog } from '../bench/lives';
import { numbers } from './support/numbers';
import { countedAndHeld, replayedAndLive } from './support/replayed-read-model';
import { sample } from './support/sample';
import { testDatabase, type TestDatabase } from './support/test-database';

const program = resolve(__dirname, '../dist/apps/cli/main.js');
const kills = sample(13, 25);

describe('sendmux projections', () => {
  let database: TestDatabase;
  let client: Client;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    database = await testDatabase();
    await migrate(database.url, [...eventStoreMigrations, ...readModelMigrations]);
    await fillLog(database.url, sample(30_000, 60_000));
    client = new Client({ connectionString: database.url });
    await client.connect();
    env = {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      NODE_COMPILE_CACHE: resolve(__dirname, '../dist/.compile-cache'),
    };
  });
  afterAll(async () => {
    await client.end();
    await database.drop();
  });

  const sendmux = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'projections', ...args], {
      env,
      encoding: 'utf8',
    });
    return { status, stdout, stderr };
  };

  /**
   * Starts a rebuild, and sends it a signal as soon as `when` resolves. Gives its exit status, null when the signal
   * ended it.
   */
  async function cutShort(signal: NodeJS.Signals, when: () => Promise<unknown>) {
    const child = spawn(process.execPath, [program, 'projections', 'rebuild', 'domains'], { env, stdio: 'pipe' });
    let stderr = '';
    child.stderr.on('data', (text: Buffer) => (stderr += String(text)));
    const ended = new Promise<{ status: number | null; stderr: string }>((done) =>
      child.once('close', (status) => done({ status, stderr })),
    );
    await Promise.race([when(), ended]);
    child.kill(signal);
    return ended;
  }

  const shadow = async () => {
    const { rows } = await client.query<{ comment: string | null; live: number; replaced: string | null }>(
      `SELECT obj_description(to_regclass('domains_rebuild'), 'pg_class') AS comment, to_regclass('domains_replaced') AS replaced,
         (SELECT count(*)::int FROM domains) AS live`,
    );
    return rows[0]!;
  };
  const shadowHasRows = async () => {
    while (!/"after":"/.test((await shadow()).comment ?? '')) await sleep(2);
  };

  it('rebuilds, compares, and says so in lines and in JSON', async () => {
    const differs = sendmux('rebuild', 'domains', '--check', '--limit', '2');
    expect(differs.status).toBe(1);
    expect(differs.stdout).toMatch(
      /^mdom_\w+ {2}is not in the table\nmdom_\w+ {2}is not in the table\n… and [\d,]+ more\.\n[\d,]+ differences; the log says [\d,]+ rows\.\n$/,
    );
    expect(differs.stderr).toMatch(/^(?:Comparing domains: .*\n)+sendmux: domains is not what the log says\./);

    const rebuilt = sendmux('rebuild', 'domains');
    expect(rebuilt).toMatchObject({ status: 0 });
    expect(rebuilt.stdout).toMatch(
      /^domains is rebuilt: [\d,]+ rows from [\d,]+ events\. Writers waited \d+ ms at most\.\n$/,
    );
    expect(rebuilt.stderr).toMatch(/^Rebuilding domains: 100 %, [\d,]+ of [\d,]+ events, [\d,]+\/s, \d+ s\n$/);
    expect(sendmux('rebuild', 'domains', '--check').stdout).toMatch(/^domains is what the log says: [\d,]+ rows/);

    await client.query(`UPDATE domains SET status = 'gone' WHERE id = (SELECT min(id) FROM domains)`);
    const changed = sendmux('rebuild', 'domains', '--check', '--json');
    expect(changed.status).toBe(1);
    expect(JSON.parse(changed.stdout)).toMatchObject({
      name: 'domains',
      differences: 1,
      shown: [{ kind: 'different', columns: [{ column: 'status', table: 'gone' }] }],
    });
    expect(sendmux('list').stdout).toBe('NAME       REBUILD\ndomains\nmailboxes\n');
  });

  it('refuses wrong arguments', () => {
    for (const [args, message] of [
      [['rebuild', 'owners'], 'There is no projection owners. The name is one of domains, mailboxes.'],
      [['rebuild', 'domains', '--check', '--restart'], '--check writes nothing, so there is nothing to restart.'],
      [['rebuild', 'domains', '--wait', 'long'], '--wait long is no duration, such as 30s or 5m.'],
      [['rebuild', 'domains', '--check', '--limit', '-1'], '--limit -1 is no number.'],
    ] as const)
      expect(sendmux(...args)).toEqual({ status: 2, stdout: '', stderr: `sendmux: ${message}\n` });
  });

  it('stops on Ctrl-C at a safe point, says how to resume, and resumes', async () => {
    sendmux('rebuild', 'domains');
    const { live } = await shadow();
    const { status, stderr } = await cutShort('SIGINT', shadowHasRows);
    expect(stderr).toContain(
      'sendmux: Stopped; domains is as it was. `sendmux projections rebuild domains` goes on from here, with --restart from the beginning.\n',
    );
    expect(status).toBe(130);
    expect((await shadow()).live).toBe(live);
    expect(sendmux('list').stdout).toMatch(/^domains +begun, [\d,]+ events read$/m);
    expect(sendmux('rebuild', 'domains').stdout).toMatch(/after [\d,]+ of an earlier run/);
    expect(sendmux('rebuild', 'domains', '--check').status).toBe(0);
  });

  it(`survives ${kills} kills at any point, with a table that is whole all the while, and ends as if there had been none`, async () => {
    const began = performance.now();
    expect(sendmux('rebuild', 'domains', '--restart').status).toBe(0);
    let whole = performance.now() - began;
    const { live } = await shadow();
    const random = numbers(11);
    const points = { unharmed: 0, began: 0, went: 0 };
    for (let kill = 0; kill < kills; kill++) {
      await client.query(`UPDATE domains SET team = 'tampered' WHERE ctid IN (SELECT ctid FROM domains LIMIT 5)`);
      const before = (await shadow()).comment;
      // Every second kill waits until the table is being filled, since the start of the process takes most of the time.
      const { status } = await cutShort('SIGKILL', async () => {
        if (kill % 2) await shadowHasRows();
        await sleep(random() * (kill % 2 ? whole / 2 : whole));
      });
      const after = await shadow();
      if (status === 0) {
        points.unharmed++;
        // The machine has more time for a run than for the first one.
        whole *= 0.8;
      } else if (after.comment === null) points.began++;
      else points.went++;
      expect(after.live).toBe(live);
      expect(before === null || after.comment === null || eventsOf(after.comment) >= eventsOf(before)).toBe(true);
    }
    expect(points.went).toBeGreaterThan(kills * 0.15);
    expect(points.unharmed + points.began + points.went).toBe(kills);
    // A run that is faster than the first one has ended before its kill.
    expect(points.unharmed).toBeLessThan(kills * 0.7);
    await client.query(`UPDATE domains SET team = 'tampered' WHERE ctid IN (SELECT ctid FROM domains LIMIT 5)`);
    expect(sendmux('rebuild', 'domains').status).toBe(0);
    expect(await shadow()).toEqual({ comment: null, replaced: null, live });
    const { replayed, live: rows } = await replayedAndLive(database.url);
    expect(rows).toEqual(replayed);
    const { counted, held } = await countedAndHeld(database.url);
    expect(counted).toEqual(held);
  });
});

const eventsOf = (comment: string): number => Number(/"events":(\d+)/.exec(comment)![1]);
