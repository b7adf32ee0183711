import { spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { SealingKey, Seals } from '@app/audit';
import { openPool } from '@app/database';
import { EventLog, EventStore } from '@app/event-store';
import { KafkaClient } from '@app/messaging';
import type { Pool } from 'pg';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { allApps, startSystem, type ApiClient, type System } from './support/processes';
import { countedAndHeld, replayedAndLive } from './support/replayed-read-model';
import { variantsOfRun } from './support/sample';
import { testDatabase, type TestDatabase } from './support/test-database';
import { arrivalsOf } from './support/topic';

const program = resolve(__dirname, '../bin/sendmux');
const groups = ['provisioning', 'verification-scheduler', 'notifier'] as const;

interface Added {
  readonly data: { readonly id: string };
}

/** Tests what applies to both transports. */
function onEither(transport: 'the log' | 'Kafka', more: (of: () => { system: System; pool: Pool }) => void) {
  let kafka: SharedKafka | undefined;
  let system: System;
  let pool: Pool;
  let api: ApiClient;
  let deleted: string;

  beforeAll(async () => {
    if (transport === 'Kafka') kafka = await sharedKafka();
    system = await startSystem({
      // Provisioning looks once more after a deletion when six times of SES_TIMEOUT have passed.
      env: { VERIFICATION_INTERVAL: '2s', PROVISIONING_DEADLINE: '2m', SES_TIMEOUT: '3s' },
      ...(kafka && { brokers: kafka.brokers }),
      apps: [],
    });
    // The apps start in sequence, because the relay creates the topic that the others need.
    for (const app of kafka ? (['event-relay', ...allApps] as const) : allApps) await system.start(app);
    expect(sendmux(system, 'migrate').status).toBe(0);
    pool = openPool(system.databaseUrl, 4);
    ({ api } = await system.team());
    // One domain fails and its owners are mailed, one is healthy and has a mailbox, and one is deleted.
    const [failing, well, gone] = await Promise.all(
      ['failing', 'well', 'gone'].map(async (name) => (await api.add(`${name}.acme.com`)).body as Added),
    );
    deleted = gone!.data.id;
    for (const added of [failing!, well!]) {
      await system.sandbox.place(added);
      expect((await api.verify(added.data.id)).status).toBe(200);
    }
    expect((await api.call('POST', '/mailboxes', { address: 'ada@well.acme.com' })).status).toBe(201);
    expect((await api.delete(deleted)).status).toBe(200);
    await system.sandbox.remove(failing);
    await system.until('the owners are told', async () => (await system.sandbox.mails()).length === 1);
    await system.until('that is recorded', async () => {
      const { rowCount } = await pool.query(`SELECT FROM events WHERE type = 'OwnersTold'`);
      return rowCount === 1;
    });
    // From here on no look is due, so nothing happens by itself.
    await system.stop('verification-scheduler');
    await system.start('verification-scheduler', { VERIFICATION_INTERVAL: '6h' });
  });
  afterAll(async () => {
    if (pool) await forgetUnknown(pool);
    await pool?.end();
    await system?.end();
  });

  const watched = async () =>
    (await pool.query('SELECT * FROM watched_domains ORDER BY id')).rows as Record<string, unknown>[];

  it('an unknown event is parked by each consumer, and blocks no other domain', async () => {
    // A domain of a later release, followed by events of this one.
    const store = new EventStore(pool);
    const event = { type: 'DomainMoved', schemaVersion: 1, data: {}, time: new Date().toISOString() };
    const newer = { ...event, type: 'DomainVerified', schemaVersion: 9 };
    const metadata = { actor: 'test', correlationId: 'c' };
    await store.append({ stream: 'mdom_x', expectedVersion: 0, events: [event, newer], metadata });
    const after = await api.add(`after.acme.com`);
    expect(after.status).toBe(201);
    // Once verified, the domain gets no further looks as a young one.
    await system.sandbox.place(after.body);
    expect((await api.verify((after.body as Added).data.id)).body).toMatchObject({ data: { status: 'verified' } });
    for (const group of groups)
      await system.until(`${group} has parked what concerns it`, async () => {
        const { rows } = await pool.query<{ message: string }>(
          'SELECT message FROM parked_messages WHERE consumer_group = $1 ORDER BY message',
          [group],
        );
        // Provisioning does not subscribe to `DomainVerified`, so it parks no version of it.
        const own = group === 'provisioning' ? 'mdom_x/1' : 'mdom_x/1 mdom_x/2';
        return rows.map(({ message }) => message).join(' ') === own;
      });
    const shown = sendmux(system, 'parked', 'list').stdout;
    expect(shown).toMatch(/^notifier +mdom_x\/1 +DomainMoved +1 .*No event type DomainMoved is known here/m);
    expect(shown).toMatch(/^verification-scheduler +mdom_x\/2 +DomainVerified +1 .*has schema version 9/m);
    const redriven = sendmux(system, 'parked', 'redrive', 'notifier', '--all');
    expect(redriven).toMatchObject({ status: 1, stderr: expect.stringContaining('stays parked') as string });
  });

  it('a consumer that starts late reaches the same state as one that was always running', async () => {
    const always = await system.until('all is heard', async () => {
      const rows = await watched();
      return rows.length === 3 ? rows : undefined;
    });
    await system.stop('verification-scheduler');
    await pool.query('TRUNCATE watched_domains');
    await pool.query(`DELETE FROM checkpoints WHERE name = 'verification-scheduler'`);
    await system.start('verification-scheduler', { VERIFICATION_INTERVAL: '6h', KAFKA_GROUP_PREFIX: 'late.' });
    await system.until('it has caught up', async () => (await watched()).length === always.length);
    await system.until('it is equal', async () => JSON.stringify(await watched()) === JSON.stringify(always));
  });

  more(() => ({ system, pool }));
}

/** Tests export and import. They use PostgreSQL alone, whatever the transport. */
function exportAndImport(of: () => { system: System; pool: Pool }) {
  it('its export fills an empty store with the same rows, and their read model is the same', async () => {
    const { system, pool } = of();
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-export-'));
    const database: TestDatabase = await testDatabase();
    const other = { ...system, settings: { ...system.settings, DATABASE_URL: database.url } };
    const copy = openPool(database.url, 2);
    const file = (name: string, text?: string) => {
      if (text !== undefined) writeFileSync(join(directory, name), text);
      return join(directory, name);
    };
    try {
      // The scheduler could look at a young domain at any time.
      await system.stop('verification-scheduler');
      await forgetUnknown(pool);
      const log = new EventLog(pool);
      const sealed = await new Seals(pool, log, new SealingKey(generateKeyPairSync('ed25519').privateKey), 7).seal();
      await log.close();
      expect(sealed.length).toBeGreaterThan(1);
      const exported = sendmux(system, 'events', 'export', '--file', file('all.ndjson.gz'));
      expect(exported).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(/^\d+ events and \d+ seals/) as string,
      });
      const text = gunzipSync(readFileSync(file('all.ndjson.gz'))).toString();
      expect(sendmux(system, 'events', 'export').stdout.split('\n').slice(1)).toEqual(text.split('\n').slice(1));

      expect(sendmux(other, 'migrate').status).toBe(0);
      const lines = text.trimEnd().split('\n');
      const refused = (name: string, change: (lines: string[]) => void) => {
        const changed = [...lines];
        change(changed);
        const { status, stderr } = sendmux(other, 'events', 'import', file(name, `${changed.join('\n')}\n`));
        expect(status).toBe(1);
        return stderr.split('\n').at(-2)!;
      };
      expect(refused('a.ndjson', (all) => all.shift())).toMatch(/Line 1 of .*: it is not the first line of an export/);
      expect(refused('b.ndjson', (all) => all.splice(3, 1))).toMatch(/Line \d+ of .* Nothing is imported/);
      expect(refused('c.ndjson', (all) => all.splice(8))).toMatch(
        /Line 8 of .*the file should go on with \d+ more events/,
      );
      expect(refused('d.ndjson', (all) => (all[4] = all[4]!.replace(/"data":\{/, '"data":{ ')))).toMatch(
        /Line 5 of .*: mdom_\w+\/\d+ is not what its hash says\. Nothing is imported\./,
      );
      expect(refused('e.ndjson', (all) => all.push(all.at(-1)!))).toMatch(/the export ended before it/);
      expect((await copy.query('SELECT FROM events')).rowCount).toBe(0);

      const imported = sendmux(other, 'events', 'import', file('all.ndjson.gz'));
      expect(imported).toMatchObject({ status: 0, stdout: expect.stringContaining('each as its hash says') as string });
      const rows = (of: Pool, table: string, by: string) =>
        of.query(`SELECT t::text AS row FROM ${table} t ORDER BY ${by}`).then((result) => result.rows as unknown[]);
      expect(await rows(copy, 'events', 'position')).toEqual(await rows(pool, 'events', 'position'));
      expect(await rows(copy, 'audit_seals', 'number')).toEqual(await rows(pool, 'audit_seals', 'number'));
      // No export has the keys of mailboxes: they come from the old database.
      const { rows: keys } = await pool.query<{ all: string }>(
        `SELECT coalesce(json_agg(k), '[]')::text AS all FROM mailbox_keys k`,
      );
      await copy.query('INSERT INTO mailbox_keys SELECT * FROM json_populate_recordset(NULL::mailbox_keys, $1)', [
        keys[0]!.all,
      ]);
      const { live } = await replayedAndLive(system.databaseUrl);
      for (const name of ['domains', 'mailboxes'])
        expect(sendmux(other, 'projections', 'rebuild', name)).toMatchObject({ status: 0 });
      const there = await replayedAndLive(database.url);
      expect(there.replayed).toEqual(live);
      expect(there.live).toEqual(live);
      const { counted, held } = await countedAndHeld(database.url);
      expect(counted).toEqual(held);
      expect(counted).toEqual((await countedAndHeld(system.databaseUrl)).counted);
      expect(live.length).toBeGreaterThanOrEqual(5);

      expect(sendmux(other, 'events', 'import', file('all.ndjson.gz')).stderr).toMatch(/The store has events already/);
      // Events after the import must get positions above the imported ones.
      await new EventStore(copy).append({
        stream: 'mdom_new',
        expectedVersion: 0,
        metadata: { actor: 'test', correlationId: 'c' },
        events: [{ type: 'DomainAdded', schemaVersion: 1, data: {}, time: new Date().toISOString() }],
      });
    } finally {
      await copy.end();
      await database.drop();
      rmSync(directory, { recursive: true });
    }
  });
}

