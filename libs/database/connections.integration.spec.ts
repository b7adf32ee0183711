import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { DatabaseProxy } from '../../test/support/database-proxy';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { inSession, inTransaction, openClient, openPool, withClient, type Connection } from './connections';

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await testDatabase();
  pool = openPool(database.url, 1);
  await pool.query('CREATE TABLE notes (text text PRIMARY KEY)');
});

beforeEach(() => pool.query('TRUNCATE notes'));

afterAll(async () => {
  await pool.end();
  await database.drop();
});

const pidOf = async (client: Pick<Connection, 'query'>) =>
  (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;

const notes = async () => (await pool.query<{ text: string }>('SELECT text FROM notes')).rows.map(({ text }) => text);

/** Ends the server's process of a connection, and waits until the client has noticed. */
async function endBackend(client: Connection): Promise<void> {
  const pid = await pidOf(client);
  const admin = await openClient({ connectionString: database.url });
  await admin.query('SELECT pg_terminate_backend($1)', [pid]);
  for (;;) {
    const { rowCount } = await admin.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid]);
    if (rowCount === 0) break;
    await sleep(5);
  }
  await admin.end();
  await sleep(50);
}

const rejected = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: Error) => error,
  );

describe('a connection that the server ends', () => {
  it('while it is taken and idle fails the next query, and is not reused', async () => {
    const failed = await rejected(
      withClient(pool, async (client) => {
        await endBackend(client);
        await client.query('SELECT 1');
      }),
    );
    expect(failed!.message).toMatch(/not queryable|terminat/i);
    expect((await pool.query('SELECT 1')).rowCount).toBe(1);
  });

  it('without a further query does not fail the callback', async () => {
    expect(await withClient(pool, async (client) => (await endBackend(client), 'done'))).toBe('done');
    expect((await pool.query('SELECT 1')).rowCount).toBe(1);
  });

  it('aborts the signal of the callback, which may have held a lock', async () => {
    const reason = await inTransaction(pool, async (client, lost) => {
      const aborted = new Promise((done) => lost.addEventListener('abort', () => done(lost.reason)));
      await endBackend(client);
      return aborted;
    }).catch((error: unknown) => error);
    expect(reason).toMatchObject({ message: expect.stringMatching(/not queryable|terminat/i) as string });
    await withClient(pool, (_client, lost) => Promise.resolve(expect(lost.aborted).toBe(false)));
  });

  it('N5: ends no process, whoever has taken it and however', async () => {
    // What has no listener for the error throws.
    const thrownBy = (client: NodeJS.EventEmitter) => {
      try {
        return client.emit('error', new Error('gone')) && undefined;
      } catch (error) {
        return error;
      }
    };
    const taken = await pool.connect();
    const own = await openClient({ connectionString: database.url });
    const thrown = [thrownBy(taken), thrownBy(own)];
    taken.release(true);
    await own.end();
    expect(thrown).toEqual([undefined, undefined]);
  });

  it('while a query runs fails that query', async () => {
    const failed = await rejected(
      withClient(pool, async (client) => {
        const pid = await pidOf(client);
        const admin = await openClient({ connectionString: database.url });
        const asleep = rejected(client.query('SELECT pg_sleep(60)'));
        await admin.query('SELECT pg_terminate_backend($1)', [pid]);
        await admin.end();
        throw (await asleep)!;
      }),
    );
    expect(failed).toMatchObject({ code: '57P01' });
  });

  it('and that is outside the pool ends no process', async () => {
    const client = await openClient({ connectionString: database.url });
    const ended = new Promise<void>((end) => client.once('end', end));
    await endBackend(client);
    await ended;
    await expect(client.query('SELECT 1')).rejects.toThrow();
  });

  it('in the middle of a transaction fails it with the first error', async () => {
    const failed = await rejected(
      inTransaction(pool, async (client) => {
        await client.query(`INSERT INTO notes VALUES ('a')`);
        await endBackend(client);
        throw new Error('the first');
      }),
    );
    expect(failed!.message).toBe('the first');
    expect(await notes()).toEqual([]);
  });

  it('before COMMIT fails the transaction', async () => {
    const failed = await rejected(
      inTransaction(pool, async (client) => {
        await client.query(`INSERT INTO notes VALUES ('a')`);
        await endBackend(client);
      }),
    );
    expect(failed).toBeInstanceOf(Error);
    expect(await notes()).toEqual([]);
  });
});

