import { generateKeyPairSync } from 'node:crypto';
import { openPool } from '@app/database';
import { EventLog, EventStore, eventHashSql, eventStoreMigrations } from '@app/event-store';
import type { Pool } from 'pg';
import { numbers } from '../../test/support/numbers';
import { sample } from '../../test/support/sample';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { auditMigrations } from './audit.migration';
import { SealingKey, trusting, type Seal } from './seal';
import { LogBroken, Seals } from './seals';
import { Verification, type Verified, type VerifyOptions } from './verification';

const metadata = { actor: 'test', correlationId: 'c' };
const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
const stranger = new SealingKey(generateKeyPairSync('ed25519').privateKey);
const trusted = trusting(key.publicKey);
const perSeal = 25;
const below = (next: () => number) => (limit: number) => Math.floor(next() * limit);

describe('the audit of the log', () => {
  let database: TestDatabase;
  let pool: Pool;
  let log: EventLog;
  let seals: Seals;
  let made: Seal[];
  let positions: number[];

  const verify = (options: Partial<VerifyOptions> = {}): Promise<Verified> =>
    new Verification(pool, log, { trusted, witness: made, ...options }).run();
  /** Changes the tables as somebody with all rights would. */
  const tamper = (sql: string): Promise<unknown> =>
    pool.query(`BEGIN; SET LOCAL session_replication_role = replica; ${sql}; COMMIT`);
  const restore = () =>
    tamper(`TRUNCATE events, audit_seals;
      INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM true_events;
      INSERT INTO audit_seals SELECT * FROM true_seals`);

  /** Appends to several streams in turn, with gaps between the positions as appends leave them that are rolled back. */
  async function live(store: EventStore, streams: number, events: number, random: (below: number) => number) {
    const versions = new Map<string, number>();
    for (let i = 0; i < events; i++) {
      const stream = `mdom_${random(streams)}`;
      const expectedVersion = versions.get(stream) ?? 0;
      const count = 1 + random(3);
      const time = new Date(Date.UTC(2026, 2, 1) + i * 60_000).toISOString();
      const happened = Array.from({ length: count }, (_, n) => ({
        type: 'Happened',
        schemaVersion: 1,
        time,
        data: { number: expectedVersion + n, text: 'ä'.repeat(random(20)) },
      }));
      versions.set(stream, await store.append({ stream, expectedVersion, events: happened, metadata }));
      if (random(4) === 0) await pool.query(`SELECT nextval('event_positions')`);
    }
  }

  beforeAll(async () => {
    database = await databaseWith([...eventStoreMigrations, ...auditMigrations]);
    pool = openPool(database.url, 6);
    log = new EventLog(pool);
    seals = new Seals(pool, log, key, perSeal);
    await live(new EventStore(pool), 12, 70, below(numbers(3)));
    made = await seals.seal();
    await pool.query('CREATE TABLE true_events AS TABLE events; CREATE TABLE true_seals AS TABLE audit_seals');
    const { rows } = await pool.query<{ position: number }>(
      'SELECT position::float8 AS position FROM events ORDER BY position',
    );
    positions = rows.map(({ position }) => position);
  });
  afterAll(async () => {
    await log?.close();
    await pool?.end();
    await database?.drop();
  });
  afterEach(restore);

  it('finds nothing in an unchanged log', async () => {
    const found = await verify();
    expect(found).toMatchObject({ faults: [], faultCount: 0, events: positions.length, unsealed: 0 });
    expect(found.seals).toBe(Math.ceil(positions.length / perSeal));
    expect(found.newest).toMatchObject({ upTo: positions.at(-1), number: found.seals });
    expect(found.seals).toBeGreaterThan(4);
  });

  it('seals new events once, however many sealers there are', async () => {
    const others = Array.from({ length: 4 }, () => new Seals(pool, log, key, perSeal));
    expect((await Promise.all(others.map((each) => each.seal()))).flat()).toEqual([]);
    await new EventStore(pool).append({
      stream: 'mdom_new',
      expectedVersion: 0,
      metadata,
      events: [{ type: 'Happened', schemaVersion: 1, data: {}, time: '2026-04-01T00:00:00.000Z' }],
    });
    expect(await verify()).toMatchObject({ unsealed: 1, faults: [] });
    const sealedBefore = new Date('2026-04-01T00:00:00.000Z');
    expect((await verify({ sealedBefore })).faults).toEqual([]);
    expect((await verify({ sealedBefore: new Date(sealedBefore.getTime() + 1) })).faults).toMatchObject([
      { event: 'mdom_new/1', code: 'seal_missing' },
    ]);
    expect((await Promise.all(others.map((each) => each.seal()))).flat()).toHaveLength(1);
    expect(await verify()).toMatchObject({ faults: [], unsealed: 0 });
  });

  it('seals nothing over an event that was changed', async () => {
    const append = (version: number) =>
      new EventStore(pool).append({
        stream: 'mdom_tail',
        expectedVersion: version,
        metadata,
        events: [{ type: 'Happened', schemaVersion: 1, data: {}, time: '2026-04-01T00:00:00.000Z' }],
      });
    await append(0);
    await append(1);
    await tamper(`UPDATE events SET data = '{"x":1}' WHERE stream = 'mdom_tail' AND version = 1`);
    await expect(seals.seal()).rejects.toThrow(LogBroken);
    await expect(seals.seal()).rejects.toThrow('mdom_tail/1');
    expect(await verify()).toMatchObject({ faults: [{ event: 'mdom_tail/1', code: 'event_changed' }] });
    // Somebody who knows how a hash is made still has to change everything after it.
    await tamper(`UPDATE events SET hash = ${eventHashSql()} WHERE stream = 'mdom_tail' AND version = 1`);
    await expect(seals.seal()).rejects.toThrow('mdom_tail/2');
    expect(await verify()).toMatchObject({ faults: [{ event: 'mdom_tail/2', code: 'event_unlinked' }] });
  });

  it('accepts no seal by an untrusted key, and none of another log', async () => {
    expect((await verify({ trusted: trusting(stranger.publicKey), witness: [] })).faults[0]).toMatchObject({
      seal: 1,
      code: 'seal_unsigned',
    });
    await tamper('TRUNCATE audit_seals');
    const again = await new Seals(pool, log, key, perSeal).seal();
    expect(again).toHaveLength(made.length);
    expect((await verify()).faults[0]).toMatchObject({ seal: 1, code: 'seal_replaced' });
  });

  it('needs a witness to know that the newest seals are gone together with what they covered', async () => {
    const last = made.length;
    await tamper(`DELETE FROM audit_seals WHERE number = ${last};
      DELETE FROM events WHERE position > ${positions[(last - 1) * perSeal - 1]}`);
    expect((await verify({ witness: [] })).faults).toEqual([]);
    expect((await verify()).faults[0]).toMatchObject({ seal: last, code: 'seal_removed' });
  });

  it('finds that all seals were removed and the log written again', async () => {
    await tamper('TRUNCATE audit_seals');
    expect((await verify({ witness: [] })).faults).toEqual([]);
    expect((await verify({ witness: [], sealedBefore: new Date() })).faults[0]).toMatchObject({
      position: positions[0],
      code: 'seal_missing',
    });
  });

  it('stops when it is asked to', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    await expect(verify({ signal: controller.signal, reached: () => controller.abort(reason) })).rejects.toBe(reason);
  });

  it('finds hundreds of mutations of the tables, and names the first bad place', async () => {
    const seed = Number(process.env.SEED ?? Date.now() % 100_000);
    const mutations = sample(100, 1_000);
    console.log(`${mutations} mutations, seed ${seed}`);
    const random = below(numbers(seed));
    const one = <T>(of: readonly T[]): T => of[random(of.length)]!;
    const two = (): [number, number] => {
      const first = one(positions);
      for (;;) {
        const second = one(positions);
        if (second !== first) return [Math.min(first, second), Math.max(first, second)];
      }
    };
    const streamAt = (position: number) => `(SELECT stream FROM true_events WHERE position = ${position})`;
    const at = (position: number) => `(SELECT t FROM true_events t WHERE t.position = ${position})`;
    const swap = (columns: readonly string[], [p, q]: [number, number]) =>
      `UPDATE events e SET (${columns.join(', ')}) = (
         SELECT ${columns.map((name) => `t.${name}`).join(', ')} FROM true_events t
         WHERE t.position = CASE e.position WHEN ${p} THEN ${q} ELSE ${p} END
       ) WHERE e.position IN (${p}, ${q})`;
    const changes: Record<string, string> = {
      previous: `decode(md5(random()::text) || md5(random()::text), 'hex')`,
      stream: `stream || '_'`,
      version: 'version + 1000',
      type: `type || 'Not'`,
      schema_version: 'schema_version + 1',
      time: `time + interval '1 microsecond'`,
      data: `(data::text || ' ')::json`,
      metadata: `'{"actor":"somebody","correlationId":"c"}'`,
      hash: `decode(md5(random()::text) || md5(random()::text), 'hex')`,
    };
    /** What is done, and the position or seal that the verification has to name. */
    type Mutation = readonly [
      sql: string,
      place:
        | number
        | { readonly seal: number }
        | { readonly streamOf: number }
        | { readonly moved: number; readonly to: number },
    ];
    const kinds: Record<string, () => Mutation> = {
      'a column': () => {
        const p = one(positions);
        const [name, value] = one(Object.entries(changes));
        return [`UPDATE events SET ${name} = ${value} WHERE position = ${p}`, p];
      },
      'a column, with its hash made anew': () => {
        const p = one(positions);
        const [name, value] = one(Object.entries(changes).filter(([column]) => column !== 'hash'));
        return [
          `UPDATE events SET ${name} = ${value} WHERE position = ${p};
           UPDATE events SET hash = ${eventHashSql()} WHERE position = ${p}`,
          p,
        ];
      },
      'a position': () => {
        const p = one(positions);
        const free = Array.from({ length: positions.at(-1)! + 10 }, (_, i) => i - 4).filter(
          (q) => !positions.includes(q),
        );
        const q = one([...free, 1_000_000]);
        const rehash =
          random(2) === 0 ? `UPDATE events SET hash = ${eventHashSql()} WHERE position = ${q}` : 'SELECT 1';
        const place = { moved: Math.min(p, q), to: q };
        return [`UPDATE events SET position = ${q} WHERE position = ${p}; ${rehash}`, place];
      },
      'an event removed': () => {
        const p = one(positions);
        return [`DELETE FROM events WHERE position = ${p}`, p];
      },
      'a stream removed': () => {
        const p = one(positions);
        return [`DELETE FROM events WHERE stream = ${streamAt(p)}`, { streamOf: p }];
      },
      'the tail removed': () => {
        const p = one(positions);
        return [`DELETE FROM events WHERE position >= ${p}`, p];
      },
      'the tail of a stream removed': () => {
        const p = one(positions);
        return [`DELETE FROM events WHERE position >= ${p} AND stream = ${streamAt(p)}`, p];
      },
      'all removed': () => ['TRUNCATE events', positions[0]!],
      'an event inserted': () => {
        const p = one(positions);
        const q = one(
          Array.from({ length: positions.at(-1)! - 1 }, (_, i) => i + 1).filter((n) => !positions.includes(n)),
        );
        return [
          `INSERT INTO events OVERRIDING SYSTEM VALUE
             SELECT ${q}, stream, version + 500, type, schema_version, data, metadata, time, hash, hash
             FROM true_events WHERE position = ${p};
           UPDATE events SET hash = ${eventHashSql()} WHERE position = ${q}`,
          q,
        ];
      },
      'the content of two swapped': () => {
        const pair = two();
        return [swap(['data', 'metadata', 'time', 'type'], pair), pair[0]];
      },
      'the hashes of two swapped': () => {
        const pair = two();
        return [swap(['hash', 'previous'], pair), pair[0]];
      },
      'two swapped whole': () => {
        const [p, q] = two();
        return [
          `DELETE FROM events WHERE position IN (${p}, ${q});
           INSERT INTO events OVERRIDING SYSTEM VALUE SELECT ${p}, (x).stream, (x).version, (x).type, (x).schema_version,
             (x).data, (x).metadata, (x).time, (x).previous, (x).hash FROM (SELECT ${at(q)} AS x) s;
           INSERT INTO events OVERRIDING SYSTEM VALUE SELECT ${q}, (x).stream, (x).version, (x).type, (x).schema_version,
             (x).data, (x).metadata, (x).time, (x).previous, (x).hash FROM (SELECT ${at(p)} AS x) s;
           ${random(2) === 0 ? `UPDATE events SET hash = ${eventHashSql()} WHERE position IN (${p}, ${q})` : 'SELECT 1'}`,
          p,
        ];
      },
      'a seal changed': () => {
        const number = 1 + random(made.length);
        const change = one(
          [
            `statement = replace(statement, 'events ', 'events 1')`,
            `statement = regexp_replace(statement, 'positions \\d+', 'positions 0')`,
            `statement = statement || ' '`,
            `signer = 'somebody'`,
            `signer = '${stranger.id}'`,
            `signature = encode(decode(md5(random()::text), 'hex'), 'base64')`,
            `leaves = set_byte(leaves, 3, (get_byte(leaves, 3) + 1) % 256)`,
            `leaves = leaves || leaves`,
            `leaves = ''`,
            `number = number + 1000`,
            `up_to = up_to + 100000`,
          ].filter((each) => number > 1 || !each.includes('positions 0')),
        );
        return [`UPDATE audit_seals SET ${change} WHERE number = ${number}`, { seal: number }];
      },
      'a seal made anew by another key': () => {
        const number = 1 + random(made.length);
        const { statement, signer, signature } = resealed(made[number - 1]!);
        return [
          `UPDATE audit_seals SET statement = '${statement}', signer = '${signer}', signature = '${signature}' WHERE number = ${number}`,
          { seal: number },
        ];
      },
      'a seal removed': () => {
        const number = 1 + random(made.length);
        return [`DELETE FROM audit_seals WHERE number = ${number}`, { seal: number }];
      },
      'all seals removed': () => ['TRUNCATE audit_seals', { seal: 1 }],
      'the seals of two swapped': () => {
        const number = 1 + random(made.length - 1);
        return [
          `UPDATE audit_seals SET number = -number WHERE number IN (${number}, ${number + 1});
           UPDATE audit_seals SET number = ${2 * number + 1} + number WHERE number < 0`,
          { seal: number },
        ];
      },
    };
    const names = Object.keys(kinds);
    const counts = new Map<string, number>();
    for (let i = 0; i < mutations; i++) {
      const name = names[i % names.length]!;
      const [sql, place] = kinds[name]!();
      await tamper(sql);
      const { faults, faultCount } = await verify();
      const told = JSON.stringify({ name, sql, place, faults: faults.slice(0, 3) }, null, 1);
      if (faultCount === 0) throw new Error(`not found: ${told}`);
      const first = faults[0]!;
      if (typeof place === 'object' && 'seal' in place) {
        // A missing seal is found at the place where the next one should follow it.
        if (first.seal !== place.seal && first.seal !== place.seal + 1 && !(first.seal! >= 1_000))
          throw new Error(told);
      } else {
        const least =
          typeof place === 'number' ? place : 'streamOf' in place ? await firstOf(place.streamOf) : place.moved;
        // When nothing lies in between, an event that was moved is named at its present place.
        const most =
          typeof place === 'object' && 'to' in place && !positions.some((p) => p > least && p <= place.to)
            ? place.to
            : least;
        const before = Math.max(-Infinity, ...positions.filter((p) => p < least));
        const isNamed =
          first.seal === undefined && first.position > Math.min(before, least - 1) && first.position <= most;
        if (!isNamed) throw new Error(told);
      }
      counts.set(name, (counts.get(name) ?? 0) + 1);
      await restore();
    }
    expect(await verify()).toMatchObject({ faults: [] });
    console.log([...counts].map(([name, count]) => `${count} × ${name}`).join('\n'));
  }, 300_000);

  /** Gives the first position of the stream of the event at a position. */
  async function firstOf(position: number): Promise<number> {
    const { rows } = await pool.query<{ first: number }>(
      `SELECT min(position)::float8 AS first FROM true_events
       WHERE stream = (SELECT stream FROM true_events WHERE position = $1)`,
      [position],
    );
    return rows[0]!.first;
  }

  /** Seals the same statement with another key. */
  function resealed({ statement }: Seal): Seal {
    const [, log = '', number, previous = '', events, after, upTo, root = '', time = ''] =
      /log (\w+)\nnumber (\d+)\nprevious (\w+)\nevents (\d+)\npositions (\d+) (\d+)\nroot (\w+)\ntime (\S+)/.exec(
        statement,
      )!;
    return stranger.seal({
      log,
      epoch: 1,
      previous,
      root,
      time,
      number: Number(number),
      events: Number(events),
      after: Number(after),
      upTo: Number(upTo),
    });
  }
});
