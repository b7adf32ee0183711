import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  auditMigrations,
  changesOf,
  checkProof,
  importAmendment,
  importSeal,
  KeyUnusable,
  newestAmendment,
  prove,
  ProofRefused,
  Seals,
  SealingKey,
  storedAmendments,
  storedSeals,
  trusting,
  Verification,
  type Proof,
  type Verified,
} from '@app/audit';
import { Logger } from '@nestjs/common';
import { inTransaction, openPool } from '@app/database';
import { finder, needlesOf } from '@app/erasure';
import {
  EventArchive,
  EventLog,
  EventPartitions,
  EventStore,
  eventStoreMigrations,
  partitionEvents,
} from '@app/event-store';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { messagingMigrations } from '@app/messaging';
import { mailboxesProjection, mailboxRow, readModelMigrations } from '@app/read-model';
import { evolveMailbox, noMailbox, type Mailbox, type MailboxEvent } from '@app/mailbox';
import { rebuild } from '@app/rebuild';
import type { Pool } from 'pg';
import { dyingPool } from '../../test/support/dying-pool';
import { mailboxKeyRingOfTests as keyRing, mailboxKeysIn } from '../../test/support/mailbox-keys';
import { sample } from '../../test/support/sample';
import { migratedDatabase } from '../../test/support/migrated-database';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { Erasure } from './erasure';
import { amendmentLine, readAmendmentLine, readSeal, sealLine } from './event-file';
import { unamended } from './event-export';
import { encryptLog } from './log-encryption';

const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
const trusted = trusting(key.publicKey);
const metadata = { actor: 'key_1', correlationId: 'req_1' };
const time = '2026-04-15T10:00:00.123Z';
const addressOf = (n: number) => `ada${n}@mail.acme.com`;

let database: TestDatabase;
let mailServer: TestDatabase;
let pool: Pool;
let log: EventLog;

beforeAll(() => {
  Logger.overrideLogger(false);
});
beforeEach(async () => {
  [database, mailServer] = [await migratedDatabase('service'), await migratedDatabase('mail_server')];
  pool = openPool(database.url, 4);
  log = new EventLog(pool);
});
afterEach(async () => {
  await log.close();
  await pool.end();
  await Promise.all([database.drop(), mailServer.drop()]);
});

/** Records the life of a mailbox as an earlier release did: in clear. */
async function recordInClear(n: number): Promise<string> {
  const id = `mbx_${n}`;
  const data = { address: addressOf(n), team: `team_${n}`, domainId: null };
  const life: [MailboxEvent['type'], object][] = [
    ['MailboxCreated', data],
    ['MailboxSuspended', {}],
    ['DisplayNameChanged', { displayName: `Ada ${n}` }],
    ['MailboxDeleted', {}],
  ];
  let state: Mailbox = noMailbox;
  for (const [i, [type, each]] of life.entries()) {
    state = evolveMailbox(state, { type, mailboxId: id, at: time, data: each } as MailboxEvent);
    await new EventStore(pool, mailboxesProjection).append({
      stream: id,
      expectedVersion: i,
      metadata,
      events: [{ type, schemaVersion: 1, time, data: each }],
      row: mailboxRow(state, i + 1, time),
    });
    await new EventStore(pool).append({
      stream: `mdom_${n}`,
      expectedVersion: i,
      metadata,
      events: [{ type: 'Happened', schemaVersion: 1, time, data: { i } }],
    });
  }
  await pool.query(
    `INSERT INTO parked_messages (consumer_group, message, type, event, error, attempts, stream, position)
     VALUES ('g', $1, 'MailboxCreated', $2, 'no', 1, $3, 1)`,
    [`${id}/1`, JSON.stringify({ stream: id, version: 1, schemaVersion: 1, data }), id],
  );
  return id;
}

const verify = (): Promise<Verified> => new Verification(pool, log, { trusted, sealedBefore: new Date() }).run();
const seal = (most = 5) => new Seals(pool, log, key, most).seal();
const run = (on = pool) => encryptLog(on, mailboxKeysIn(on), key);

async function tampered(statement: string, values: unknown[] = []): Promise<void> {
  await pool.query('ALTER TABLE events DISABLE TRIGGER events_are_facts');
  await pool.query(statement, values);
  await pool.query('ALTER TABLE events ENABLE TRIGGER events_are_facts');
}

