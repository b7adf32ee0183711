import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { openPool, withClient } from '@app/database';
import { EventStore } from '@app/event-store';
import { MailServer } from '@app/mail-server';
import { newId } from '@app/runtime';
import type { Pool } from 'pg';
import { dyingPool } from '../../test/support/dying-pool';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { mailboxKeyRingOfTests } from '../../test/support/mailbox-keys';
import { sample } from '../../test/support/sample';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { Erasure, remedies } from './erasure';
import { deleteTeam } from './team-deletion';

let database: TestDatabase;
let mailServerDatabase: TestDatabase;
let gateway: TestGateway;
let pool: Pool;
let mailServer: MailServer;
let domain: string;
let key: string;
let team: string;

beforeAll(async () => {
  [database, mailServerDatabase] = [await migratedDatabase('service'), await migratedDatabase('mail_server')];
  gateway = await startGateway(database.url);
  pool = openPool(database.url, 4);
  mailServer = new MailServer({ url: mailServerDatabase.url });
  ({ key, team } = await gateway.key());
  const added = await call('POST', '/domains', { domain: 'mail.acme.com' });
  domain = added.body.data.id;
  await call('POST', `/domains/${domain}/verify`);
});
afterAll(async () => {
  await mailServer.close();
  await gateway.close();
  await pool.end();
  await Promise.all([database.drop(), mailServerDatabase.drop()]);
});

