import { Logger } from '@nestjs/common';
import { openPool } from '@app/database';
import { eventStoreMigrations, isStreamSql } from '@app/event-store';
import { isMailboxSql, readModelMigrations } from '@app/read-model';
import { SecretUnreadable } from '@app/secret-keys';
import { randomBytes } from 'node:crypto';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { MailboxKeyErased, MailboxKeyLost, mailboxKeyRing, MailboxKeys } from './mailbox-keys';
import { mailboxKeysMigrations } from './mailbox-keys.migration';
import { checkMailboxKeyRing, removeUnusedMailboxKeys, resealMailboxKeys } from './operation';

let database: TestDatabase;
let pool: Pool;
const [old, recent] = [randomBytes(32), randomBytes(32)];
const oldRing = mailboxKeyRing(new Map([['1', old]]));
const newRing = mailboxKeyRing(new Map([...Object.entries({ b: recent }), ['1', old] as const]));

const event = (stream: string, schemaVersion = 2) => ({ stream, type: 'MailboxCreated', schemaVersion });
const personal = JSON.stringify({ address: 'ada@mail.acme.com' });

beforeAll(() => void Logger.overrideLogger(false));
beforeEach(async () => {
  database = await databaseWith([...eventStoreMigrations, ...readModelMigrations, ...mailboxKeysMigrations]);
  pool = openPool(database.url, 4);
});
afterEach(async () => {
  await pool.end();
  await database.drop();
});

/** Gives what a mailbox's sealed text decrypts to, with a ring. */
const opened = async (id: string, sealed: string, ring = oldRing) =>
  (await new MailboxKeys(pool, ring).openerOf([event(id)]))(id, sealed)?.trimEnd();

describe('the keys of mailboxes', () => {
  it('encrypt each mailbox under a key of its own, which is stored encrypted', async () => {
    const keys = new MailboxKeys(pool, oldRing);
    const [one, other] = [await keys.sealerFor('mbx_1'), await keys.sealerFor('mbx_2')];
    const [first, second] = [one(personal), one(personal)];
    expect(first).not.toBe(second);
    for (const sealed of [first, second]) expect(await opened('mbx_1', sealed)).toBe(personal);
    const open = await keys.openerOf([event('mbx_1'), event('mbx_2')]);
    expect(() => open('mbx_1', other(personal))).toThrow();
    expect(() => open('mbx_2', first)).toThrow();
    // Another process, and a later event, encrypt under the same key.
    const again = await new MailboxKeys(pool, oldRing).sealerFor('mbx_1');
    expect(open('mbx_1', again(personal))?.trimEnd()).toBe(personal);
    // Short and long addresses look the same.
    expect(one('{"address":"a@b.com"}')).toHaveLength(first.length);
  });

  it('are made once, however many make one at the same time', async () => {
    const seals = await Promise.all(
      Array.from({ length: 12 }, () => new MailboxKeys(pool, oldRing).sealerFor('mbx_1')),
    );
    for (const seal of seals) expect(await opened('mbx_1', seal(personal))).toBe(personal);
  });

  it('are not asked for where nothing is encrypted', async () => {
    const keys = new MailboxKeys(pool);
    await keys.openerOf([event('mbx_1', 1), { stream: 'mbx_1', type: 'MailboxSuspended', schemaVersion: 1 }]);
    await expect(keys.sealerFor('mbx_1')).rejects.toThrow(/PERSONAL_DATA_KEYS is not set/);
  });

  it('open nothing once they are destroyed, and encrypt nothing', async () => {
    const sealed = (await new MailboxKeys(pool, oldRing).sealerFor('mbx_1'))(personal);
    await pool.query(`UPDATE mailbox_keys SET key = NULL, key_id = NULL, erased_at = now()`);
    expect(await opened('mbx_1', sealed)).toBeUndefined();
    await expect(new MailboxKeys(pool, oldRing).sealerFor('mbx_1')).rejects.toThrow(MailboxKeyErased);
  });

  it('are missed where one is lost, which is no erasure', async () => {
    await expect(opened('mbx_1', '')).rejects.toThrow(MailboxKeyLost);
  });

  it('of which one is lost and one cannot be opened are read beside each other', async () => {
    const keys = new MailboxKeys(pool, oldRing);
    const sealed = (await keys.sealerFor('mbx_1'))(personal);
    const other = (await new MailboxKeys(pool, mailboxKeyRing(new Map([['b', recent]]))).sealerFor('mbx_2'))(personal);
    const open = await keys.openerOf([event('mbx_3'), event('mbx_2'), event('mbx_1')]);
    expect(open('mbx_1', sealed)?.trimEnd()).toBe(personal);
    expect(() => open('mbx_2', other)).toThrow(SecretUnreadable);
    expect(() => open('mbx_3', sealed)).toThrow(MailboxKeyLost);
  });

  it('change to another key of the ring, row by row', async () => {
    const sealed = (await new MailboxKeys(pool, oldRing).sealerFor('mbx_1'))(personal);
    const alone = mailboxKeyRing(new Map([['b', recent]]));
    await expect(opened('mbx_1', sealed, alone)).rejects.toThrow(SecretUnreadable);
    expect((await resealMailboxKeys(pool, alone)).unreadable).toHaveLength(1);
    expect(await resealMailboxKeys(pool, newRing)).toEqual({ resealed: 1, unreadable: [] });
    expect(await resealMailboxKeys(pool, newRing)).toEqual({ resealed: 0, unreadable: [] });
    expect(await opened('mbx_1', sealed, alone)).toBe(personal);
  });

  it('are refused at the start under an id that another key has', async () => {
    await new MailboxKeys(pool, oldRing).sealerFor('mbx_1');
    await checkMailboxKeyRing(pool, newRing);
    const wrong = mailboxKeyRing(new Map([['1', randomBytes(32)]]));
    await expect(checkMailboxKeyRing(pool, wrong)).rejects.toThrow('The key "1" of PERSONAL_DATA_KEYS opens none');
  });

  it('are removed where their creation was refused, an hour later, unless they are wanted again', async () => {
    const keys = new MailboxKeys(pool, oldRing);
    for (const id of ['mbx_new', 'mbx_refused', 'mbx_again', 'mbx_there']) await keys.sealerFor(id);
    await pool.query(`UPDATE mailbox_keys SET wanted_at = now() - interval '2 hours' WHERE mailbox_id <> 'mbx_new'`);
    await pool.query(
      `INSERT INTO mailboxes (id, address, team, status, created_at, updated_at, version)
       VALUES ('mbx_there', 'a@b', 'team_a', 'active', now(), now(), 1)`,
    );
    const again = await keys.sealerFor('mbx_again');
    expect(await removeUnusedMailboxKeys(pool, [isStreamSql, isMailboxSql])).toBe(1);
    const { rows } = await pool.query<{ id: string }>('SELECT mailbox_id AS id FROM mailbox_keys ORDER BY 1');
    expect(rows.map(({ id }) => id)).toEqual(['mbx_again', 'mbx_new', 'mbx_there']);
    expect(await opened('mbx_again', again(personal))).toBe(personal);
  });
});