describe('a log in clear that is encrypted', () => {
  it('has no address any more, is verified, and its read models are as before', async () => {
    for (let n = 0; n < 3; n++) await recordInClear(n);
    await seal();
    await recordInClear(3);
    const before = await pool.query('SELECT * FROM mailboxes ORDER BY id');
    expect(await run()).toEqual({ mailboxes: 4, encrypted: 8, rehashed: 16 });
    await seal();

    const has = finder([0, 1, 2, 3].map((n) => needlesOf(addressOf(n))));
    for (const table of ['events', 'parked_messages', 'audit_amendments', 'audit_amended_events']) {
      const { rows } = await pool.query<{ row: string }>(`SELECT ${table}::text AS row FROM ${table}`);
      expect(rows.length).toBeGreaterThan(0);
      expect([table, rows.some(({ row }) => has(row))]).toEqual([table, false]);
    }
    expect(await verify()).toMatchObject({ events: 32, unsealed: 0, amendments: 1, amended: 16, faults: [] });
    await pool.query('DELETE FROM mailboxes');
    await rebuild(database.url, 'mailboxes', { keyRing });
    expect((await pool.query('SELECT * FROM mailboxes ORDER BY id')).rows).toEqual(before.rows);
    expect(await run()).toEqual({ mailboxes: 0, encrypted: 0, rehashed: 0 });

    // An event of this release, in a stream that was encrypted, and one that was in clear for longer.
    await recordInClear(4);
    await seal();
    await run();
    expect(await verify()).toMatchObject({ amendments: 2, amended: 20, faults: [] });
  });

  it('is erased then as any other', async () => {
    const id = await recordInClear(0);
    const erasure = new Erasure({ pool, mailServerUrl: mailServer.url, keyRing });
    await expect(erasure.erase([id], false)).rejects.toThrow('`sendmux erase migrate-log`');
    await seal();
    await run();
    await erasure.erase([id], false);
    expect(await erasure.search([addressOf(0)])).toEqual([]);
    await seal();
    expect((await verify()).faults).toEqual([]);
  });

  it('is changed by the key of the sealer alone', async () => {
    await recordInClear(0);
    await seal();
    const other = new SealingKey(generateKeyPairSync('ed25519').privateKey);
    await expect(encryptLog(pool, mailboxKeysIn(pool), other)).rejects.toThrow(KeyUnusable);
  });

  it.each([
    ['an event in clear', `UPDATE events SET data = '{"address":"eve@mail.acme.com"}' WHERE type = 'MailboxCreated'`],
    ['an event after it', `UPDATE events SET data = '{"reason":"domain_released"}' WHERE type = 'MailboxSuspended'`],
    ['a link', `UPDATE events SET previous = sha256('x') WHERE type = 'MailboxDeleted'`],
  ])('stays as it is where somebody has changed %s, so that it is found', async (_what, change) => {
    for (let n = 0; n < 3; n++) await recordInClear(n);
    await seal();
    await tampered(`${change} AND stream = 'mbx_1'`);
    await expect(run()).rejects.toThrow(/^1 mailboxes stay in clear, .*: mbx_1\/\d .* Run `sendmux audit verify`$/);
    expect(await verify()).toMatchObject({ amended: 8, faults: [{ code: 'event_changed' }] });
  });

  it('waits for whoever holds the table, and nobody waits behind it', async () => {
    await recordInClear(0);
    const holder = await pool.connect();
    // As a conversion and a vacuum do, beside which appends go on.
    await holder.query('BEGIN; LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE');
    const running = run();
    const longest = { ms: 0 };
    for (let n = 1; n <= 10; n++) {
      const began = performance.now();
      await new EventStore(pool).append({
        stream: `mdom_9${n}`,
        expectedVersion: 0,
        metadata,
        events: [{ type: 'Happened', schemaVersion: 1, time, data: {} }],
      });
      longest.ms = Math.max(longest.ms, performance.now() - began);
      await delay(50);
    }
    expect(longest.ms).toBeLessThan(2_000);
    await expect(encryptLog(pool, mailboxKeysIn(pool), key, { patienceMs: 0 })).rejects.toThrow(
      'Others hold the table',
    );
    await holder.query('COMMIT');
    holder.release();
    expect(await running).toMatchObject({ mailboxes: 1 });
    expect((await verify()).faults.filter(({ code }) => code !== 'seal_missing')).toEqual([]);
  });

  it('is no tampering to a verification that has begun before', async () => {
    await recordInClear(0);
    await seal();
    const head = async () => {
      const settled = await log.head();
      await run();
      return settled;
    };
    expect((await new Verification(pool, { head }, { trusted }).run()).faults).toEqual([]);
  });

  it('makes no export that has begun before, since nobody could import it', async () => {
    for (let n = 0; n < 2; n++) await recordInClear(n);
    await seal();
    const lines = async function* () {
      yield* [''];
      await run();
    };
    const read = async (all: AsyncIterable<string>) => {
      for await (const line of all) expect(line).toBe('');
    };
    await expect(read(unamended(pool, await newestAmendment(pool), lines()))).rejects.toThrow('Begin again');
    await read(unamended(pool, await newestAmendment(pool), lines()));
  });

  it('has a message encrypted that is parked as the topic still has it', async () => {
    const id = await recordInClear(0);
    const { rows } = await pool.query<{ event: string }>('SELECT event::text FROM parked_messages');
    await run();
    await pool.query('UPDATE parked_messages SET event = $1', [rows[0]!.event]);
    await run();
    const parked = await pool.query<{ event: object }>('SELECT event FROM parked_messages');
    const [created] = await new EventStore(pool).readStream(id, 1, 1);
    expect(parked.rows).toEqual([{ event: { stream: id, version: 1, schemaVersion: 2, data: created!.data } }]);
  });

  it('waits for a redrive of one of its messages, and no append waits for both', async () => {
    const id = await recordInClear(0);
    let encrypting: Promise<unknown> | undefined;
    await inTransaction(pool, async (client) => {
      await client.query('SELECT FROM parked_messages WHERE stream = $1 FOR UPDATE', [id]);
      encrypting = run();
      await delay(300);
      await new EventStore(pool).append({
        stream: id,
        expectedVersion: 4,
        metadata,
        events: [{ type: 'Happened', schemaVersion: 1, time, data: {} }],
      });
    });
    expect(await encrypting).toMatchObject({ mailboxes: 1, encrypted: 2 });
  });

  it.each<[string, (id: string) => Promise<void>, string]>([
    [
      'a ciphertext that was changed',
      () => tampered(`UPDATE events SET data = '{"sealed":"AAAA"}' WHERE type = 'MailboxCreated'`),
      'event_changed',
    ],
    [
      'an amendment whose text was changed',
      async () => {
        await pool.query('ALTER TABLE audit_amendments DISABLE TRIGGER amendments_are_facts');
        await pool.query(`UPDATE audit_amendments SET statement = replace(statement, 'events 4', 'events 5')`);
      },
      'amendment_unsigned',
    ],
    [
      'an amendment that was taken away',
      async () => {
        for (const table of ['audit_amended_events', 'audit_amendments']) {
          await pool.query(`ALTER TABLE ${table} DISABLE TRIGGER amendments_are_facts`);
          await pool.query(`DELETE FROM ${table}`);
        }
      },
      'event_replaced',
    ],
    [
      'a change of an event that no amendment names',
      async () => {
        await pool.query('ALTER TABLE audit_amended_events DISABLE TRIGGER amendments_are_facts');
        await pool.query(`UPDATE audit_amended_events SET after = sha256('x') WHERE position = 1`);
      },
      'amendment_unsigned',
    ],
  ])('shows %s', async (_what, change, code) => {
    const id = await recordInClear(0);
    await seal();
    await run();
    expect((await verify()).faults).toEqual([]);
    await change(id);
    expect((await verify()).faults.map((fault) => fault.code)).toContain(code);
  });

  it('is the same log where it is exported to, by the lines of an export', async () => {
    await recordInClear(0);
    await seal();
    await run();
    await recordInClear(1);
    await seal();
    const kept = await Promise.all(
      (await storedAmendments(pool)).map(async (amendment) =>
        readAmendmentLine(amendmentLine({ amendment, changes: await changesOf(pool, amendment.number) })),
      ),
    );
    const seals = (await storedSeals(pool)).map((each) => readSeal(sealLine(each))!);
    const upTo = await log.head();
    const pages = async function* () {
      for await (const { events } of new EventArchive(pool).read({}, { after: 0, upTo })) yield events;
    };
    const other = await migratedDatabase('service');
    const there = openPool(other.url, 2);
    const logThere = new EventLog(there);
    await new EventArchive(there).fill(pages(), upTo, async (client) => {
      for (const each of kept) await importAmendment(client, each!.amendment, each!.changes);
      for (const each of seals) await importSeal(client, each);
    });
    expect(await new Verification(there, logThere, { trusted }).run()).toMatchObject({ amended: 4, faults: [] });
    await logThere.close();
    await there.end();
    await other.drop();
  });

  it('refuses changes to everybody else, as before', async () => {
    const id = await recordInClear(0);
    await run();
    await expect(pool.query(`UPDATE events SET data = '{}' WHERE stream = $1`, [id])).rejects.toThrow(
      'only ever added',
    );
    await expect(pool.query('DELETE FROM events')).rejects.toThrow('only ever added');
  });

  it('can be proven, by the script too, and no other change can', async () => {
    const id = await recordInClear(0);
    await seal(3);
    await run();
    const proof = JSON.parse(JSON.stringify(await prove(pool, id))) as Proof;
    expect(checkProof(proof, trusted)).toMatchObject({ stream: id, events: 4, amended: 4 });
    const folder = mkdtempSync(join(tmpdir(), 'sendmux-proof-'));
    const check = (what: unknown) => {
      writeFileSync(join(folder, 'proof.json'), JSON.stringify(what));
      writeFileSync(join(folder, 'key.pem'), key.publicKey.export({ type: 'spki', format: 'pem' }));
      const args = [resolve('docs/audit/check_proof.py'), join(folder, 'proof.json'), join(folder, 'key.pem')];
      return spawnSync('python3', args, { encoding: 'utf8' });
    };
    expect(check(proof)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining(
        '4 of them have changed since, by signed amendments: personal-data-encrypted',
      ) as string,
    });
    const broken: ((copy: { events: { amended?: unknown }[]; amendments?: unknown }) => void)[] = [
      (copy) => delete copy.events[0]!.amended,
      (copy) => delete copy.amendments,
      (copy) => ((copy.events[1]!.amended as { before: string }[])[0]!.before = '00'.repeat(32)),
      (copy) => ((copy.events[1]!.amended as { index: number }[])[0]!.index = 0),
    ];
    for (const change of broken) {
      const copy = JSON.parse(JSON.stringify(proof)) as Parameters<typeof change>[0];
      change(copy);
      expect(() => checkProof(copy, trusted)).toThrow(ProofRefused);
      expect(check(copy).status).toBe(1);
    }
    rmSync(folder, { recursive: true });
  });
});

