import { createServer, connect, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'pg';
import { openPool } from '@app/database';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { AppendUnanswered, ConstraintViolation, WrongExpectedVersion } from './errors';
import type { Append, InlineProjection } from './event';
import { EventStore } from './event-store';
import { eventStoreMigrations } from './event-store.migration';

const projection: InlineProjection = {
  table: 'things',
  key: 'id',
  columns: { id: 'text', name: 'text', tags: 'json', version: 'integer' },
  contended: 'name',
};
const metadata = { actor: 'test', correlationId: 'c1' };
const append = (stream: string, expectedVersion: number, count = 1, name?: string): Append => ({
  stream,
  expectedVersion,
  metadata,
  events: Array.from({ length: count }, (_, i) => ({
    type: 'Happened',
    schemaVersion: 1,
    time: '2026-04-15T10:00:00.000Z',
    data: { number: expectedVersion + i + 1 },
  })),
  row: { id: stream, name: name ?? stream, tags: ['a', 'b'], version: expectedVersion + count },
});

describe('the event store', () => {
  let database: TestDatabase;
  let pool: Pool;
  let store: EventStore;

  beforeAll(async () => {
    database = await databaseWith(eventStoreMigrations);
    pool = new Pool({ connectionString: database.url, max: 10 });
    await pool.query('CREATE TABLE things (id text PRIMARY KEY, name text UNIQUE, tags json, version integer)');
    store = new EventStore(pool, projection);
  });
  afterAll(async () => {
    await pool.end();
    await database.drop();
  });

  const row = async (id: string) =>
    (await pool.query<{ version: number; tags: unknown }>('SELECT * FROM things WHERE id = $1', [id])).rows[0];
  const versions = async (stream: string) => (await store.readStream(stream)).map((event) => event.version);

  it('fails appends that wait behind a stuck statement in time, without writing them, and continues', async () => {
    const impatient = openPool(database.url, 4, 300);
    const stuck = new EventStore(impatient, projection);
    const blocker = await pool.connect();
    await blocker.query('BEGIN; LOCK TABLE events IN EXCLUSIVE MODE');
    const waiting = ['stuck 1', 'stuck 2', 'stuck 3'].map((stream) => stuck.append(append(stream, 0)));
    for (const outcome of await Promise.allSettled(waiting))
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: '57014' } });
    await blocker.query('ROLLBACK');
    blocker.release();
    for (const stream of ['stuck 1', 'stuck 2', 'stuck 3']) {
      expect(await versions(stream)).toEqual([]);
      expect(await stuck.append(append(stream, 0))).toBe(1);
    }
    await impatient.end();
  });

  it('appends to several streams all or none, and lets a new one have what another gives up', async () => {
    await store.append(append('holder', 0, 2, 'sought'));
    // The ids sort against the order in which the rows have to be written.
    const taken = [append('a winner', 0, 1, 'sought'), append('holder', 2, 1, 'given up')];
    await expect(store.appendTogether([append('a winner', 0, 1, 'sought'), append('holder', 1, 1)])).rejects.toThrow(
      WrongExpectedVersion,
    );
    await expect(store.appendTogether([append('a winner', 0, 1, 'sought')])).rejects.toThrow(ConstraintViolation);
    expect([await versions('a winner'), await versions('holder')]).toEqual([[], [1, 2]]);
    await store.appendTogether(taken);
    expect([await versions('a winner'), await versions('holder')]).toEqual([[1], [1, 2, 3]]);
    expect(await row('a winner')).toMatchObject({ name: 'sought', version: 1 });
    await expect(store.appendTogether(taken)).rejects.toThrow(WrongExpectedVersion);
  });

  it('lets one of many take what the holder gives up, whoever else appends to it', async () => {
    await store.append(append('the holder', 0, 1, 'one name'));
    const others = new EventStore(pool, projection);
    const attempts = Array.from({ length: 40 }, (_, i) =>
      i % 4 === 0
        ? others.append(append('the holder', 1, 1, 'one name'))
        : (i % 2 ? store : others).appendTogether([
            append(`taker ${i}`, 0, 1, 'one name'),
            append('the holder', 1, 1, 'none'),
          ]),
    );
    const settled = await Promise.allSettled(attempts);
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const each of settled)
      if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(WrongExpectedVersion);
    const { rows } = await pool.query(`SELECT FROM things WHERE name = 'one name'`);
    expect(rows).toHaveLength(1);
    expect(await versions('the holder')).toEqual([1, 2]);
  });

  describe('behind a connection that breaks', () => {
    /** How the proxy treats the server's answers: it passes them on, drops them silently, or ends the connection. */
    let answers: 'pass' | 'lost' | 'cut';
    let behind: Pool;
    let impatient: EventStore;
    const line = createServer((client) => {
      const { hostname, port } = new URL(database.url);
      const server = connect(Number(port), hostname);
      client.pipe(server);
      server.on('data', (data) => {
        if (answers === 'pass') client.write(data);
        else if (answers === 'cut') client.destroy();
      });
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const)
        one.on('error', () => undefined).on('close', () => other.destroy());
    });

    beforeEach(async () => {
      answers = 'pass';
      await new Promise<void>((ready) => line.listen(0, '127.0.0.1', ready));
      const url = new URL(database.url);
      url.port = String((line.address() as AddressInfo).port);
      behind = openPool(url.href, 2);
      impatient = new EventStore(behind, projection, 300);
    });
    afterEach(async () => {
      await behind.end();
      await new Promise((closed) => line.close(closed));
    });

    it.each(['lost', 'cut'] as const)(
      'does not say of an append that it failed when the answer is %s, and goes on',
      async (fate) => {
        const [first, second] = [`${fate} 1`, `${fate} 2`];
        await impatient.append(append(`${fate} 0`, 0));
        // Opens both connections first, so that what is lost is an answer and not the connecting.
        await Promise.all([behind.query('SELECT pg_sleep(0.1)'), behind.query('SELECT pg_sleep(0.1)')]);
        answers = fate;
        const [unheard, next] = [impatient.append(append(first, 0)), impatient.append(append(second, 0))];
        await expect(unheard).rejects.toThrow(AppendUnanswered);
        answers = 'pass';
        expect(await next).toBe(1);
        // The append had happened: the stream shows it, and an append that was decided without it is refused.
        expect(await versions(first)).toEqual([1]);
        await expect(impatient.append(append(first, 0))).rejects.toThrow(WrongExpectedVersion);
        expect(await impatient.append(append(first, 1))).toBe(2);
      },
    );

    it('reports that nothing was written when the server could not be reached', async () => {
      const nobody = openPool('postgres://postgres@127.0.0.1:1/none', 1);
      const appending = new EventStore(nobody, projection).append(append('unreached', 0));
      await expect(appending).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      await nobody.end();
    });
  });

  it('appends at the expected version and reads back what was written', async () => {
    expect(await store.append(append('a', 0))).toBe(1);
    expect(await store.append(append('a', 1, 3))).toBe(4);
    const events = await store.readStream('a');
    expect(events.map((event) => event.version)).toEqual([1, 2, 3, 4]);
    expect(events[3]).toMatchObject({
      stream: 'a',
      type: 'Happened',
      schemaVersion: 1,
      data: { number: 4 },
      metadata,
      time: '2026-04-15T10:00:00.000Z',
    });
    expect(await store.readStream('a', 4)).toHaveLength(1);
    expect(await row('a')).toMatchObject({ version: 4, tags: ['a', 'b'] });
    expect(await store.readStream('nothing')).toEqual([]);
  });

  it.each([[1], [2]])('refuses a stale version of %d events and names what it found', async (count) => {
    await store.append(append(`stale${count}`, 0));
    const refused = store.append(append(`stale${count}`, 0, count));
    await expect(refused).rejects.toThrow(WrongExpectedVersion);
    await expect(refused).rejects.toMatchObject({ expected: 0, actual: 1 });
    await expect(store.append(append(`stale${count}`, 5, count))).rejects.toMatchObject({ expected: 5, actual: 1 });
    expect(await row(`stale${count}`)).toMatchObject({ version: 1 });
  });

  it('keeps its connection when an append is refused, and gives it up when it is broken', async () => {
    const lone = openPool(database.url, 1);
    const own = new EventStore(lone, projection);
    const backend = async () => (await lone.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;
    await own.append(append('kept', 0, 1, 'kept name'));
    const before = await backend();
    for (let i = 0; i < 5; i++)
      await expect(own.append(append(`refused${i}`, 0, 1, 'kept name'))).rejects.toThrow(ConstraintViolation);
    expect(await backend()).toBe(before);

    const blocker = await pool.connect();
    await blocker.query('BEGIN; LOCK TABLE events IN EXCLUSIVE MODE');
    const broken = own.append(append('kept', 1)).catch((error: unknown) => error);
    const waits = `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'`;
    while ((await pool.query(waits, [before])).rowCount === 0) await delay(10);
    await pool.query('SELECT pg_terminate_backend($1)', [before]);
    expect(await broken).toBeInstanceOf(AppendUnanswered);
    await blocker.query('ROLLBACK');
    blocker.release();
    expect(await backend()).not.toBe(before);
    await lone.end();
  });

  it('gives each append of a batch its own answer, and fails none for another', async () => {
    await store.append(append('batch7', 0));
    await pool.query(`INSERT INTO things (id, name, version) VALUES ('other', 'taken', 0)`);
    const answers = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) =>
        store.append(append(`batch${i}`, 0, (i % 3) + 1, i === 20 ? 'taken' : undefined)),
      ),
    );
    for (const [i, answer] of answers.entries()) {
      if (i === 7) expect(answer).toMatchObject({ status: 'rejected', reason: { actual: 1 } });
      else if (i === 20) {
        expect(answer).toMatchObject({ status: 'rejected', reason: { constraint: 'things_name_key' } });
        expect((answer as PromiseRejectedResult).reason).toBeInstanceOf(ConstraintViolation);
        expect(await versions('batch20')).toEqual([]);
      } else {
        expect(answer).toEqual({ status: 'fulfilled', value: (i % 3) + 1 });
        expect(await row(`batch${i}`)).toMatchObject({ version: (i % 3) + 1 });
      }
    }
  });

  it('an append whose data the database cannot hold fails alone', async () => {
    const bad = append('bad', 0);
    const answers = await Promise.allSettled([
      store.append(append('fine1', 0)),
      store.append(append('fine2', 0)),
      store.append({ ...bad, row: { ...bad.row, name: 'a\u0000b' } }),
      store.append(append('fine3', 0)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(await versions('bad')).toEqual([]);
  });

  it('an append that cannot be JSON fails alone', async () => {
    const answers = await Promise.allSettled([
      store.append(append('json1', 0)),
      store.append(append('json2', 0)),
      store.append({
        ...append('json3', 0),
        events: [{ type: 'Happened', schemaVersion: 1, time: '2026-04-15T10:00:00.000Z', data: 1n }],
      }),
      store.append(append('json4', 0)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  });

  it('writes all events of an append or none, and the row only with them', async () => {
    await store.append(append('whole', 0));
    const bad = append('whole', 1, 3);
    const [first, second, third] = bad.events;
    const answers = await Promise.allSettled([
      store.append(append('beside1', 0)),
      store.append({ ...bad, events: [first!, { ...second!, schemaVersion: 1e6 }, third!] }),
      store.append(append('beside2', 0, 2)),
      store.append(append('beside1', 5, 2)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected']);
    expect(await versions('whole')).toEqual([1]);
    expect(await row('whole')).toMatchObject({ version: 1 });
    expect(await row('beside1')).toMatchObject({ version: 1 });
    expect(await row('beside2')).toMatchObject({ version: 2 });
  });

  it('sends waiting appends in one transaction, in the order of each stream', async () => {
    const answers = await Promise.all([
      ...Array.from({ length: 200 }, (_, i) => store.append(append(`together${i}`, 0))),
      store.append(append('together7', 1)),
    ]);
    expect(answers).toEqual([...Array<number>(200).fill(1), 2]);
    const { rows } = await pool.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM events WHERE stream LIKE 'together%' GROUP BY xmin::text ORDER BY min(position)`,
    );
    expect(rows.map(({ n }) => n)).toEqual([1, 199, 1]);
  });

  it('tells readers of the first append at once, and of those that follow it shortly together', async () => {
    const own = openPool(database.url, 4);
    const sentAt: number[] = [];
    const told = new Set<string>();
    const query = own.query.bind(own) as (...args: unknown[]) => unknown;
    own.query = ((...args: unknown[]) => {
      const { name, values } = args[0] as { name?: string; values?: string[] };
      if (name === 'notify of events') {
        sentAt.push(performance.now());
        for (const type of values![0]!.split(' ')) told.add(type);
      }
      return query(...args);
    }) as never;
    const telling = new EventStore(own, projection);
    for (let i = 0; i < 60; i++) {
      const one = append(`told${i}`, 0);
      await telling.append({ ...one, events: one.events.map((event) => ({ ...event, type: `Type${i}` })) });
      if (i === 0) expect(sentAt).toHaveLength(1);
    }
    while (told.size < 60) await delay(1);
    // A timer may end a little before its time.
    for (const [i, at] of sentAt.entries()) if (i > 0) expect(at - sentAt[i - 1]!).toBeGreaterThan(1);
    await own.end();
  });

  it('plans its statements once, and not for each number of appends', async () => {
    const lone = openPool(database.url, 1);
    const own = new EventStore(lone, projection);
    for (let round = 0; round < 15; round++)
      for (const count of [1, 2])
        for (const size of [1, 2, 3])
          await Promise.all(
            Array.from({ length: size + 1 }, (_, i) =>
              own.append(append(`plan ${round} ${count} ${size} ${i}`, 0, count)),
            ),
          );
    for (let round = 0; round < 15; round++) {
      const stream = `plan ${round} 1 1 0`;
      await delay(1);
      await own.append(append(`plan alone ${round}`, 0));
      await own.readStreams([{ stream, first: 1, last: 2 }], 10);
      await own.newestOf([{ stream }, { stream: 'other' }], ['Happened']);
      await own.readStream(stream);
    }
    const { rows } = await lone.query<{ name: string; custom: number; generic: number }>(
      'SELECT name, custom_plans::int AS custom, generic_plans::int AS generic FROM pg_prepared_statements',
    );
    await lone.end();
    const often = rows.filter(({ custom, generic }) => custom + generic > 10);
    const kinds = ['append one', 'append single', 'append many', 'streams read', 'streams newest', 'stream read'];
    for (const kind of kinds) expect(often.map(({ name }) => name)).toContainEqual(expect.stringContaining(kind));
    // PostgreSQL plans each statement anew the first five times.
    expect(often.filter(({ custom }) => custom > 5)).toEqual([]);
  });

  it('shares its pool with a store of another projection', async () => {
    const plain = new EventStore(pool);
    const { row: _row, ...rest } = append('plain', 0);
    for (const version of [0, 1, 2]) {
      await Promise.all([
        plain.append({ ...rest, expectedVersion: version }),
        plain.append({ ...rest, stream: `plain too ${version}` }),
        plain.append({ ...rest, stream: `and plain ${version}` }),
      ]);
      await Promise.all([0, 1, 2].map((i) => store.append(append(`projected${i}`, version))));
    }
    expect(await row('plain')).toBeUndefined();
    await expect(plain.append(append('plain', 3))).rejects.toThrow(/needs a store with a projection/);
    await expect(plain.append({ ...rest, events: [] })).rejects.toThrow(/without events/);
  });

  it('rejects what was in flight when its connection breaks, and continues', async () => {
    const blocker = await pool.connect();
    await blocker.query('BEGIN; LOCK TABLE events IN SHARE MODE');
    const cut = Promise.allSettled([0, 1].map((i) => store.append(append(`cut${i}`, 0))));
    let isOver = false;
    void cut.then(() => (isOver = true));
    // Whoever was ended may still be listed for a while, so that a count of them would say little.
    while (!isOver)
      await pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'WITH%'`,
      );
    expect((await cut).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await blocker.query('COMMIT');
    blocker.release();
    expect(await versions('cut0')).toEqual([]);
    expect(await store.append(append('cut0', 0))).toBe(1);
  });

  it('many writers of one stream: each version is written once', async () => {
    const stores = [new EventStore(pool, projection), new EventStore(pool, projection)];
    let won = 0;
    for (let version = 0; version < 50; version++) {
      const answers = await Promise.allSettled(
        Array.from({ length: 6 }, (_, i) => stores[i % 2]!.append(append('contended', version, 1 + (i % 2)))),
      );
      const winners = answers.filter((answer) => answer.status === 'fulfilled');
      expect(winners).toHaveLength(1);
      won = winners[0]!.value;
      for (const answer of answers)
        if (answer.status === 'rejected') expect(answer.reason).toBeInstanceOf(WrongExpectedVersion);
      if (won > version + 1) version++;
    }
    expect(await versions('contended')).toEqual(Array.from({ length: won }, (_, i) => i + 1));
    expect(await row('contended')).toMatchObject({ version: won });
  });

  /** Counts the deadlocks so far. A backend is certain to have reported its own only once it has ended. */
  const deadlocks = async (application: string) => {
    const left = 'SELECT FROM pg_stat_activity WHERE application_name = $1';
    while ((await pool.query(left, [application])).rowCount) await delay(10);
    const { rows } = await pool.query<{ n: number }>(
      'SELECT deadlocks::int AS n FROM pg_stat_database WHERE datname = current_database()',
    );
    return rows[0]!.n;
  };

  /** Blocks all appends until the returned gate is opened. */
  const gate = async () => {
    const keeper = await pool.connect();
    await keeper.query('BEGIN; LOCK TABLE events IN SHARE MODE');
    return async () => {
      await keeper.query('COMMIT');
      keeper.release();
    };
  };
  const waitingAtGate = async (count: number) => {
    const waiting = `SELECT FROM pg_locks WHERE NOT granted AND relation = 'events_1'::regclass`;
    while ((await pool.query(waiting)).rowCount !== count) await delay(2);
  };

  it('two processes that append to the same streams, or reserve the same names, never deadlock', async () => {
    const application_name = 'process';
    const pools = [1, 2].map(() => new Pool({ connectionString: database.url, application_name }));
    const stores = pools.map((each) => new EventStore(each, projection));
    /**
     * Sends the first append of each process alone. The appends that queue behind them then start at the same moment.
     */
    const lostOf = async (name: string, appendsOf: (process: number) => Append[]) => {
      const openFirst = await gate();
      const answers = Promise.allSettled(
        stores.flatMap((each, k) => [append(`first ${k} ${name}`, 0), ...appendsOf(k)].map((one) => each.append(one))),
      );
      await waitingAtGate(2);
      const second = gate();
      await waitingAtGate(3);
      await openFirst();
      const openSecond = await second;
      await waitingAtGate(2);
      await openSecond();
      const lost = (await answers).filter((answer) => answer.status === 'rejected');
      return lost.map(({ reason }) => (reason as Error).name);
    };
    // Both compete for the first and the last name, each in its own order, with many names of their own in between.
    const last = 499;
    const places = Array.from({ length: 400 }, (_, i) => 100 + i);
    const own = (i: number, k: number) => (i === 100 || i === last ? '' : ` of ${k}`);
    for (let round = 0; round < 5; round++) {
      const streams = (k: number) => places.map((i) => append(`${round} stream ${i}${own(i, k)}`, 0));
      expect(await lostOf(`${round} a`, (k) => (k ? streams(k).reverse() : streams(k)))).toEqual([
        'WrongExpectedVersion',
        'WrongExpectedVersion',
      ]);
      const named = (k: number) =>
        places.map((i) => append(`${round} ${k ? last - i + 100 : i} of ${k}`, 0, 1, `${round} ${i}${own(i, k)}`));
      expect(await lostOf(`${round} b`, named)).toEqual(['ConstraintViolation', 'ConstraintViolation']);
    }
    await Promise.all(pools.map((each) => each.end()));
    expect(await deadlocks(application_name)).toBe(0);
  });

  it('an append that was the victim of a deadlock is tried again', async () => {
    const other = await pool.connect();
    await other.query(`BEGIN; SET LOCAL deadlock_timeout = '1min'`);
    await other.query(`INSERT INTO things (id, name) VALUES ('stranger', 'wanted')`);
    const appended = store.append(append('victim', 0, 1, 'wanted'));
    while (!(await pool.query(`SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'`)).rowCount)
      await delay(5);
    // This succeeds because the append has the shorter time-out and gives way.
    await other.query(`INSERT INTO things (id, name) VALUES ('victim', 'another')`);
    await other.query('ROLLBACK');
    other.release();
    expect(await appended).toBe(1);
    expect(await row('victim')).toMatchObject({ name: 'wanted' });
  });

  it.each(['UPDATE events SET type = type', 'DELETE FROM events', 'TRUNCATE events'])('refuses %s', async (sql) => {
    await expect(pool.query(sql)).rejects.toThrow(/only ever added/);
  });
});
