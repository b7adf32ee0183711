import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openPool } from '@app/database';
import { Kafka, logLevel } from 'kafkajs';
import type { Pool } from 'pg';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { allApps, startSystem, type System } from './support/processes';

const program = resolve(__dirname, '../bin/sendmux');

/** Changes the tables as somebody with all rights to them could. */
const tamper = (pool: Pool, sql: string) =>
  pool.query(`BEGIN; SET LOCAL session_replication_role = replica; ${sql}; COMMIT`);

describe('an auditor', () => {
  let system: System;
  let pool: Pool;
  let id: string;

  const sendmux = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env: { ...system.settings } });
    return { status, stdout, stderr };
  };
  const file = (name: string) => join(system.settings.SENDMUX_DATA_DIR!, name);
  const sealed = () =>
    system.until('all is sealed', async () => {
      const { rows } = await pool.query<{ done: boolean }>(
        'SELECT (SELECT max(up_to) FROM audit_seals) = (SELECT max(position) FROM events) AS done',
      );
      return rows[0]!.done;
    });

  beforeAll(async () => {
    system = await startSystem({
      apps: [...allApps, 'sealer'],
      together: ['gateway', 'provisioning', 'verification-scheduler', 'notifier'],
      env: { AUDIT_SEAL_INTERVAL: '200ms' },
    });
    pool = openPool(system.databaseUrl, 2);
    const { api } = await system.team();
    const added = await api.add('mail.acme.com');
    ({ id } = (added.body as { data: { id: string } }).data);
    await sealed();
    await api.verify(id);
    await sealed();
  });
  afterAll(async () => {
    await pool?.end();
    await system?.end();
  });

  it('verifies the log with the public key of the sealer', () => {
    expect(statSync(file('audit-key.pem')).mode & 0o777).toBe(0o600);
    const { status, stdout, stderr } = sendmux('audit', 'verify');
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringMatching(/^3 events, [23] seals, the newest of .+\nNothing is wrong\.\n$/) as string,
    });
    expect(stderr).toContain('Verifying: 100 %');
    const document = JSON.parse(sendmux('audit', 'verify', '--json').stdout) as { events: number; faults: unknown[] };
    expect(document).toMatchObject({ events: 3, faults: [], faultCount: 0 });
  });

  it('cannot verify the log without the key, or with another', () => {
    const { status, stderr } = sendmux('audit', 'verify', '--keys', file('nothing.pem'));
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: expect.stringContaining('Name the public key of the sealer') as string,
    });
    writeFileSync(file('text.pem'), 'no key');
    expect(sendmux('audit', 'verify', '--keys', file('text.pem'))).toMatchObject({
      status: 3,
      stderr: expect.stringContaining('expected Ed25519 public keys in PEM') as string,
    });
    expect(spawnSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', file('other.pem')]).status).toBe(0);
    expect(sendmux('audit', 'verify', '--keys', file('other.pem'))).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('BAD  Seal 1 is not as it was signed') as string,
    });
  });

  it('reads what happened, by the id or the name of a domain', () => {
    const { status, stdout } = sendmux('audit', 'history', 'Mail.acme.com');
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringMatching(
        /^ {2}1 {2}\S+Z {2}mail\.acme\.com was added.+\n {5}The API key key_\w+, request req_\w+\n {2}2 {2}[^]+\n {2}3 {2}\S+Z {2}A requested check/,
      ) as string,
    });
    expect(sendmux('audit', 'history', id).stdout).toBe(stdout);
    expect(JSON.parse(sendmux('audit', 'history', id, '--json').stdout)).toHaveLength(3);
    expect(sendmux('audit', 'history', 'nothing.example.com')).toMatchObject({ status: 1, stdout: '' });
  });

  it('gets a proof of one domain, and checks it without the database', () => {
    const { status, stdout } = sendmux('audit', 'prove', id);
    expect(status).toBe(0);
    writeFileSync(file('proof.json'), stdout);
    const offline = { PATH: process.env.PATH, SENDMUX_DATA_DIR: '/nonexistent' };
    const check = (of: string) =>
      spawnSync(program, ['audit', 'check', of, '--keys', file('audit-public.pem')], {
        encoding: 'utf8',
        env: offline,
      });
    expect(check(file('proof.json'))).toMatchObject({
      status: 0,
      stdout: expect.stringContaining(`${id}: 3 events are those that were recorded`) as string,
    });
    writeFileSync(file('forged.json'), stdout.replace('mail.acme.com', 'mail.acme.net'));
    expect(check(file('forged.json'))).toMatchObject({
      status: 1,
      stderr: `sendmux: ${id}/1 is not what its hash says.\n`,
    });
    expect(sendmux('audit', 'prove', 'mdom_nothing')).toMatchObject({ status: 1, stdout: '' });
  });

  it('finds changes by somebody with all rights to the tables, and the sealer stops there', async () => {
    await tamper(pool, `CREATE TABLE kept AS TABLE events; UPDATE events SET data = '{}' WHERE version = 2`);
    const { status, stdout, stderr } = sendmux('audit', 'verify');
    expect({ status, stdout, stderr }).toEqual({
      status: 1,
      stdout: expect.stringContaining(`BAD  ${id}/2 is not what its hash says\n`) as string,
      stderr: expect.stringContaining(`The first: ${id}/2 is not what its hash says.`) as string,
    });
    await tamper(pool, 'UPDATE events e SET data = k.data FROM kept k WHERE k.position = e.position');
    expect(sendmux('audit', 'verify').status).toBe(0);

    const { api } = await system.team({ name: 'Other' });
    await system.stop('sealer');
    await api.add('mail.other.example.net');
    await tamper(
      pool,
      `UPDATE events SET metadata = '{"actor":"nobody"}' WHERE position = (SELECT max(position) FROM events)`,
    );
    await system.start('sealer');
    await system.until('the sealer tells', () => /"level":50.*is not what its hash says/.test(system.log('sealer')));
    await tamper(pool, 'DELETE FROM events WHERE position > (SELECT max(position) FROM kept); DROP TABLE kept');
    // Not with the triggers off, as what tampers: they count the domains of a team.
    await pool.query(`DELETE FROM domains WHERE name LIKE '%example.net'`);
  });

  it('finds by a witness that the end of the log was removed', async () => {
    const witness = file('sealer-log.ndjson');
    writeFileSync(witness, readFileSync(file('sealer.log')));
    expect(sendmux('audit', 'verify', '--witness', witness).status).toBe(0);
    const seals = sendmux('audit', 'seals', '--json').stdout;
    writeFileSync(file('seals.ndjson'), seals);
    writeFileSync(file('forged.ndjson'), seals.replace('number 1', 'number 9'));
    expect(sendmux('audit', 'verify', '--witness', file('forged.ndjson'))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/1 of the [23] seals in/) as string,
    });
    await system.stop('sealer');
    const cut = `DELETE FROM events WHERE version = 3; DELETE FROM audit_seals WHERE number = (SELECT max(number) FROM audit_seals)`;
    await pool.query('CREATE TABLE kept AS TABLE events; CREATE TABLE kept_seals AS TABLE audit_seals');
    await tamper(pool, cut);
    expect(sendmux('audit', 'verify').status).toBe(0);
    for (const each of [witness, file('seals.ndjson')])
      expect(sendmux('audit', 'verify', '--witness', each)).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/A witness has seen seal \d+, and it is not here/) as string,
      });
    await tamper(
      pool,
      `INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM kept WHERE version = 3;
       INSERT INTO audit_seals SELECT * FROM kept_seals ON CONFLICT DO NOTHING; DROP TABLE kept, kept_seals`,
    );
  });
});

/** Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('the topic of the seals', () => {
  let kafka: SharedKafka;
  let system: System;

  beforeAll(async () => {
    kafka = await sharedKafka();
    const env = { AUDIT_SEAL_INTERVAL: '200ms', AUDIT_TOPIC: `seals-${Date.now()}` };
    system = await startSystem({ brokers: kafka.brokers, apps: ['sealer', 'gateway', 'sandbox'], env });
  });
  afterAll(async () => {
    await system?.end();
  });

  it('is a witness', async () => {
    await system.start('event-relay');
    await system.start('provisioning');
    const { api } = await system.team();
    expect((await api.add('mail.acme.com')).status).toBe(201);
    const seals: string[] = [];
    const pool = openPool(system.databaseUrl, 1);
    await system.until('the first seal is published', async () => {
      const { rowCount } = await pool.query(`SELECT FROM checkpoints WHERE name LIKE 'audit-seals %'`);
      return rowCount;
    });
    const consumer = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).consumer({ groupId: 'w' });
    await consumer.connect();
    await consumer.subscribe({ topic: system.settings.AUDIT_TOPIC!, fromBeginning: true });
    await consumer.run({
      // eslint-disable-next-line @typescript-eslint/require-await -- the client wants a promise
      eachMessage: async ({ message }) => void seals.push(message.value!.toString()),
    });
    try {
      await system.until('the seals of all events are on the topic', async () => {
        const { rows } = await pool.query<{ text: string }>(
          `SELECT 'positions ' || (SELECT max(position) FROM events) AS none, statement AS text
           FROM audit_seals WHERE up_to = (SELECT max(position) FROM events)`,
        );
        return rows[0] && seals.some((seal) => (JSON.parse(seal) as { statement: string }).statement === rows[0]!.text);
      });
    } finally {
      await consumer.disconnect();
      await pool.end();
    }
    const witness = join(system.settings.SENDMUX_DATA_DIR!, 'seals.ndjson');
    writeFileSync(witness, seals.join('\n'));
    const { status, stderr } = spawnSync(program, ['audit', 'verify', '--witness', witness], {
      encoding: 'utf8',
      env: { ...system.settings },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringContaining('Verifying') as string });
  });
});
