import { generateKeyPairSync } from 'node:crypto';
import { migrate, openPool } from '@app/database';
import {
  EventLog,
  eventHashSql,
  EventPartitions,
  EventStore,
  eventStoreMigrations,
  hashedColumns,
  partitionEvents,
} from '@app/event-store';
import type { Pool } from 'pg';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { auditMigrations } from './audit.migration';
import { checkProof, prove } from './proof';
import { SealingKey, trusting } from './seal';
import { Seals } from './seals';
import { Verification } from './verification';

describe('the audit of a log in many partitions', () => {
  const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
  const trusted = trusting(key.publicKey);
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;
  let seals: Seals;
  let store: EventStore;

  beforeAll(async () => {
    database = await testDatabase();
    const oneTable = eventStoreMigrations.filter(({ name }) => !name.startsWith('PartitionSmallLogs'));
    await migrate(database.url, [...oneTable, ...auditMigrations]);
    pool = openPool(database.url, 4);
    expect(await partitionEvents(pool, { size: 30 })).toMatchObject({ upTo: 30 });
    log = new EventLog(pool);
    seals = new Seals(pool, log, key, 50);
    store = new EventStore(pool);
    for (let version = 0; version < 40; version++)
      for (const stream of ['a', 'b', 'c', ...(version < 3 ? ['old'] : [])]) await append(stream, version);
  });
  afterAll(async () => {
    await log.close();
    await pool.end();
    await database.drop();
  });

  const append = (stream: string, expectedVersion: number) =>
    store.append({
      stream,
      expectedVersion,
      events: [{ type: 'Happened', schemaVersion: 1, data: {}, time: '2026-03-01T10:00:00.000Z' }],
      metadata: { actor: 'test', correlationId: 'test' },
    });
  const verify = () => new Verification(pool, log, { trusted }).run();

  it('seals what is indexed and what is not, and finds and proves all of it', async () => {
    await new EventPartitions(pool).upkeep();
    await append('old', 3);
    expect((await seals.seal()).length).toBeGreaterThan(2);
    expect(await verify()).toMatchObject({ events: 124, unsealed: 0, faults: [] });
    expect(checkProof(await prove(pool, 'old'), trusted)).toMatchObject({ events: 4 });
  });

  it('seals nothing after an event whose place before it has another hash, in whatever partition that is', async () => {
    await pool.query(`SELECT setval('event_positions', (SELECT max(upper) FROM event_partitions WHERE is_open))`);
    await append('a', 40);
    await new EventPartitions(pool).upkeep();
    // An append takes the hash before it from here, and a seal asks the event itself.
    await pool.query(`UPDATE stream_spans SET last_hash = sha256('other') WHERE stream = 'old'`);
    store = new EventStore(pool);
    await append('old', 4);
    await expect(seals.seal()).rejects.toMatchObject({ event: 'old/5', fault: 'link' });
    expect((await verify()).faults).toMatchObject([{ event: 'old/5', code: 'event_unlinked' }]);
  });

  it('names a version that is there twice, in two partitions, though each has its own hash', async () => {
    await append('twice', 0);
    await pool.query(`SELECT setval('event_positions', (SELECT max(upper) FROM event_partitions WHERE is_open))`);
    await append('other', 0);
    const columns = hashedColumns.join(', ');
    await pool.query(`
      INSERT INTO events (${columns}, hash) SELECT ${columns}, ${eventHashSql()} FROM (
        SELECT ${columns.replace('position', `nextval('event_positions') AS position`)} FROM events
        WHERE stream = 'twice'
      ) AS again`);
    expect((await verify()).faults).toMatchObject([
      { event: 'old/5', code: 'event_unlinked' },
      { event: 'twice/1', code: 'event_unlinked' },
    ]);
  });
});
