import { inTransaction, openPool } from '@app/database';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { Epochs } from './epochs';
import { EventStore } from './event-store';
import { eventStoreMigrations } from './event-store.migration';
import { keptUpTo, LostHistory, notInLog, raiseEpoch, readEpochs } from './log-epochs';

const hour = 3_600_000;
const failedOver = new Date('2026-03-01T10:00:00Z');
const now = new Date(failedOver.getTime() + 12 * hour);
/** An id that was made so long after the fail-over; negative for before. */
const idAt = (ms: number) => `mdom_cl${(failedOver.getTime() + ms).toString(36).padStart(9, '0')}0000000000000000`;

describe('a log that has gone on after it was taken back', () => {
  let database: TestDatabase;
  let pool: Pool;

  const append = (stream: string, ms: number) =>
    new EventStore(pool).append({
      stream,
      expectedVersion: 0,
      events: [
        { type: 'Happened', schemaVersion: 1, data: {}, time: new Date(failedOver.getTime() + ms).toISOString() },
      ],
      metadata: { actor: 'test', correlationId: 'c' },
    });
  const restored = (lostSince?: Date) =>
    inTransaction(pool, (client) => raiseEpoch(client, { reason: 'test', givenUpTo: 0, lostSince, now }));

  beforeEach(async () => {
    database = await databaseWith(eventStoreMigrations);
    pool = openPool(database.url, 2);
    // The positions 1 to 3 are from before, 4 and 5 were lost, and 6 and 7 have come since; all of it was consumed.
    await append('a', -hour);
    await append('b', -301_000);
    await append('c', -1_000);
    await pool.query(`SELECT setval('event_positions', 5)`);
    await append('d', 1_000);
    await append('e', 11 * hour);
    await pool.query(`INSERT INTO checkpoints (name, position) VALUES ('all', 7)`);
  });
  afterEach(async () => {
    await pool.end();
    await database.drop();
  });

  it('makes void what was lost since a moment that is given', async () => {
    const { epoch, goesOnAfter } = await restored(failedOver);
    expect(epoch.after).toBe(2);
    expect(goesOnAfter).toBeGreaterThan(7);
    const epochs = new Epochs(await readEpochs(pool));
    expect([1, 2, 3, 4, 5, 7].map((position) => epochs.isVoid({ position }))).toEqual([
      false,
      false,
      true,
      true,
      true,
      true,
    ]);
    // The checkpoint covers the lost ones where no moment is given.
    expect(await keptUpTo(pool as never, 0)).toBe(7);
  });

  it('knows what was made since that moment as lost, however long ago that was', async () => {
    await restored(failedOver);
    const lost = new LostHistory(pool);
    expect(await Promise.all([idAt(-hour), idAt(0), idAt(500), idAt(11 * hour)].map((id) => lost.has(id)))).toEqual([
      false,
      true,
      true,
      true,
    ]);
  });

  it('says which events of a topic it does not have, also where others have their positions', async () => {
    const told = [
      { position: 6, stream: 'd', version: 1 },
      { position: 7, stream: 'lost', version: 1 },
      { position: 5, stream: 'lost', version: 2 },
      { position: 3, stream: 'c', version: 2 },
      { position: 1, stream: 'a', version: 1 },
    ];
    expect((await notInLog(pool, told)).map(({ position }) => position)).toEqual([3, 5, 7]);
    expect(await notInLog(pool, [])).toEqual([]);
  });
});