const call = (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> =>
  gateway.call(method, `/api/v1${path}`, { key, body, headers });

const erasure = (on = pool) =>
  new Erasure({ pool: on, mailServerUrl: mailServerDatabase.url, keyRing: mailboxKeyRingOfTests });

let count = 0;

/** Makes a mailbox whose address lies everywhere where addresses may lie, and gives its id and the address. */
async function mailbox(isDeleted = true): Promise<{ id: string; address: string }> {
  const address = `ada${(count += 1)}@mail.acme.com`;
  const body = { address, display_name: 'Ada Lovelace' };
  const id = (await call('POST', '/mailboxes', body, { 'Idempotency-Key': address.slice(0, 5) })).body.data.id;
  await mailServer.putMailbox({ id, address, domainId: domain, status: 'active', provider: null, version: 2 });
  await pool.query(
    `INSERT INTO webhook_deliveries (webhook, id, lane, message, type, subject, version, position, occurred_at, response)
     VALUES ('whk_1', $1, 'live', $2, 'mailbox.created', $3, 1, 1, now(), $4)`,
    [newId('msg'), `${id}/1`, id, Buffer.from(`{"thanks":"${address}"}`)],
  );
  await pool.query(
    `INSERT INTO parked_messages (consumer_group, message, type, event, error, attempts, stream, position)
     VALUES ('g', $1, 'MailboxCreated', '{}', $2, 1, $3, 1)`,
    [`${id}/1`, `cannot place ${address.toUpperCase()}`, id],
  );
  await pool.query(
    `INSERT INTO tasks (list, key, kind, payload, due, last_error) VALUES ('placement', $1, 'k', '{}', now(), $2)`,
    [id, `key (address)=(${address}) is there`],
  );
  if (isDeleted) await call('DELETE', `/mailboxes/${id}`);
  return { id, address };
}

async function events(id: string): Promise<string[]> {
  const { rows } = await pool.query<{ type: string }>('SELECT type FROM events WHERE stream = $1 ORDER BY version', [
    id,
  ]);
  return rows.map(({ type }) => type);
}

describe('a mailbox that is erased', () => {
  it('is in no table any more, in whatever encoding, and what is not personal stays', async () => {
    const { id, address } = await mailbox();
    // Statistics have values of columns that have more than one.
    for (let other = 0; other < 3; other++) await mailbox();
    await pool.query('ANALYZE');
    const before = (await erasure().search([address])).map(({ place }) => place);
    expect(before.sort()).toEqual([
      'idempotency_keys',
      'mail_mailboxes',
      'mailboxes',
      'parked_messages',
      'pg_stats',
      'tasks',
      'webhook_deliveries',
    ]);
    expect(await erasure().erase(await erasure().withAddress(address), false)).toEqual([address]);
    expect(await erasure().search([address])).toEqual([]);
    expect((await events(id)).slice(-2)).toEqual(['MailboxDeleted', 'MailboxErased']);
    const { rows } = await pool.query('SELECT id, team, status, address, display_name FROM mailboxes WHERE id = $1', [
      id,
    ]);
    expect(rows).toEqual([{ id, team, status: 'deleted', address: null, display_name: null }]);
    const list = await call('GET', '/mailboxes?include_deleted=true');
    expect(list.body.data).toContainEqual(expect.objectContaining({ id, address: '', email: '', display_name: null }));
  });

  it('is not erased twice, and is searched for by its address as often as wanted', async () => {
    const { id, address } = await mailbox();
    await erasure().erase([id], false);
    expect(await erasure().erase([id], false)).toEqual([]);
    expect(await erasure().withAddress(address)).toEqual([]);
    expect((await events(id)).filter((type) => type === 'MailboxErased')).toHaveLength(1);
  });

  it('has to be deleted, or is deleted where that is asked for', async () => {
    const { id, address } = await mailbox(false);
    await expect(erasure().erase([id], false)).rejects.toThrow(/is active, and it takes mail/);
    expect((await call('GET', `/mailboxes/${id}`)).status).toBe(200);
    expect(await erasure().erase([id], true)).toEqual([address]);
    expect((await call('GET', `/mailboxes/${id}`)).status).toBe(404);
    expect(await erasure().search([address])).toEqual([]);
  });

  it('frees its address, and another mailbox with it is told of', async () => {
    const { id, address } = await mailbox();
    const other = (await call('POST', '/mailboxes', { address })).body.data.id;
    await erasure().erase([id], false);
    const left = await erasure().search([address]);
    expect(left).toEqual([{ place: 'mailboxes', count: 1, hint: expect.stringContaining('another') as string }]);
    expect((await call('GET', `/mailboxes/${other}`)).body.data).toMatchObject({ address });
    expect(await erasure().withAddress(address)).toEqual([other]);
  });

  it('is told of where the log, or a table that a rebuild has left, still has its address', async () => {
    const { id, address } = await mailbox();
    await pool.query('CREATE TABLE mailboxes_rebuild AS SELECT * FROM mailboxes WHERE id = $1', [id]);
    await new EventStore(pool).append({
      stream: 'mbx_clear',
      expectedVersion: 0,
      metadata: { actor: 'operator', correlationId: 'req_1' },
      events: [{ type: 'MailboxCreated', schemaVersion: 1, data: { address }, time: '2026-04-15T10:00:00.000Z' }],
    });
    await erasure().erase([id], false);
    expect(await erasure().search([address])).toEqual([
      { place: 'events_1', count: 1, hint: expect.stringContaining('migrate-log') as string },
      { place: 'mailboxes_rebuild', count: 1, hint: expect.stringContaining('projections rebuild') as string },
    ]);
    await pool.query('DROP TABLE mailboxes_rebuild');
  });

  it('stays erased, whatever comes late to the mail server', async () => {
    const { id, address } = await mailbox();
    await erasure().erase([id], false);
    await mailServer.putMailbox({ id, address, domainId: domain, status: 'deleted', provider: null, version: 3 });
    expect(await erasure().search([address])).toEqual([]);
  });

  it('is found in files, of which nothing is changed', async () => {
    const { address } = await mailbox();
    const folder = mkdtempSync(join(tmpdir(), 'sendmux-erasure-'));
    const [log, archive, other] = ['app.log', 'events.ndjson.gz', 'other.log'].map((name) => join(folder, name));
    writeFileSync(log!, `{"url":"/x?email=${encodeURIComponent(address)}"}\n{}\n`);
    writeFileSync(archive!, gzipSync(`{}\n{"data_base64":"${Buffer.from(`"${address}"`).toString('base64')}"}\n`));
    writeFileSync(other!, 'nothing\n');
    const left = await erasure().search([address], [log!, archive!, other!]);
    expect(left.filter(({ place }) => place.startsWith(folder))).toEqual([
      { place: log, count: 1 },
      { place: archive, count: 1 },
    ]);
    rmSync(folder, { recursive: true });
  });
});

it('erases a team that is deleted, with its mailboxes, names and kept answers', async () => {
  const other = await gateway.key();
  const suffix = other.team.replace('team_', '-');
  const address = `grace${suffix}@myagent.mx`;
  const asked = { key: other.key, headers: { 'Idempotency-Key': 'g' } };
  const made = await gateway.call('POST', '/api/v1/mailboxes', { ...asked, body: { address } });
  const id = made.body.data.id;
  await expect(erasure().eraseTeam(other.team)).rejects.toThrow(/is not deleted/);
  await gateway.call('DELETE', `/api/v1/mailboxes/${id}`, { key: other.key });
  await deleteTeam(pool, other.team);
  await pool.query('UPDATE api_keys SET name = $2 WHERE team = $1', [other.team, 'Laptop of Grace']);
  expect(await erasure().eraseTeam(other.team)).toEqual({ ids: [id], addresses: [address] });
  expect(await erasure().search([address])).toEqual([]);
  expect(await erasure().eraseTeam(other.team)).toEqual({ ids: [id], addresses: [] });
  const { rows } = await pool.query<{ name: string }>(
    `SELECT name FROM api_keys WHERE team = $1 UNION ALL SELECT name FROM teams WHERE id = $1
     UNION ALL SELECT key FROM idempotency_keys WHERE team = $1`,
    [other.team],
  );
  expect(rows.map(({ name }) => name)).toEqual(['erased', 'erased']);
});

it('goes on after a kill before any statement', async () => {
  const ended: number[] = [];
  for (let after = 0; ended.length === 0; after += sample(3, 1)) {
    const { id, address } = await mailbox();
    const dying = dyingPool(database.url, after);
    const outcome = await erasure(dying)
      .erase([id], false)
      .then(
        () => 'done',
        (error: Error) => error.message,
      );
    await withClient(dying, () => Promise.resolve()).catch(() => undefined);
    await dying.end();
    if (outcome === 'done') ended.push(after);
    else expect(outcome).toMatch(/killed|before an append/);
    // The operator has the address alone, or the id alone.
    await erasure().erase(after % 2 === 0 ? await erasure().withAddress(address) : [id], false);
    expect(await erasure().search([address])).toEqual([]);
    const { rows } = await pool.query('SELECT FROM mailbox_keys WHERE mailbox_id = $1 AND key IS NULL', [id]);
    expect(rows).toHaveLength(1);
    expect((await events(id)).filter((type) => type === 'MailboxErased')).toHaveLength(1);
  }
  expect(ended[0]).toBeGreaterThan(8);
}, 120_000);

it('has a remedy for tables and columns that there are alone', async () => {
  for (const [table, remedy] of Object.entries(remedies)) {
    const columns = remedy === 'delete' ? [] : Object.keys(remedy);
    const { rows } = await pool.query<{ name: string }>(
      'SELECT column_name AS name FROM information_schema.columns WHERE table_name = $1',
      [table],
    );
    expect([table, rows.length > 0]).toEqual([table, true]);
    expect(rows.map(({ name }) => name)).toEqual(expect.arrayContaining(columns));
  }
});