describe('a server that has vanished', () => {
  it('fails what waits for it in time, and what comes next reaches the one in its place', async () => {
    const proxy = await DatabaseProxy.open(database.url);
    const behind = openPool(proxy.url, 1, 200);
    await behind.query('SELECT 1');
    proxy.fallSilent();
    const before = performance.now();
    const failed = await rejected(behind.query('SELECT 1'));
    expect(failed!.message).toBe('Query read timeout');
    expect(performance.now() - before).toBeLessThan(20_000);
    proxy.leadTo(database.url);
    expect((await behind.query('SELECT 1')).rowCount).toBe(1);
    await behind.end();
    proxy.away();
  });
});

describe('withClient', () => {
  const lock = 'SELECT pg_try_advisory_lock(1, 2)';

  it('releases the connection when the callback is done', async () => {
    const pid = await withClient(pool, pidOf);
    expect(await pidOf(pool)).toBe(pid);
  });

  it('ends the connection after an error, since a transaction may be open on it', async () => {
    const other = openPool(database.url, 1);
    await rejected(
      withClient(pool, async (client) => {
        await client.query(lock);
        throw new Error('half way');
      }),
    );
    const { rows } = await other.query<{ ours: boolean }>(`${lock} AS ours`);
    expect(rows[0]!.ours).toBe(true);
    await other.end();
  });

  it('keeps it after an error that leaves the session unchanged', async () => {
    const before = await pidOf(pool);
    const failed = await rejected(
      withClient(
        pool,
        (client) => client.query('SELECT 1/0'),
        () => true,
      ),
    );
    expect(failed).toMatchObject({ code: '22012' });
    expect(await pidOf(pool)).toBe(before);
  });
});

describe('inTransaction', () => {
  it('commits what the callback has done, and gives its result', async () => {
    const result = await inTransaction(pool, async (client) => {
      await client.query(`INSERT INTO notes VALUES ('a')`);
      return 1;
    });
    expect([result, await notes()]).toEqual([1, ['a']]);
  });

  it('rolls back when the callback throws, and keeps the connection', async () => {
    const before = await pidOf(pool);
    const failed = await rejected(
      inTransaction(pool, async (client) => {
        await client.query(`INSERT INTO notes VALUES ('a')`);
        throw new Error('refused');
      }),
    );
    expect([failed!.message, await notes(), await pidOf(pool)]).toEqual(['refused', [], before]);
  });

  it('throws when the callback has ignored a failed statement, since PostgreSQL then commits nothing', async () => {
    const failed = await rejected(
      inTransaction(pool, async (client) => {
        await client.query(`INSERT INTO notes VALUES ('a')`);
        await rejected(client.query(`INSERT INTO notes VALUES ('a')`));
      }),
    );
    expect(failed!.message).toMatch(/nothing is committed/);
    expect(await notes()).toEqual([]);
  });

  it('ends a connection on which nothing can be written, since the next one may lead to the primary', async () => {
    const before = await pidOf(pool);
    const failed = await rejected(
      inTransaction(pool, async (client) => {
        await client.query('SET LOCAL transaction_read_only = on');
        await client.query(`INSERT INTO notes VALUES ('a')`);
      }),
    );
    expect(failed).toMatchObject({ code: '25006' });
    expect(await pidOf(pool)).not.toBe(before);
  });

  it('takes a pool and not a connection, so that transactions cannot be nested', () => {
    const nested = (client: Connection) =>
      // @ts-expect-error -- held by the compiler
      inTransaction(client, () => Promise.resolve());
    // Nor can the callback give the connection back.
    const released: 'release' extends keyof Connection ? true : false = false;
    expect([nested, released]).toHaveLength(2);
  });
});

describe('inSession', () => {
  const reason = new Error('no longer wanted');

  it('gives the result, and ends the session', async () => {
    const pid = await inSession(pool, undefined, pidOf);
    const isGone = async () => (await pool.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid])).rowCount === 0;
    while (!(await isGone())) await sleep(5);
  });

  it('cancels the statement that runs when the signal aborts, and throws its reason', async () => {
    const controller = new AbortController();
    const before = performance.now();
    const failed = rejected(
      inSession(pool, controller.signal, async (session) => {
        setTimeout(() => controller.abort(reason), 50);
        await session.query('SELECT pg_sleep(30)');
      }),
    );
    expect(await failed).toBe(reason);
    expect(performance.now() - before).toBeLessThan(10_000);
  });

  it('begins nothing when the signal was aborted before', async () => {
    const work = jest.fn();
    expect(await rejected(inSession(pool, AbortSignal.abort(reason), work))).toBe(reason);
    expect(work).not.toHaveBeenCalled();
  });
});
