import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations } from '@app/event-store';
import type { Pool } from 'pg';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { auditMigrations } from './audit.migration';
import { checkProof, ProofRefused, prove, type Proof, type ProvenEvent } from './proof';
import { SealingKey, trusting, type Seal } from './seal';
import { Seals } from './seals';

const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
const trusted = trusting(key.publicKey);
const metadata = { actor: 'key_1', correlationId: 'req_1' };

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };
type Changeable = Mutable<Omit<ProvenEvent, 'path'>> & { path: string[] };
type Copy = { stream: string; events: Changeable[]; seals: Record<string, Mutable<Seal>> };

describe('the proof of a stream', () => {
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;
  let proof: Proof;

  beforeAll(async () => {
    database = await databaseWith([...eventStoreMigrations, ...auditMigrations]);
    pool = openPool(database.url, 4);
    log = new EventLog(pool);
    const [store, seals] = [new EventStore(pool), new Seals(pool, log, key, 7)];
    for (let i = 0; i < 12; i++) {
      for (const stream of ['mdom_a', 'mdom_b', 'mdom_c'].slice(0, 1 + (i % 3)))
        await store.append({
          stream,
          metadata,
          expectedVersion: (await store.readStream(stream)).length,
          events: [
            { type: 'Happened', schemaVersion: 1, time: '2026-04-15T10:00:00.123Z', data: { i, text: 'Zürich 🙂' } },
          ],
        });
      if (i === 6) await seals.seal();
    }
    await seals.seal();
    await store.append({
      stream: 'mdom_a',
      expectedVersion: 12,
      metadata,
      events: [{ type: 'Happened', schemaVersion: 1, time: '2026-04-16T10:00:00.000Z', data: {} }],
    });
    proof = (await prove(pool, 'mdom_a'))!;
  });
  afterAll(async () => {
    await log?.close();
    await pool?.end();
    await database?.drop();
  });

  it('shows every sealed event of it, through the text of a file', () => {
    expect(proof.unsealed).toBe(1);
    expect(Object.keys(proof.seals).length).toBeGreaterThan(2);
    expect(checkProof(JSON.parse(JSON.stringify(proof)), trusted)).toMatchObject({
      stream: 'mdom_a',
      events: 12,
      signers: [key.id],
    });
  });

  it('is undefined for a stream that does not exist', async () => {
    expect(await prove(pool, 'mdom_x')).toBeUndefined();
  });

  it('is refused with any other key, and with any change', () => {
    expect(() => checkProof(proof, trusting(generateKeyPairSync('ed25519').publicKey))).toThrow('not signed by');
    const changed = (change: (copy: Copy) => void) => {
      const copy = JSON.parse(JSON.stringify(proof)) as Copy;
      change(copy);
      return () => checkProof(copy, trusted);
    };
    const changes: Record<string, (event: Changeable) => void> = {
      position: (event) => (event.position += 1),
      version: (event) => (event.version += 1),
      type: (event) => (event.type += 'x'),
      schema_version: (event) => (event.schema_version = 2),
      time: (event) => (event.time = event.time.replace('.123000', '.123001')),
      data: (event) => (event.data += ' '),
      metadata: (event) => (event.metadata = event.metadata.replace('key_1', 'key_2')),
      hash: (event) => (event.hash = event.hash.replace(/^../, '00')),
      seal: (event) => (event.seal += 1),
      index: (event) => (event.index += 1),
      path: (event) => event.path.pop(),
    };
    for (const place of [0, 5, 11])
      for (const [name, change] of Object.entries(changes))
        expect({ name, refused: isRefused(changed(({ events }) => change(events[place]!))) }).toEqual({
          name,
          refused: true,
        });
    expect(changed((copy) => copy.events.splice(3, 1))).toThrow('mdom_a/4 is missing');
    expect(changed((copy) => (copy.stream = 'mdom_b'))).toThrow('mdom_a/1'.replace('_a', '_b'));
    expect(changed((copy) => (copy.seals['1']!.statement += ' '))).toThrow('not signed');
    expect(changed((copy) => delete copy.seals['1'])).toThrow('covered by no seal');
    expect(() => checkProof({}, trusted)).toThrow('no proof in the format');
    expect(() => checkProof(null, trusted)).toThrow('no proof in the format');
  });

  it('can be checked by others, without our code', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-proof-'));
    try {
      const file = (name: string, text: string) => {
        writeFileSync(join(directory, name), text);
        return join(directory, name);
      };
      const publicKey = file('public.pem', key.publicKey.export({ type: 'spki', format: 'pem' }) as string);
      const check = (text: string) =>
        spawnSync('python3', [resolve('docs/audit/check_proof.py'), file('proof.json', text), publicKey], {
          encoding: 'utf8',
        });
      expect(check(JSON.stringify(proof))).toMatchObject({
        status: 0,
        stdout: expect.stringContaining('12 events') as string,
      });
      const [first, ...others] = proof.events;
      const forged = { ...proof, events: [{ ...first!, data: first!.data.replace('0', '1') }, ...others] };
      expect(check(JSON.stringify(forged))).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('mdom_a/1') as string,
      });
      const unsigned = JSON.stringify(proof).replace('events 7', 'events 8');
      expect(check(unsigned)).toMatchObject({ status: 1, stderr: expect.stringContaining('signature') as string });
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

function isRefused(check: () => unknown): boolean {
  try {
    check();
    return false;
  } catch (error) {
    return error instanceof ProofRefused;
  }
}