it('goes on after a kill before any statement, beside appends', async () => {
  for (let after = 1, isDone = false; !isDone; after += sample(4, 1)) {
    const first = 10 * after;
    await recordInClear(first);
    await seal();
    const dying = dyingPool(database.url, after);
    const [outcome] = await Promise.all([
      run(dying).then(
        () => 'done',
        () => 'killed',
      ),
      recordInClear(first + 1),
    ]);
    await dying.end();
    isDone = outcome === 'done';
    expect((await verify()).faults.filter(({ code }) => code !== 'seal_missing')).toEqual([]);
    await run();
    await seal();
    expect((await verify()).faults).toEqual([]);
  }
  const { rows } = await pool.query(`SELECT FROM events WHERE type = 'MailboxCreated' AND schema_version = 1`);
  expect(rows).toEqual([]);
}, 120_000);

it('breaks no chain beside appends that open partitions, and beside the indexing and sealing of them', async () => {
  await log.close();
  await pool.end();
  await database.drop();
  const inOneTable = eventStoreMigrations.filter(({ name }) => !name.startsWith('PartitionSmallLogs'));
  const others = [...auditMigrations, ...readModelMigrations, ...mailboxKeysMigrations, ...messagingMigrations];
  database = await databaseWith([...inOneTable, ...others]);
  pool = openPool(database.url, 12);
  log = new EventLog(pool);
  await partitionEvents(pool, { size: 20 });
  let isRecording = true;
  const again = async (work: () => Promise<unknown>, everyMs = 5) => {
    while (isRecording) await work().then(() => delay(everyMs));
  };
  const working = Promise.all([
    again(() => new EventPartitions(pool).upkeep()),
    again(() => run(), 300),
    again(() => seal()),
  ]);
  const many = sample(8, 60);
  await Promise.all(
    [0, 1, 2, 3].map(async (of) => {
      for (let n = of; n < many; n += 4) await recordInClear(n);
    }),
  );
  isRecording = false;
  await working;
  await run();
  await new EventPartitions(pool).upkeep();
  await seal();
  expect(await verify()).toMatchObject({ events: 8 * many, unsealed: 0, faults: [] });
  const { rows: clear } = await pool.query(`SELECT FROM events WHERE type = 'MailboxCreated' AND schema_version = 1`);
  const { rows: stale } = await pool.query(
    'SELECT FROM stream_spans s JOIN events e ON e.position = s.last_position WHERE e.hash <> s.last_hash',
  );
  const { rows: spans } = await pool.query('SELECT FROM stream_spans');
  expect([clear, stale, spans.length > many]).toEqual([[], [], true]);
}, 60_000);
