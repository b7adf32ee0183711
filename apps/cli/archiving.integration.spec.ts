import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { Accounts } from '@app/accounts';
import { checkProof, prove, Seals, SealingKey, trusting, Verification, type Fault, type Verified } from '@app/audit';
import { DomainCommandHandler, MailboxCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import {
  ArchiveAway,
  ArchiveBroken,
  archivesOf,
  EventArchive,
  EventLog,
  EventPartitions,
  EventStore,
  isStreamSql,
  keptStream,
  newestTypeSql,
  wholeLogLock,
  WrongExpectedVersion,
} from '@app/event-store';
import {
  AddDomain,
  CompleteDeletion,
  CompleteProvisioning,
  CompleteRollback,
  FailProvisioning,
  provisioningFailure,
  RequestDeletion,
  type DomainCommand,
} from '@app/mail-domain';
import { CreateMailbox, DeleteMailbox, EraseMailbox, type MailboxCommand } from '@app/mailbox';
import { toLine } from '@app/messaging';
import { domainsProjection, MailboxesReadModel, mailboxesProjection } from '@app/read-model';
import { compare } from '@app/rebuild';
import { newId } from '@app/runtime';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import { commandsTo } from '../../test/support/commands';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { mailboxKeyRingOfTests as keyRing, mailboxKeysIn } from '../../test/support/mailbox-keys';
import { migratedDatabase } from '../../test/support/migrated-database';
import { sample } from '../../test/support/sample';
import type { TestDatabase } from '../../test/support/test-database';
import { Erasure } from './erasure';
import { Archiving, ArchivingRefused, type Step } from './event-archiving';
import { headerLine, writeLines } from './event-file';
import { importFile } from './event-import';

const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
const trusted = trusting(key.publicKey);
const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const metadata = { actor: 'key_1', correlationId: 'req_1', traceparent };
/** Positions in a partition. */
const size = 10_000_000;
const before = new Date('2025-06-01T00:00:00Z');

let folder: string;
let database: TestDatabase;
let mailServer: TestDatabase;
let pool: Pool;
let log: EventLog;
let gateway: TestGateway | undefined;
let team: string;
let apiKey: string;
let clock: number;

beforeAll(() => void Logger.overrideLogger(false));
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'archives-'));
  [database, mailServer] = [await migratedDatabase('service'), await migratedDatabase('mail_server')];
  pool = openPool(database.url, 6);
  log = new EventLog(pool);
  const accounts = new Accounts(pool);
  team = (await accounts.createTeam('Acme', ['ada@acme.com'])).id;
  apiKey = (await accounts.createKey(team, { role: 'root:full' })).key;
  clock = Date.parse('2025-01-01T10:00:00Z');
});
afterEach(async () => {
  await gateway?.close();
  gateway = undefined;
  await log.close();
  await pool.end();
  await Promise.all([database.drop(), mailServer.drop()]);
  rmSync(folder, { recursive: true });
});

const context = () => ({ at: new Date((clock += 60_000)).toISOString(), actor: 'key_1', correlationId: 'req_1' });
const execute = async (command: DomainCommand | MailboxCommand): Promise<void> => {
  const commands = commandsTo(
    new DomainCommandHandler(new EventStore(pool, domainsProjection)),
    new MailboxCommandHandler(new EventStore(pool, mailboxesProjection), mailboxKeysIn(pool)),
  );
  await ('mailboxId' in command ? commands.execute(command) : commands.execute(command));
};
const identity = {
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesDkimStatus: 'success',
} as const;

async function add(name: string): Promise<string> {
  const id = newId('mdom');
  await execute(new AddDomain(id, { name, team, deadline: context().at }, context()));
  await execute(new CompleteProvisioning(id, identity, context()));
  return id;
}
async function remove(id: string): Promise<void> {
  await execute(new RequestDeletion(id, context()));
  await execute(new CompleteDeletion(id, context()));
}
/** Appends events of no model, some blocks of a file full. */
const fill = (stream: string, count = 1_200, expectedVersion = 0) =>
  new EventStore(pool).append({
    stream,
    expectedVersion,
    metadata,
    events: Array.from({ length: count }, (_, i) => ({
      type: 'Happened',
      schemaVersion: 1,
      data: { i, line: 'a\nb' },
      time: context().at,
    })),
  });