const ofRun = variantsOfRun(['the log', 'Kafka'] as const);

if (ofRun.includes('the log')) describe('on the log', () => onEither('the log', exportAndImport));

const onKafka = () => {
  onEither('Kafka', (of) => {
    const brokers = () => of().system.settings.KAFKA_BROKERS!.split(',');
    const caughtUp = async () => {
      const { system } = of();
      const client = new KafkaClient({ brokers: brokers(), tls: false }, 'test');
      const admin = await client.admin();
      try {
        const ends = await admin.ends(system.settings.KAFKA_TOPIC!);
        for (const group of groups) {
          const prefix = group === 'verification-scheduler' ? 'late.' : system.settings.KAFKA_GROUP_PREFIX!;
          const at = await admin.committed(prefix + group, system.settings.KAFKA_TOPIC!);
          if ([...ends].some(([partition, end]) => (at.get(partition) ?? 0) < end)) return false;
        }
        return true;
      } finally {
        await admin.close();
      }
    };

    it('a replay of everything has no effect on up-to-date consumers: no mail, no call, no older state', async () => {
      const { system, pool } = of();
      await system.until('all have caught up', caughtUp);
      const idle = async () => {
        const { rows } = await pool.query<{ count: string }>('SELECT count(*) FROM tasks');
        return rows[0]!.count === '0';
      };
      // Some time after a deletion, provisioning looks once more for late effects.
      await system.until('nothing is left to do', idle, 90_000);
      const state = async () => ({
        events: (await pool.query('SELECT max(position) FROM events')).rows as unknown[],
        mails: (await system.sandbox.mails()).length,
        // The cycle may look at live domains. For what is done there must be no further requests.
        calls: (await system.sandbox.sesCalls()).filter(
          ({ operation, name }) => /Create|Delete|Put/.test(operation) || name === 'gone.acme.com',
        ),
        watched: (await pool.query('SELECT * FROM watched_domains ORDER BY id')).rows as unknown[],
        deliveries: (await pool.query('SELECT * FROM deliveries')).rows as unknown[],
      });
      const before = await state();
      const dry = sendmux(system, 'events', 'republish', '--from', '-1d', '--to', 'tomorrow', '--dry-run', '--json');
      const { events } = JSON.parse(dry.stdout) as { events: number };
      const topic = system.settings.KAFKA_TOPIC!;
      const first = await arrivalsOf(brokers(), topic);
      expect(events).toBe(first.length);
      const done = sendmux(system, 'events', 'republish', '--from', '-1d', '--to', 'tomorrow');
      expect(done).toMatchObject({ status: 0 });
      expect(done.stdout).toMatch(
        new RegExp(`^${events} events are published to ${topic} once more, as rpl_\\w+\\.\n$`),
      );
      const all = await arrivalsOf(brokers(), topic);
      expect(all).toHaveLength(2 * events);
      await system.until('all have caught up', caughtUp);
      await system.until('nothing is left to do', idle);
      expect(await state()).toEqual(before);
    });

    it('selects by domain, types and time, and refuses wrong arguments', () => {
      const { system } = of();
      const dry = (...args: string[]) => {
        const { stdout, stderr } = sendmux(system, 'events', 'republish', '--dry-run', '--json', ...args);
        return stdout ? (JSON.parse(stdout) as unknown) : stderr.trim();
      };
      const ever = ['--from', '-1d', '--to', 'tomorrow'];
      expect(dry(...ever, '--domain', 'GONE.acme.com', '--type', 'DomainAdded', 'DomainDeleted')).toEqual({
        events: 2,
        streams: 1,
      });
      expect(dry('--from', '-2d', '--to', '-1d')).toEqual({ events: 0, streams: 0 });
      expect(dry('--from', 'soon', '--to', 'now')).toContain('--from soon is no time');
      expect(dry('--from', 'now', '--to', '-1d')).toContain('is not before');
      expect(dry(...ever, '--type', 'DomainMoved')).toContain('There is no event type DomainMoved');
      expect(dry(...ever, '--domain', 'never.acme.com')).toContain('No domain or mailbox was ever never.acme.com');
    });

    it('resumes after Ctrl-C or a kill, in order and without gaps', async () => {
      const { system } = of();
      const begin = (...args: string[]) => {
        const child = spawn(process.execPath, [resolve(__dirname, '../dist/apps/cli/main.js'), ...args], {
          env: system.settings,
        });
        let said = '';
        child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
        const ended = new Promise<number | null>((end) => child.once('close', (code) => end(code)));
        return { child, ended, said: () => said };
      };
      const replay = [
        'events',
        'republish',
        '--from',
        '-1d',
        '--to',
        'tomorrow',
        '--topic',
        'replayed',
        '--rate',
        '10',
      ];
      const first = begin(...replay);
      const id = await system.until('it says how to go on', () => /--resume (rpl_\w+)/.exec(first.said())?.[1]);
      const published = async () => {
        const { rows } = await of().pool.query<{ at: string }>(
          'SELECT published_up_to AS at FROM replays WHERE id = $1',
          [id],
        );
        return Number(rows[0]!.at);
      };
      await system.until('it has begun', async () => (await published()) > 0);
      first.child.kill('SIGINT');
      expect(await first.ended).toBe(130);
      expect(first.said()).toMatch(
        new RegExp(
          `Interrupted\\. \\d+ of \\d+ events are published, up to position \\d+\\. Go on with:  sendmux events republish --resume ${id}\n$`,
        ),
      );
      const after = await published();
      const second = begin('events', 'republish', '--resume', id, '--rate', '10');
      await system.until('it has gone on', async () => (await published()) > after);
      second.child.kill('SIGKILL');
      await second.ended;
      expect(sendmux(system, 'events', 'republish', '--resume', id)).toMatchObject({ status: 0 });
      expect(sendmux(system, 'events', 'republish', '--resume', id)).toMatchObject({ status: 1 });
      const arrivals = await arrivalsOf(brokers(), 'replayed');
      const main = await arrivalsOf(brokers(), system.settings.KAFKA_TOPIC!);
      const ids = (of: typeof arrivals) => new Set(of.map((each) => each.id));
      expect(ids(arrivals)).toEqual(ids(main));
      const last = new Map<string, number>();
      const seen = new Set<string>();
      for (const { id: each, stream, version } of arrivals.sort(
        (a, b) => a.partition - b.partition || a.offset - b.offset,
      )) {
        if (!seen.has(each)) expect(version).toBe((last.get(stream) ?? 0) + 1);
        seen.add(each);
        last.set(stream, Math.max(version, last.get(stream) ?? 0));
      }
    });

    it('writes a complete file or none, each line a CloudEvent with the id of the replay', () => {
      const { system } = of();
      const file = join(system.settings.SENDMUX_DATA_DIR!, 'replay.ndjson');
      const made = sendmux(
        system,
        'events',
        'republish',
        '--from',
        '-1d',
        '--to',
        'tomorrow',
        '--type',
        'DomainAdded',
        '--file',
        file,
      );
      expect(made.status).toBe(0);
      const lines = readFileSync(file, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, string>);
      expect(lines.map(({ type }) => type)).toEqual(Array.from({ length: 4 }, () => 'com.sendmux.DomainAdded'));
      expect(new Set(lines.map(({ replayid }) => replayid)).size).toBe(1);
      expect(lines[0]!.replayid).toMatch(/^rpl_/);
      const nowhere = join(system.settings.SENDMUX_DATA_DIR!, 'none', 'replay.ndjson');
      expect(sendmux(system, 'events', 'export', '--file', nowhere).status).toBe(1);
      expect(existsSync(nowhere)).toBe(false);
    });
  });
};
if (ofRun.includes('Kafka')) (kafkaIsInstalled() ? describe : describe.skip)('on Kafka', onKafka);

/** Removes the domain of a later release: no read model can be rebuilt from what this release cannot read. */
async function forgetUnknown(pool: Pool): Promise<void> {
  await pool.query(`ALTER TABLE events DISABLE TRIGGER USER; DELETE FROM events WHERE stream = 'mdom_x';
    ALTER TABLE events ENABLE TRIGGER USER`);
}

function sendmux({ settings }: Pick<System, 'settings'>, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env: settings });
  return { status, stdout, stderr };
}
