import { setImmediate as nextTurn } from 'node:timers/promises';
import { DatabaseError, type Pool, type QueryConfig, type QueryResult } from 'pg';
import { AppendUnanswered, ConstraintViolation, WrongExpectedVersion } from './errors';
import type { Append, InlineProjection, RecordedEvent } from './event';
import { eventHashSql, noHash } from './event-hash';
import { eventColumns, eventsChannel, recordedEvent, type EventRow } from './event-log';

/** Appends that go in one statement at most. */
const batchLimit = 500;

/** In milliseconds. Longer than the server gives any statement (`openPool`), whose word is certain and so comes first. */
const longestAnswerMs = 35_000;

/** An append as it is sent, and where its answer goes. */
interface Waiting {
  readonly stream: string;
  readonly expected: number;
  readonly metadata: string;
  readonly row: string | null;
  readonly events: readonly { type: string; schemaVersion: number; data: string; time: string }[];
  readonly resolve: (version: number) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Streams of events in PostgreSQL. Appends of this process that wait together travel together, in one statement and so
 * in one transaction, each with its own expected version and its own answer; a lone one waits for no company.
 */
export class EventStore {
  private waiting: Waiting[] = [];
  private sending = false;
  private news = false;
  private announcing = false;
  private readonly statements: { one: Statement; many: Statement };

  /**
   * @param pool whose server ends a statement after a time shorter than `answerWithinMs`, as `openPool` has it: then most of what
   * is stuck has a certain outcome.
   * @param answerWithinMs after this long without an answer the connection is given up, and the next append has its turn.
   */
  constructor(
    private readonly pool: Pool,
    private readonly projection?: InlineProjection,
    private readonly answerWithinMs = longestAnswerMs,
  ) {
    // A name stands for one text on a connection, and stores with other projections may share the pool.
    const name = projection ? ` with ${projection.table}` : '';
    this.statements = {
      one: { name: `append one${name}`, text: appendOne(projection) },
      many: { name: `append many${name}`, text: appendMany(projection) },
    };
  }

  /**
   * Adds events to a stream, all or none, and upserts the projected row with them.
   *
   * @returns the version of the stream after it.
   * @throws {WrongExpectedVersion} the stream is elsewhere.
   * @throws {ConstraintViolation} the row breaks a rule of its table.
   * @throws {AppendUnanswered} it is not known whether the append happened, or will: a connection that broke while the
   * statement was under way, a server that went down, or one of which nothing was heard for `answerWithinMs`. Never to be told
   * as a failure that is certain.
   * @throws {Error} anything else: nothing was written. So it is with a statement that the server ended for its time (SQLSTATE
   * 57014), since it stops that clock before it commits, and with a server that cannot be reached or takes no connection.
   */
  async append({ stream, expectedVersion, events, metadata, row }: Append): Promise<number> {
    if (events.length === 0) throw new Error(`An append to ${stream} without events.`);
    if (row && !this.projection) throw new Error('An append with a row needs a store with a projection.');
    // JSON is made here, so that what cannot be JSON fails its caller alone, and what changes later is not sent.
    const json = {
      metadata: JSON.stringify(metadata),
      row: row ? JSON.stringify(row) : null,
      events: events.map((event) => ({ ...event, data: JSON.stringify(event.data) })),
    };
    return new Promise((resolve, reject) => {
      this.waiting.push({ stream, expected: expectedVersion, ...json, resolve, reject });
      if (!this.sending) void this.send();
    });
  }

  /** The events of a stream in their order, from a version on; none when there is no such stream. */
  async readStream(stream: string, fromVersion = 1): Promise<RecordedEvent[]> {
    const { rows } = await this.pool.query<EventRow>({
      name: 'stream read',
      text: `SELECT ${eventColumns} FROM events WHERE stream = $1 AND version >= $2 ORDER BY version`,
      values: [stream, fromVersion],
    });
    return rows.map(recordedEvent);
  }

  /** One statement after the other; what comes meanwhile gathers for the next. */
  private async send(): Promise<void> {
    this.sending = true;
    while (this.waiting.length > 0) {
      await this.write(this.takeBatch());
      // Whoever has just been answered may append again at once: the first of them must not go without the others.
      await nextTurn();
    }
    this.sending = false;
  }

  /** One append a stream: a second one would only find that the first has moved it. */
  private takeBatch(): Waiting[] {
    const batch = new Map<string, Waiting>();
    const rest: Waiting[] = [];
    for (const append of this.waiting) {
      if (batch.size < batchLimit && !batch.has(append.stream)) batch.set(append.stream, append);
      else rest.push(append);
    }
    this.waiting = rest;
    return [...batch.values()];
  }