/** Closes the partition that is open, seals what is in it, and indexes it. */
async function endPartition(number: number): Promise<void> {
  await pool.query(`SELECT setval('event_positions', $1)`, [number * size]);
  await fill(`opens ${number + 1}`, 1);
  await new Seals(pool, log, key, 500).seal();
  await new EventPartitions(pool).upkeep();
}

/** A log in three partitions, of which two are closed, with domains that have ended or live in either. */
async function someLog() {
  const gone = await add('gone.example.com');
  const lives = await add('lives.example.com');
  await fill('filling 1');
  await remove(gone);
  const failed = newId('mdom');
  await execute(new AddDomain(failed, { name: 'failed.example.com', team, deadline: context().at }, context()));
  await execute(new FailProvisioning(failed, provisioningFailure('ses', 'refused'), context()));
  await execute(new CompleteRollback(failed, context()));
  const spans = await add('spans.example.com');
  const late = await add('late.example.com');
  await endPartition(1);
  await fill('filling 2');
  await remove(spans);
  await endPartition(2);
  await remove(late);
  return { gone, lives, failed, spans, late };
}

const options = () => ({ before, directory: folder, trusted, patienceMs: 5_000 });
const run = (more: Partial<Parameters<Archiving['run']>[0]> = {}) => new Archiving(pool).run({ ...options(), ...more });
const verify = (): Promise<Verified> => new Verification(pool, log, { trusted }).run();
const seal = () => new Seals(pool, log, key, 500).seal();
const rows = async <T>(sql: string, values: unknown[] = []) => (await pool.query(sql, values)).rows as T[];
const read = (stream: string) => new EventStore(pool).readStream(stream);
/** Asks a gateway, which is started once the log is made: its stand-ins would give it events of today. */
async function get(path: string): Promise<Answer> {
  gateway ??= await startGateway(database.url);
  return gateway.call('GET', `/api/v1/domains/${path}`, { key: apiKey });
}
const history = (id: string) => get(`${id}/history?limit=100`);
const asOf = (id: string, time: string) => get(`${id}?as_of=${time}`);

/** Gives all events of the log in its order, as an export has them. */
async function everything(of = pool): Promise<string[]> {
  const found: string[] = [];
  for await (const { events } of new EventArchive(of).read({}, { after: 0, upTo: await log.head() }))
    found.push(...events.map((event) => toLine(event)));
  return found;
}

