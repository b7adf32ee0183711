import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DomainCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { RecordCheck, RequestIdentityRepair, schemaVersions } from '@app/mail-domain';
import type { Finding } from '@app/mail-records';
import { domainsProjection } from '@app/read-model';
import type { Pool } from 'pg';
import { commandsTo } from './support/commands';
import { replayedAndLive } from './support/replayed-read-model';
import { testDatabase, type TestDatabase } from './support/test-database';

const program = resolve(__dirname, '../bin/sendmux');
const folder = join(__dirname, 'golden/log');
const releases = readdirSync(folder).flatMap((name) => (name.endsWith('.ndjson') ? name.replace('.ndjson', '') : []));

/** What an earlier release has left: its exported log and seals, its key, and the rows of its read model. */
describe.each(releases)('a log that %s has written', (release) => {
  const path = (ending: string) => join(folder, `${release}.${ending}`);
  const lines = readFileSync(path('ndjson'), 'utf8').trimEnd().split('\n');
  const header = JSON.parse(lines[0]!) as { data: { events: number; seals: number; head: number } };
  let database: TestDatabase;
  let pool: Pool;

  const sendmux = (...args: string[]) => {
    const { url } = database;
    const env = { PATH: process.env.PATH, DATABASE_URL: url, MAIL_SERVER_DATABASE_URL: url };
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env });
    return { status, stdout, stderr };
  };
  /** Exports the log, without the first line, which contains the id and the time of the export. */
  const exported = () => sendmux('events', 'export').stdout.trimEnd().split('\n').slice(1);
  const expectTrue = () => {
    expect(sendmux('audit', 'verify', '--keys', path('pem'))).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('Nothing is wrong.') as string,
    });
    for (const name of ['domains', 'mailboxes'])
      expect(sendmux('projections', 'rebuild', name, '--check')).toMatchObject({ status: 0 });
  };

  beforeAll(async () => {
    database = await testDatabase();
    pool = openPool(database.url, 2);
    expect(sendmux('migrate')).toMatchObject({ status: 0 });
    expect(sendmux('events', 'import', path('ndjson'))).toMatchObject({ status: 0 });
    for (const name of ['domains', 'mailboxes'])
      expect(sendmux('projections', 'rebuild', name)).toMatchObject({ status: 0 });
  });
  afterAll(async () => {
    await pool?.end();
    await database?.drop();
  });

  it('gives the same rows as before', async () => {
    const rows = JSON.parse(readFileSync(path('rows.json'), 'utf8')) as { id: string }[];
    const { live, replayed } = await replayedAndLive(database.url);
    expect(JSON.parse(JSON.stringify(live))).toMatchObject(rows);
    expect(replayed).toEqual(live);
  });

  it('is verified, hash by hash and seal by seal, and exported as it was, byte for byte', () => {
    expectTrue();
    expect(exported()).toEqual(lines.slice(1));
  });

  it('accepts events of this release in the same streams, without a change of the old ones', async () => {
    const commands = commandsTo(new DomainCommandHandler(new EventStore(pool, domainsProjection)));
    const { rows } = await pool.query<{ id: string; findings: Finding[] }>(
      `SELECT d.id, e.data->'findings' AS findings FROM domains d JOIN events e ON e.stream = d.id AND e.type = 'DnsChecked'
       WHERE d.status = 'verified' ORDER BY d.id, e.version DESC LIMIT 1`,
    );
    const { id, findings } = rows[0]!;
    const failing = findings.map((finding) => ({ ...finding, outcome: 'fail' as const, code: 'dns_servfail' }));
    const context = { at: new Date().toISOString(), actor: 'test', correlationId: 'c' };
    const look = { findings: failing, sesDkimStatus: null, trigger: 'requested', cycle: null } as const;
    await commands.execute(new RecordCheck(id, look, context));
    await commands.execute(new RequestIdentityRepair(id, { fault: 'missing' }, context));

    const stream = await new EventStore(pool).readStream(id);
    const versionsOf = (wanted: string) =>
      new Set(stream.flatMap(({ type, schemaVersion }) => (type === wanted ? schemaVersion : [])));
    expect([...versionsOf('DnsChecked')]).toEqual([1, schemaVersions.DnsChecked]);
    expectTrue();
    const { events, seals } = header.data;
    const now = exported();
    expect(now.slice(0, events)).toEqual(lines.slice(1, 1 + events));
    expect(now.slice(-seals)).toEqual(lines.slice(-seals));
    expect(now).toHaveLength(events + 3 + seals);
  });
});