  /** Halves a batch that the database refuses until the one that is refused stands alone: the others go through. */
  private async write(batch: readonly Waiting[]): Promise<void> {
    let found: number[];
    try {
      found = await this.execute(batch);
    } catch (error) {
      if (!isRefusal(error))
        for (const { stream, reject } of batch) reject(isCertain(error) ? error : new AppendUnanswered(stream, error));
      else if (batch.length > 1) {
        const half = batch.length >> 1;
        await this.write(batch.slice(0, half));
        await this.write(batch.slice(half));
      } else if (isLostRace(error)) await this.write(batch);
      else for (const { stream, reject } of batch) reject(violation(stream, error));
      return;
    }
    if (batch.some(({ expected }, i) => found[i] === expected)) void this.announce();
    for (const [i, { stream, expected, events, resolve, reject }] of batch.entries())
      if (found[i] === expected) resolve(expected + events.length);
      else reject(new WrongExpectedVersion(stream, expected, found[i]!));
  }

  /** The version at which each stream was found; what expected that one is written. */
  private async execute(batch: readonly Waiting[]): Promise<number[]> {
    const [first] = batch;
    const [event, ...more] = first!.events;
    const lone = batch.length === 1 && more.length === 0 && event;
    const statement = lone
      ? {
          ...this.statements.one,
          values: [
            ...[first!.stream, first!.expected, event.type, event.schemaVersion, event.data, first!.metadata],
            ...[event.time, ...(this.projection ? [first!.row] : [])],
          ],
        }
      : { ...this.statements.many, values: columnsOf(batch) };
    const { rows } = await this.query<{ version: number }>(this.inTime(statement));
    return rows.map(({ version }) => version);
  }

  /** Like that of the pool, but a mere refusal does not cost the connection: under contention they are many. */
  private async query<Row extends object>(statement: QueryConfig): Promise<QueryResult<Row>> {
    const client = await this.pool.connect();
    // A connection that ends tells its query, and says so here as well.
    const heard = () => undefined;
    client.on('error', heard);
    let broken: Error | undefined;
    try {
      return await client.query<Row>(statement);
    } catch (error) {
      if (!isRefusal(error)) broken = error as Error;
      throw error;
    } finally {
      client.off('error', heard);
      client.release(broken);
    }
  }

  /** The driver gives the connection up when the answer is late; its types know that setting of a client alone. */
  private readonly inTime = <Query extends QueryConfig>(query: Query): Query => ({
    ...query,
    ...{ query_timeout: this.answerWithinMs },
  });