describe('a log of which a part is archived', () => {
  it('is verified, proven, read, compared and exported as before, and what has ended is away', async () => {
    const ids = await someLog();
    await seal();
    const expected = await everything();
    const streams = await Promise.all(Object.values(ids).map(read));
    const [answer, then] = [await history(ids.spans), await asOf(ids.spans, '2025-01-02T12:00:00Z')];
    expect([answer.status, then.status]).toEqual([200, 200]);
    const whole = await verify();
    expect(whole.faults).toEqual([]);

    const done = await run();
    expect(done.written.map(({ number }) => number)).toEqual([1, 2]);
    expect(done).toMatchObject({ moved: 3, removed: 4 + 3 + 4 });
    expect(await rows(`SELECT FROM events WHERE stream = ANY ($1)`, [[ids.gone, ids.failed, ids.spans]])).toEqual([]);
    expect(await rows(`SELECT FROM events WHERE stream = ANY ($1)`, [[ids.lives, ids.late]])).toHaveLength(2 + 4);

    expect(await verify()).toEqual(whole);
    expect(await everything()).toEqual(expected);
    expect(await Promise.all(Object.values(ids).map(read))).toEqual(streams);
    expect((await history(ids.spans)).body.data).toEqual(answer.body.data);
    expect((await asOf(ids.spans, '2025-01-02T12:00:00Z')).body.data).toEqual(then.body.data);
    for (const name of ['domains', 'mailboxes'] as const) {
      const different: unknown[] = [];
      await compare(database.url, name, (difference) => different.push(difference), { keyRing });
      expect(different).toEqual([]);
    }

    // By the public script alone: a domain that lies in two archives, and one in both halves of the log.
    writeFileSync(join(folder, 'key.pem'), key.publicKey.export({ type: 'spki', format: 'pem' }));
    for (const [id, events] of [
      [ids.spans, 4],
      [ids.late, 4],
      // With the trace that each of them belongs to.
      ['filling 2', 1_200],
    ] as const) {
      const proof = await prove(pool, id);
      expect(checkProof(proof, trusted)).toMatchObject({ events });
      writeFileSync(join(folder, 'proof.json'), JSON.stringify(proof));
      const checked = spawnSync('python3', [
        resolve('docs/audit/check_proof.py'),
        join(folder, 'proof.json'),
        join(folder, 'key.pem'),
      ]);
      expect([checked.status, String(checked.stderr)]).toEqual([0, '']);
    }

    // Any gzip reads the file as one, and it has what an export has.
    const [first] = await archivesOf(pool);
    const lines = gunzipSync(readFileSync(first!.file)).toString().trimEnd().split('\n');
    expect(JSON.parse(lines[0]!)).toMatchObject({ data: { format: 'sendmux-archive/1', events: first!.events } });
    expect(lines.slice(1, 1 + first!.events)).toEqual(expected.slice(0, first!.events));
    expect(lines.slice(1 + first!.events).every((line) => line.includes('sendmux-seal/1'))).toBe(true);
  });

  it('tells whoever needs what has ended, and leaves out none of it unnoticed', async () => {
    const ids = await someLog();
    await seal();
    await run();
    const [first, second] = await archivesOf(pool);
    const whole = { after: 0, upTo: await log.head() };
    const ever = { from: new Date(0), to: new Date() };
    expect(await log.archivedIn(whole, { ...ever, streams: [ids.lives, ids.spans] })).toEqual(second!.to);
    const condition = { condition: 'stream = $7', values: [ids.gone] };
    expect(await log.archivedIn(whole, { ...ever, streams: condition })).toEqual(first!.to);
    expect(await log.archivedIn(whole, { ...ever, streams: [ids.lives, ids.late] })).toBeUndefined();
    expect(await log.archivedIn({ ...whole, after: first!.upTo }, { ...ever, streams: [ids.gone] })).toBeUndefined();

    const newest = (position: number) =>
      rows(`SELECT ${newestTypeSql('$1', `${position}`, ['DomainAdded'])}`, [ids.gone]);
    await expect(newest(1)).rejects.toThrow(`events of ${ids.gone} are in an archive`);
    await expect(newest(first!.upTo)).resolves.toHaveLength(1);
    expect(await rows(`SELECT ${isStreamSql('$1')} AS is`, [ids.gone])).toEqual([{ is: true }]);

    const store = new EventStore(pool);
    const parts = [ids.lives, ids.gone].map((stream) => ({ stream, first: 2, last: 3 }));
    const found = (await store.readStreams(parts, 10)).map(({ stream, version }) => `${stream}/${version}`);
    expect(found).toEqual([`${ids.lives}/2`, `${ids.gone}/2`, `${ids.gone}/3`]);
    const asked = [{ stream: ids.gone, below: 4 }, { stream: ids.lives }];
    const types = ['DomainProvisioned', 'DomainDeleted'];
    expect(await store.newestOf(asked, types)).toMatchObject([{ version: 2 }, { version: 2 }]);

    const call = (path: string, body: object) => gateway!.call('POST', `/api/v1${path}`, { key: apiKey, body });
    await history(ids.lives);
    const { id } = (await call('/webhooks', { url: 'https://hooks.example.com/x' })).body.data;
    expect(await call(`/webhooks/${id}/replay`, { from: '2025-01-01' })).toMatchObject({
      status: 400,
      body: {
        error: {
          code: 'invalid_parameter',
          param: 'from',
          message: expect.stringContaining(second!.to.toISOString()) as string,
        },
      },
    });
    const { status } = await call(`/webhooks/${id}/replay`, { from: '2025-01-01', domains: [ids.lives] });
    expect(status).toBeLessThan(300);
  });

  it('says of a replay over a partition that is gone that its events are in an archive', async () => {
    const gone = await add('gone.example.com');
    await remove(gone);
    clock += 86_400_000;
    await endPartition(1);
    const day = { from: new Date('2025-01-01'), to: new Date('2025-01-02') };
    const next = { from: new Date('2025-01-02'), to: new Date('2025-01-03') };
    const replayed = async ({ from, to }: typeof day) => {
      const span = await log.spanOf(from, to);
      const found = await log.readSelected(span, { from, to, types: ['DomainDeleted', 'Happened'], streams }, 10);
      return [await log.archivedIn(span, { from, to, streams }), found.events.map(({ stream }) => stream)];
    };
    const streams = [gone, 'opens 2'];
    expect(await replayed(day)).toEqual([undefined, [gone]]);
    await run();
    const [archive] = await archivesOf(pool);
    expect(await replayed(day)).toEqual([archive!.to, []]);
    expect(await replayed(next)).toEqual([undefined, ['opens 2']]);
  });

  it('gives all of a stream that is read while it leaves', async () => {
    const { spans } = await someLog();
    await seal();
    let queries = 0;
    const client = {
      query: async (text: string, values: unknown[]) => {
        const answer = await pool.query(text, values);
        if (queries++ === 0) await run();
        return answer;
      },
    } as unknown as Pick<Pool, 'query'> as Pool;
    expect((await keptStream(client, spans)).map(({ version }) => version)).toEqual([1, 2, 3, 4]);
    expect(queries).toBe(2);
    expect(await rows('SELECT FROM events WHERE stream = $1', [spans])).toEqual([]);
  });

  it('is not exported on without the connection that keeps it from being archived', async () => {
    await someLog();
    const reading = new EventArchive(pool).read({}, { after: 0, upTo: await log.head() });
    await reading.next();
    await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks
       WHERE locktype = 'advisory' AND objid = $1 AND mode = 'ShareLock'
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [wholeLogLock],
    );
    await expect(reading.next()).rejects.toThrow('archived meanwhile was lost');
  });

  it('goes on: with appends, a further run, an export into an empty store, and consumers from the beginning', async () => {
    const ids = await someLog();
    await seal();
    await run();
    // An append to what has ended is refused by its version, which needs no file.
    await expect(
      new EventStore(pool).append({
        stream: ids.gone,
        expectedVersion: 0,
        metadata,
        events: [{ type: 'Happened', schemaVersion: 1, data: {}, time: context().at }],
      }),
    ).rejects.toThrow(WrongExpectedVersion);
    const again = await add('gone.example.com');
    await remove(again);
    // What came after the last event of a stream in an archive follows it there.
    await fill(ids.gone, 1, 4);
    expect((await read(ids.gone)).map(({ version }) => version)).toEqual([1, 2, 3, 4, 5]);
    expect(await verify()).toMatchObject({ faults: [] });
    await seal();
    expect((await verify()).faults).toEqual([]);

    await endPartition(3);
    expect(await run()).toMatchObject({ written: [{ number: 3 }], moved: 2 });
    expect(await rows('SELECT FROM events WHERE stream = ANY ($1)', [[ids.late, again]])).toEqual([]);
    expect(await run()).toMatchObject({ written: [], moved: 0, removed: 0 });
    expect((await verify()).faults).toEqual([]);

    const expected = await everything();
    const followed: string[] = [];
    const stop = new AbortController();
    const head = await log.head();
    for await (const events of log.follow({ after: 0, signal: stop.signal })) {
      followed.push(...events.map(({ stream, version }) => `${stream}/${version}`));
      if (events.at(-1)!.position >= head) break;
    }
    expect(followed).toEqual(expected.map((line) => (JSON.parse(line) as { id: string }).id));

    const other = await migratedDatabase('service');
    const elsewhere = openPool(other.url, 4);
    try {
      const file = join(folder, 'whole.ndjson');
      const header = { format: 'sendmux-export/1', events: expected.length, seals: 0, head } as const;
      await writeLines(file, Readable.from([headerLine('exp_1', header, new Date()), ...expected]));
      await importFile(file, new EventArchive(elsewhere), new AbortController().signal);
      expect(await everything(elsewhere)).toEqual(expected);
    } finally {
      await elsewhere.end();
      await other.drop();
    }
  });

  it('is whole wherever a run ends, and the next one goes on', async () => {
    const ids = await someLog();
    await seal();
    const expected = await everything();
    const ends: [Step, number][] = [
      ['write', 1],
      ['check', 1],
      ['record', 1],
      ['write', 2],
      ['move', 0],
      ['thin', 1],
      ['thin', 2],
    ];
    for (const [step, partition] of ends) {
      const begins = (begun: Step, of: number) => {
        if (begun === step && of === partition) throw new Error('killed');
      };
      await expect(run({ begins })).rejects.toThrow('killed');
      expect((await verify()).faults).toEqual([]);
      expect(await everything()).toEqual(expected);
      expect(await read(ids.spans)).toHaveLength(4);
    }
    // A killed process leaves a draft, and a table that was to take the place of a partition.
    writeFileSync(join(folder, 'events-x.ndjson.gz.part'), 'half');
    await pool.query('CREATE TABLE events_2_kept (LIKE events)');
    await run();
    expect(await rows('SELECT FROM event_archives WHERE is_thin')).toHaveLength(2);
    expect((await verify()).faults).toEqual([]);
    expect(await everything()).toEqual(expected);
  });

  it('is whole after a kill of its connection at any moment', async () => {
    const ids = await someLog();
    await seal();
    const expected = await everything();
    let killed = 0;
    for (let round = 0; killed === round; round++) {
      const victim = openPool(`${database.url}?application_name=victim`, 4);
      const running = new Archiving(victim).run(options()).then(
        () => false,
        () => true,
      );
      const victims = `FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()`;
      while ((await pool.query(`SELECT ${victims}`)).rowCount === 0) await delay(1);
      // Each round lets it come a little further.
      await delay(sample(20, 8) * round ** 2);
      await pool.query(`SELECT pg_terminate_backend(pid) ${victims}`);
      if (await running) killed++;
      await victim.end();
      expect(await everything()).toEqual(expected);
      expect(await read(ids.spans)).toHaveLength(4);
    }
    expect(killed).toBeGreaterThan(2);
    expect((await verify()).faults).toEqual([]);
    expect(await rows('SELECT FROM events WHERE stream = $1', [ids.spans])).toEqual([]);
  });

  it('is refused where something needs it, or it is not as it was sealed', async () => {
    await someLog();
    const refusedWith = (message: string | RegExp) => expect(run()).rejects.toThrow(message);
    await pool.query(`INSERT INTO checkpoints (name, position) VALUES ('event-relay/t', 7)`);
    await refusedWith(/^The consumer event-relay\/t has come to position 7, and needs the log up to \d+\. Run it/);
    await pool.query('DELETE FROM checkpoints');
    await pool.query(
      `INSERT INTO webhook_replays (id, webhook, from_time, to_time, begins_after, after, up_to)
       VALUES ('rpl_1', 'whk_1', now(), now(), 0, 0, 5)`,
    );
    await refusedWith('The replay rpl_1 of a webhook needs events');
    await pool.query('DELETE FROM webhook_replays');
    await pool.query(
      `INSERT INTO webhook_deliveries (webhook, id, lane, message, type, subject, version, position, occurred_at)
       VALUES ('whk_1', 'msg_1', 'live', 'mdom_1/1', 'domain.deleted', 'mdom_1', 1, 1, now())`,
    );
    await refusedWith('The message mdom_1/1 waits for the webhook whk_1');
    await pool.query('DELETE FROM webhook_deliveries');

    const other = await pool.connect();
    await other.query('SELECT pg_advisory_lock($1)', [0x5e52]);
    await refusedWith('Another `sendmux events archive` is running.');
    other.release(true);

    const strange = new SealingKey(generateKeyPairSync('ed25519').privateKey);
    await expect(run({ trusted: trusting(strange.publicKey) })).rejects.toThrow(
      /^Partition 1 is not archived: seal 1 is not as it was signed/,
    );
    await pool.query('ALTER TABLE events DISABLE TRIGGER events_are_facts');
    await pool.query('ALTER TABLE events_1 DISABLE TRIGGER events_are_facts');
    await pool.query(`UPDATE events SET hash = sha256('x') WHERE position = 3`);
    await refusedWith(/^Partition 1 is not archived: .* is not what its hash says/);
    expect(await rows('SELECT FROM event_archives')).toEqual([]);
    expect(await new Archiving(pool).plan(new Date('2025-01-01'))).toEqual([]);
  });

  it('is refused before all of it is sealed, and with an address in clear', async () => {
    await fill('filling');
    await pool.query(`SELECT setval('event_positions', $1)`, [size]);
    await fill('opens 2', 1);
    await new EventPartitions(pool).upkeep();
    await expect(run()).rejects.toThrow('The events of partition 1 are not sealed up to its end');
    await new EventStore(pool).append({
      stream: 'mbx_1',
      expectedVersion: 0,
      metadata,
      events: [{ type: 'MailboxCreated', schemaVersion: 1, data: { address: 'ada@acme.com' }, time: context().at }],
    });
    await endPartition(2);
    const refused = run();
    await expect(refused).rejects.toThrow(ArchivingRefused);
    await expect(refused).rejects.toThrow('`sendmux erase migrate-log` first');
    expect(await archivesOf(pool)).toHaveLength(1);
    expect(existsSync(join(folder, 'events-000002.ndjson.gz'))).toBe(false);
  });

  it('names a file that is not there, was changed, cut off or exchanged', async () => {
    const ids = await someLog();
    await seal();
    await run();
    const [first, second] = await archivesOf(pool);
    const faults = async () =>
      (await verify()).faults.map(({ code, position, event }: Fault) => ({ code, position, event }));
    const good = readFileSync(first!.file);
    const restore = () => writeFileSync(first!.file, good);

    renameSync(first!.file, join(folder, 'elsewhere'));
    expect(await faults()).toEqual([{ code: 'archive_missing', position: 1 }]);
    await expect(read(ids.gone)).rejects.toThrow(ArchiveAway);
    await expect(read(ids.gone)).rejects.toThrow(first!.file);
    await expect(everything()).rejects.toThrow(ArchiveAway);
    await expect(compare(database.url, 'domains', () => undefined)).rejects.toThrow(ArchiveAway);
    expect(await read(ids.lives)).toHaveLength(2);
    expect(await history(ids.gone)).toMatchObject({
      status: 503,
      body: { error: { code: 'service_unavailable', message: expect.stringContaining('archive') as string } },
    });
    const following = log.follow({ after: 0, signal: new AbortController().signal }).next();
    await expect(following).rejects.toThrow(ArchiveAway);
    await expect(run()).resolves.toMatchObject({ written: [] });

    restore();
    truncateSync(first!.file, good.length >> 1);
    expect(await faults()).toMatchObject([{ code: 'archive_changed', position: 1 }]);
    await expect(everything()).rejects.toThrow(ArchiveBroken);

    copyFileSync(second!.file, first!.file);
    expect(await faults()).toMatchObject([{ code: 'archive_changed', position: 1 }]);
    await expect(read(ids.gone)).rejects.toThrow(ArchiveBroken);

    // One letter of an event, in a file that is otherwise as good.
    const at = (await rows<{ at: number[] }>('SELECT block_offsets::float8[] AS at FROM event_archives'))[0]!.at;
    const block = gunzipSync(good.subarray(at[0], at[1])).toString().replace('gone.example.com', 'gene.example.com');
    const packed = gzipSync(block);
    writeFileSync(first!.file, Buffer.concat([good.subarray(0, at[0]), packed, good.subarray(at[1])]));
    expect(await faults()).toMatchObject([{ code: 'archive_changed', position: 1 }]);

    // A block without the last event of a stream, each other one of which is what its own hash says.
    const { index } = (
      await rows<{ index: number }>('SELECT max(b) AS index FROM stream_spans, unnest(blocks) AS b WHERE stream = $1', [
        ids.gone,
      ])
    )[0]!;
    const lines = gunzipSync(good.subarray(at[index - 1], at[index]))
      .toString()
      .split('\n');
    const without = gzipSync(lines.filter((line) => !line.includes(`"${ids.gone}/4"`)).join('\n'));
    const shorter = Buffer.concat([without, Buffer.alloc(at[index]! - at[index - 1]! - without.length)]);
    writeFileSync(first!.file, Buffer.concat([good.subarray(0, at[index - 1]), shorter, good.subarray(at[index])]));
    await expect(read(ids.gone)).rejects.toThrow(`${first!.file} is not what was written: ${ids.gone}/4 is missing`);
    await expect(everything()).rejects.toThrow('its SHA-256 is another one');
    await expect(compare(database.url, 'domains', () => undefined)).rejects.toThrow('its SHA-256 is another one');
    expect(await faults()).toMatchObject([{ code: 'archive_changed', position: 1 }, { code: 'event_removed' }]);

    restore();
    expect(await faults()).toEqual([]);
    // What the database still has of it is compared as well.
    await pool.query('ALTER TABLE events_1 DISABLE TRIGGER events_are_facts');
    await pool.query(`DELETE FROM events_1 WHERE stream = 'filling 1' AND version = 700`);
    expect(await faults()).toMatchObject([{ code: 'event_removed', event: 'filling 1/700' }]);
  });

  it('waits for whoever holds the log, while appends wait for nobody', async () => {
    const ids = await someLog();
    await seal();
    const reader = await pool.connect();
    await reader.query('BEGIN; SELECT FROM events LIMIT 1');
    let longest = 0;
    const running = run({ patienceMs: 1_500 });
    const ended = running.catch((error: Error) => error);
    const until = Date.now() + 2_500;
    while (Date.now() < until) {
      const began = performance.now();
      await add(`${newId('req').slice(4)}.example.com`);
      expect(await read(ids.lives)).toHaveLength(2);
      longest = Math.max(longest, performance.now() - began);
      await delay(20);
    }
    expect(await ended).toMatchObject({ message: expect.stringMatching(/^Others hold the table events/) as string });
    expect(longest).toBeLessThan(1_000);
    await reader.query('COMMIT');
    reader.release();
    // A rebuild and an export read the log in several statements.
    const held = new EventArchive(pool).read({}, { after: 0, upTo: await log.head() });
    await held.next();
    await expect(run({ patienceMs: 0 })).rejects.toThrow('a rebuild, an export or a replay reads the log');
    await held.return(undefined);
    expect((await run()).lockedMs).toBeLessThan(1_000);
    expect((await verify()).faults).toEqual([]);
  });

  it('counts the mailboxes that a domain had, with those that have ended since', async () => {
    const domain = await add('mail.acme.com');
    await pool.query(`UPDATE domains SET status = 'verified', verified_at = now() WHERE id = $1`, [domain]);
    const id = newId('mbx');
    const home = { domainId: domain, status: 'verified' } as const;
    await execute(new CreateMailbox(id, { address: 'ada@mail.acme.com', team, home, provider: null }, context()));
    const position = (await read(id))[0]!.position;
    const moments = [position - 1, position].map((at) => ({
      domainId: domain,
      position: at,
      time: new Date(clock).toISOString(),
    }));
    await endPartition(1);
    await execute(new DeleteMailbox(id, context()));
    await execute(new EraseMailbox(id, context()));
    await endPartition(2);
    const mailboxes = new MailboxesReadModel(pool);
    expect(await mailboxes.activeAt(moments)).toEqual([0, 1]);
    await run();
    expect(await rows('SELECT FROM events WHERE stream = $1', [id])).toEqual([]);
    expect(await mailboxes.activeAt(moments)).toEqual([0, 1]);
  });

  it('has no byte of an address that is erased', async () => {
    const domain = await add('mail.acme.com');
    await pool.query(`UPDATE domains SET status = 'verified', verified_at = now() WHERE id = $1`, [domain]);
    const [address, other] = ['ada@mail.acme.com', 'bob@mail.acme.com'];
    const home = { domainId: domain, status: 'verified' } as const;
    const create = async (of: string) => {
      const id = newId('mbx');
      await execute(new CreateMailbox(id, { address: of, team, home, provider: null }, context()));
      return id;
    };
    const [ada, bob] = [await create(address), await create(other)];
    for (const id of [ada, bob]) await execute(new DeleteMailbox(id, context()));
    await execute(new EraseMailbox(bob, context()));
    await endPartition(1);
    const erasure = new Erasure({ pool, mailServerUrl: mailServer.url, keyRing });
    await run();
    // What was erased has left the database; what may be erased still is there.
    expect(await rows('SELECT FROM events WHERE stream = $1', [bob])).toEqual([]);
    expect(await rows('SELECT FROM events WHERE stream = $1', [ada])).toHaveLength(2);
    expect(await erasure.erase([ada], false)).toEqual([address]);
    // The key of this one was left, as by a run that was killed.
    expect(await erasure.erase([bob], false)).toEqual([other]);
    const searched: string[] = [];
    expect(await erasure.search([address, other], [], (place) => searched.push(place))).toEqual([]);
    const [archive] = await archivesOf(pool);
    expect(searched).toContain(archive!.file);
    await seal();
    expect((await verify()).faults).toEqual([]);
    // The search finds an address in an archive.
    writeFileSync(archive!.file, Buffer.concat([readFileSync(archive!.file), gzipSync(`{"a":"${address}"}\n`)]));
    expect(await erasure.search([address])).toEqual([{ place: archive!.file, count: 1 }]);
    rmSync(archive!.file);
    await expect(erasure.search([address])).rejects.toThrow(ArchiveAway);
  });
});