  /**
   * Wakes the readers, after the commit and never inside it: a NOTIFY in the append's transaction would let appends
   * commit only one after the other. What commits while one is on its way is told by the next.
   */
  private async announce(): Promise<void> {
    this.news = true;
    if (this.announcing) return;
    this.announcing = true;
    while (this.news) {
      this.news = false;
      // A wake-up that is lost is made good by the readers' poll.
      await this.pool.query(this.inTime({ text: `NOTIFY ${eventsChannel}` })).catch(() => undefined);
    }
    this.announcing = false;
  }
}

/** Of the driver. */
const noConnection = /^(timeout exceeded when trying to connect|Connection terminated due to connection timeout)$/;

/**
 * Whether an error says for sure that nothing was written: the server's own word, unless it speaks of its own end or of
 * the connection's, and a connection that never was.
 */
function isCertain(error: unknown): boolean {
  if (error instanceof DatabaseError) return !/^(08|57P0[1245]|58|XX)/.test(error.code ?? '');
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  return syscall === 'connect' || code === 'ECONNREFUSED' || code === 'ENOTFOUND' || noConnection.test(message);
}

/**
 * The database looked at the statement and refused what was in it, which may be one append's doing. Of anything else,
 * such as a broken connection or a full disk, all in the statement hear.
 */
const isRefusal = (error: unknown): error is DatabaseError =>
  error instanceof DatabaseError && /^(21|22|23|40|54|P0)/.test(error.code ?? '');

/** Another process was first, or waited for us as we did for it: the next try sees what it left. */
const isLostRace = ({ code, constraint }: DatabaseError): boolean =>
  constraint === 'events_stream_version' || code === '40P01';

const violation = (stream: string, error: DatabaseError): Error =>
  /^(23505|23514)$/.test(error.code ?? '') && error.constraint
    ? new ConstraintViolation(stream, error.constraint, error.detail)
    : error;

const columnsOf = (batch: readonly Waiting[]): unknown[][] => {
  const events = batch.flatMap((append, n) => append.events.map((event, i) => ({ ...event, n, place: i + 1 })));
  return [
    batch.map((_, n) => n),
    batch.map(({ stream }) => stream),
    batch.map(({ expected }) => expected),
    batch.map(({ metadata }) => metadata),
    batch.map(({ row }) => row),
    events.map(({ n }) => n),
    events.map(({ place }) => place),
    events.map(({ type }) => type),
    events.map(({ schemaVersion }) => schemaVersion),
    events.map(({ data }) => data),
    events.map(({ time }) => time),
  ];
};

interface Statement {
  readonly name: string;
  readonly text: string;
}

/** Version and hash of the newest event of a stream, found by the index, from its end. */
const newestOf = (stream: string) => `(
      SELECT version, hash FROM events WHERE stream = ${stream} ORDER BY version DESC LIMIT 1
    ) AS newest ON true`;
const found = `coalesce(newest.version, 0) AS version, coalesce(newest.hash, '\\x${noHash.toString('hex')}') AS previous`;

/** Rows go in an order that all processes share, so that two of them never wait for each other. */
function upsert({ table, key, columns, contended = key }: InlineProjection, from: string): string {
  const names = Object.keys(columns);
  const record = names.map((name) => `${name} ${columns[name]}`).join(', ');
  const update = names.filter((name) => name !== key).map((name) => `${name} = excluded.${name}`);
  return `, projected AS (
    INSERT INTO ${table} (${names.join(', ')})
    SELECT ${names.map((name) => `r.${name}`).join(', ')} ${from}, json_to_record(a.row::json) AS r(${record})
    WHERE a.row IS NOT NULL ORDER BY r.${contended}, r.${key}
    ON CONFLICT (${key}) DO UPDATE SET ${update.join(', ')}
  )`;
}

/** The position is drawn here, and not by the column's default, since the hash covers it. */
const insert = `INSERT INTO events (position, stream, version, type, schema_version, data, metadata, time, previous, hash)
    OVERRIDING SYSTEM VALUE`;
const draw = `nextval('event_positions') AS position`;

function appendOne(projection?: InlineProjection): string {
  const row = projection ? upsert(projection, 'FROM inserted, (SELECT $8::text AS row) AS a') : '';
  return `WITH found AS MATERIALIZED (
    SELECT ${found} FROM (SELECT) AS one LEFT JOIN LATERAL ${newestOf('$1')}
  ), event AS MATERIALIZED (
    SELECT ${draw}, $1::text AS stream, version + 1 AS version, $3::text AS type, $4::smallint AS schema_version,
      $5::text AS data, $6::text AS metadata, $7::timestamptz AS time, previous
    FROM found WHERE version = $2::int
  ), inserted AS (
    ${insert}
    SELECT position, stream, version, type, schema_version, data::json, metadata::json, time, previous, ${eventHashSql()}
    FROM event
    RETURNING version
  )${row} SELECT version FROM found`;
}

/** Events of all streams come before the first row, in the order of their streams: see `upsert`. */
function appendMany(projection?: InlineProjection): string {
  const from = 'FROM inserted i JOIN appends a ON a.stream = i.stream AND a.version + 1 = i.version';
  return `WITH RECURSIVE found AS MATERIALIZED (
    SELECT a.*, ${found}
    FROM unnest($1::int[], $2::text[], $3::int[], $4::text[], $5::text[]) AS a(n, stream, expected, metadata, row)
    LEFT JOIN LATERAL ${newestOf('a.stream')}
  ), appends AS (
    SELECT * FROM found WHERE version = expected
  ), events_in_order AS MATERIALIZED (
    SELECT ${draw}, ordered.* FROM (
      SELECT a.stream, a.version + e.place AS version, e.type, e.schema_version, e.data, a.metadata, e.time, e.place, a.previous
      FROM unnest($6::int[], $7::int[], $8::text[], $9::smallint[], $10::text[], $11::timestamptz[])
        AS e(n, place, type, schema_version, data, time) JOIN appends a USING (n)
      ORDER BY a.stream, e.place
    ) AS ordered
  ), chained AS (
    SELECT *, ${eventHashSql()} AS hash FROM events_in_order WHERE place = 1
    UNION ALL
    SELECT e.position, e.stream, e.version, e.type, e.schema_version, e.data, e.metadata, e.time, e.place, c.hash,
      ${eventHashSql({ position: 'e.position', previous: 'c.hash', stream: 'e.stream', version: 'e.version', type: 'e.type', schema_version: 'e.schema_version', time: 'e.time', data: 'e.data', metadata: 'e.metadata' })}
    FROM chained c JOIN events_in_order e ON e.stream = c.stream AND e.place = c.place + 1
  ), inserted AS (
    ${insert}
    SELECT position, stream, version, type, schema_version, data::json, metadata::json, time, previous, hash
    FROM chained ORDER BY position
    RETURNING stream, version
  )${projection ? upsert(projection, from) : ''} SELECT version FROM found ORDER BY n`;
}
