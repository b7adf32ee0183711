import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { NotThePrimary, ofAnyLength, unwaited, withClient, type Connection } from '@app/database';
import { DatabaseError, type Pool, type QueryConfig } from 'pg';
import { AppendUnanswered, ConstraintViolation, PartitionClosed, WrongExpectedVersion } from './errors';
import type { Append, InlineProjection, RecordedEvent } from './event';
import { keptStream } from './archives';
import { eventHashSql, noHash } from './event-hash';
import { eventColumns, eventsChannel, recordedEvent, type EventRow } from './event-log';
import { recordedOf } from './kept-event';
import { LogEpochs } from './log-epochs';
import {
  boundsSql,
  EventPartitions,
  inArchive,
  newestOfStream,
  spansOfStreamSql,
  type AppendTarget,
} from './partitions';

/** The largest number of appends in one statement. */
const batchLimit = 500;
/** The least time between two notifications of a process, in milliseconds. */
const notifyEveryMs = 2;

/**
 * The longest wait for an answer, in milliseconds. It is above the statement time-out of `openPool`, whose outcome is
 * certain.
 */
const longestAnswerMs = 35_000;

/** Gives the SQL condition that a stream, which an expression names, has events above a position in an archive. */
export const archivedAboveSql = (stream: string, position: string): string => `EXISTS (
    SELECT FROM stream_spans WHERE stream_spans.stream = ${stream} AND blocks IS NOT NULL AND last_position > ${position}
  )`;

/**
 * Gives the SQL expression for the type of the newest event of some types in the stream that an expression names, up to
 * the position that another one gives; null where there is none. The statement fails where the stream has events above
 * that position in an archive.
 */
export const newestTypeSql = (stream: string, upTo: string, types: readonly string[]): string => `CASE
  WHEN ${archivedAboveSql(stream, upTo)} THEN refuse_archived(${stream})::text
  ELSE (SELECT type FROM events WHERE events.stream = ${stream} AND events.position <= ${upTo}
    AND events.type IN (${types.map((type) => `'${type}'`).join(', ')}) ORDER BY events.version DESC LIMIT 1)
  END`;

/** Gives the SQL condition that the stream which an expression names has an event of a type outside of archives. */
export const hasTypeSql = (stream: string, type: string): string =>
  `EXISTS (SELECT FROM events WHERE events.stream = ${stream} AND events.type = '${type}')`;

/** Gives the rows of parameters that are columns: those after the first so many, each with its type. */
const rowsAfter = (count: number, ...types: readonly string[]): string =>
  `unnest(${types.map((type, i) => ofAnyLength(`$${count + i + 1}`, type)).join(', ')})`;
const rowsOf = (...types: readonly string[]): string => rowsAfter(0, ...types);

/** How often the positions of an append may be in a partition that is not open. */
const mostOpenings = 10;

/** Milliseconds after which it is looked whether a partition before the newest is indexed, or the log partitioned. */
const provisionalMs = 10_000;
const isProvisional = ({ table, unindexed }: AppendTarget): boolean => table === 'events' || unindexed.length > 1;

/** What a statement of appends says of each. */
interface Answer {
  /** The version at which the stream was found. */
  readonly version: number;
  /** Nothing was written, since the positions are in a partition that is not open. */
  readonly isClosed: boolean;
}

/** The events of a stream from the version `first` to the version `last`, both included. */
export interface StreamPart {
  readonly stream: string;
  readonly first: number;
  readonly last: number;
}

/** An append as it is sent. */
interface Sent {
  readonly stream: string;
  readonly expected: number;
  readonly metadata: string;
  readonly row: string | null;
  readonly events: readonly { type: string; schemaVersion: number; data: string; time: string }[];
}

/** An append that waits, with the promise of its caller. */
interface Waiting extends Sent {
  readonly resolve: (version: number) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Stores streams of events in PostgreSQL. Appends of this process that wait at the same time go in one statement, and
 * so in one transaction, each with its own expected version and its own answer. A single append is sent at once.
 */
export class EventStore {
  private waiting: Waiting[] = [];
  private sending = false;
  /** The types of events that readers were not told of yet. */
  private untold = new Set<string>();
  private announcing = false;
  private readonly partitions: EventPartitions;
  private readonly epochs: LogEpochs;
  private statements: Promise<Statements> | undefined;
  /** When the statements are made anew, in milliseconds of the clock of the process. */
  private statementsUntil = 0;

  /**
   * @param pool whose server ends a statement sooner than `answerWithinMs`, as that of `openPool` does, so that most
   * statements that hang have a certain outcome.
   * @param answerWithinMs milliseconds without an answer after which the connection is given up and the next append is
   * sent.
   */
  constructor(
    private readonly pool: Pool,
    private readonly projection?: InlineProjection,
    private readonly answerWithinMs = longestAnswerMs,
  ) {
    this.partitions = new EventPartitions(pool);
    this.epochs = LogEpochs.of(pool);
  }

  /**
   * Adds events to a stream, all or none, and upserts the projected row with them.
   *
   * @returns the version of the stream after it.
   * @throws {WrongExpectedVersion} the stream has another version.
   * @throws {ConstraintViolation} the row breaks a rule of its table.
   * @throws {AppendUnanswered} it is not known whether the append happened or will happen: the connection broke while
   * the statement was under way, the server went down, or gave no answer within `answerWithinMs`. Callers must not
   * report it as a certain failure.
   * @throws {PartitionClosed} the next partition of the log could not be opened: nothing was written.
   * @throws {Error} anything else: nothing was written. This includes a statement that the server ended by its time-out
   * (SQLSTATE 57014), since the server stops that clock before it commits, and a server that cannot be reached or
   * refuses the connection.
   */
  async append(append: Append): Promise<number> {
    const sent = this.sent(append);
    return new Promise((resolve, reject) => {
      this.waiting.push({ ...sent, resolve, reject });
      if (!this.sending) void this.send();
    });
  }

  /**
   * Adds events to several streams and upserts their rows, all or none. The rows of streams that are there already are
   * written first, so that a new one can have what one of them gives up under a unique index.
   *
   * @throws {WrongExpectedVersion} one of the streams has another version; and what `append` throws.
   */
  async appendTogether(appends: readonly Append[]): Promise<void> {
    const batch = appends.map((append) => this.sent(append));
    const { stream: last } = batch.at(-1)!;
    for (;;) {
      try {
        const found = await this.run('together', batch, columnsOf(batch));
        for (const [i, { stream, expected }] of batch.entries())
          if (found[i] !== expected) throw new WrongExpectedVersion(stream, expected, found[i]!);
        void this.announce(batch);
        return;
      } catch (error) {
        if (error instanceof WrongExpectedVersion) throw error;
        if (!isRefusal(error)) throw isCertain(error) ? error : new AppendUnanswered(last, error);
        if (!isLostRace(error)) throw violation(last, error);
      }
    }
  }

  /**
   * Reads the events of a stream in their order, from a version on; none when there is no such stream. Those that are
   * in archives are read from their files.
   *
   * @param limit the most events; all when absent.
   * @throws {ArchiveAway} {ArchiveBroken} where a file is not there, or does not have what it should.
   */
  async readStream(stream: string, fromVersion = 1, limit?: number): Promise<RecordedEvent[]> {
    const rows = await this.read<EventRow>({
      name: 'stream read',
      text: `WITH ${boundsSql} SELECT ${eventColumns}
        FROM ${spansOfStreamSql('$1', 'last_version >= $2')} AS span,
          LATERAL (
            SELECT * FROM events
            WHERE stream = $1 AND version >= $2 AND position BETWEEN first_position AND last_position
            ORDER BY version LIMIT $3
          ) AS found
        ORDER BY version LIMIT $3`,
      values: [stream, fromVersion, limit],
    });
    return rows ? this.epochs.place(rows.map(recordedEvent)) : this.fromArchives({ stream, first: fromVersion }, limit);
  }

  /**
   * Reads parts of several streams with one query: at most `limit` events, stream by stream in the order of `parts`,
   * and each in the order of its versions. No two parts are of the same stream.
   *
   * @throws {ArchiveAway} {ArchiveBroken} as `readStream` does.
   */
  async readStreams(parts: readonly StreamPart[], limit: number): Promise<RecordedEvent[]> {
    const rows = await this.read<EventRow>({
      name: 'streams read',
      text: `WITH ${boundsSql} SELECT ${eventColumns}
        FROM ${rowsOf('text', 'int', 'int')} WITH ORDINALITY AS part (of_stream, first, last, nth),
          LATERAL ${spansOfStreamSql('of_stream', 'last_version >= first')} AS span,
          LATERAL (
            SELECT * FROM events
            WHERE stream = of_stream AND version BETWEEN first AND last
              AND position BETWEEN first_position AND last_position
            ORDER BY version LIMIT $4
          ) AS found
        ORDER BY nth, version LIMIT $4`,
      values: [
        parts.map(({ stream }) => stream),
        parts.map(({ first }) => first),
        parts.map(({ last }) => last),
        limit,
      ],
    });
    if (rows) return this.epochs.place(rows.map(recordedEvent));
    const found: RecordedEvent[] = [];
    for (const part of parts)
      if (found.length < limit) found.push(...(await this.fromArchives(part, limit - found.length)));
    return found;
  }

  /**
   * Finds the newest event of some types in each of several streams: below a version, or up to a position.
   *
   * @returns one for each of `asked`, in its order; undefined where there is none.
   * @throws {ArchiveAway} {ArchiveBroken} as `readStream` does.
   */
  async newestOf(
    asked: readonly { readonly stream: string; readonly below?: number; readonly upTo?: number }[],
    types: readonly string[],
  ): Promise<(RecordedEvent | undefined)[]> {
    const rows = await this.read<EventRow & { nth: number }>({
      name: 'streams newest',
      text: `WITH ${boundsSql} SELECT DISTINCT ON (nth) nth::int, ${eventColumns}
        FROM ${rowsOf('text', 'int', 'bigint')} WITH ORDINALITY AS asked (of_stream, below, up_to, nth),
          LATERAL ${spansOfStreamSql('of_stream')} AS span,
          LATERAL (
            SELECT * FROM events
            WHERE stream = of_stream AND version < coalesce(below, 2147483647)
              AND type = ANY (${ofAnyLength('$4', 'text')})
              AND (up_to IS NULL OR position <= up_to) AND position BETWEEN first_position AND last_position
            ORDER BY version DESC LIMIT 1
          ) AS newest
        ORDER BY nth, version DESC`,
      values: [
        asked.map(({ stream }) => stream),
        asked.map(({ below }) => below ?? null),
        asked.map(({ upTo }) => upTo ?? null),
        types,
      ],
    });
    const newest: (RecordedEvent | undefined)[] = [];
    if (!rows)
      for (const { stream, below = Infinity, upTo = Infinity } of asked) {
        const events = await this.fromArchives({ stream, first: 1 });
        const isAsked = ({ type, version, position }: RecordedEvent) =>
          types.includes(type) && version < below && position <= upTo;
        newest.push(events.findLast(isAsked));
      }
    if (!rows) return newest;
    const events = await this.epochs.place(rows.map(({ nth: _, ...row }) => recordedEvent(row)));
    const found = new Map(rows.map(({ nth }, i) => [nth, events[i]]));
    return asked.map((_, i) => found.get(i + 1));
  }

  /** Gives the newest event of a type below a version of a stream; undefined where there is none. */
  async lastBefore(stream: string, version: number, type: string): Promise<RecordedEvent | undefined> {
    const [newest] = await this.newestOf([{ stream, below: version }], [type]);
    return newest;
  }

  /** Runs a query of streams; undefined where one of them has events in an archive. */
  private async read<Row extends object>(query: QueryConfig): Promise<Row[] | undefined> {
    try {
      return (await this.pool.query<Row>(query)).rows;
    } catch (error) {
      if (error instanceof DatabaseError && error.code === inArchive) return undefined;
      throw error;
    }
  }

  /** Reads a part of a stream wherever its events are. */
  private async fromArchives(
    { stream, first, last = 2 ** 31 - 1 }: Omit<StreamPart, 'last'> & Partial<StreamPart>,
    limit?: number,
  ): Promise<RecordedEvent[]> {
    return this.epochs.place((await keptStream(this.pool, stream, { first, last }, limit)).map(recordedOf));
  }

  /** Makes the JSON of an append at once, so that what cannot be JSON fails alone, and later changes are not sent. */
  private sent({ stream, expectedVersion, events, metadata, row }: Append): Sent {
    if (events.length === 0) throw new Error(`An append to ${stream} without events.`);
    if (row && !this.projection) throw new Error('An append with a row needs a store with a projection.');
    return {
      stream,
      expected: expectedVersion,
      metadata: JSON.stringify(metadata),
      row: row ? JSON.stringify(row) : null,
      events: events.map((event) => ({ ...event, data: JSON.stringify(event.data) })),
    };
  }

  /** Sends one statement after another. Appends that come meanwhile are gathered for the next one. */
  private async send(): Promise<void> {
    this.sending = true;
    while (this.waiting.length > 0) {
      await this.write(this.takeBatch());
      // A caller that was just answered may append again at once. Waiting a turn lets all such appends share the next
      // statement.
      await nextTurn();
    }
    this.sending = false;
  }

  /** Takes one append a stream, since a second one could only find that the first has moved the stream. */
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

  /** Halves a batch that the database refuses, until the refused append stands alone and the others are written. */
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
    const written = batch.filter(({ expected }, i) => found[i] === expected);
    if (written.length > 0) void this.announce(written);
    for (const [i, { stream, expected, events, resolve, reject }] of batch.entries())
      if (found[i] === expected) resolve(expected + events.length);
      else reject(new WrongExpectedVersion(stream, expected, found[i]!));
  }

  /** Gives the version at which each stream was found. An append that expected this version is written. */
  private async execute(batch: readonly Sent[]): Promise<number[]> {
    const [first] = batch;
    const [event, ...more] = first!.events;
    if (batch.length > 1 && batch.every(({ events }) => events.length === 1))
      return this.run('single', batch, singleColumnsOf(batch));
    if (batch.length > 1 || more.length > 0 || !event) return this.run('many', batch, columnsOf(batch));
    return this.run('one', batch, [
      first!.stream,
      first!.expected,
      event.type,
      event.schemaVersion,
      event.data,
      first!.metadata,
      event.time,
      ...(this.projection ? [first!.row] : []),
    ]);
  }

  /** Gives the statements for the partition that was opened last, as far as this process knows. */
  private current(): Promise<Statements> {
    if (this.statements && performance.now() < this.statementsUntil) return this.statements;
    const made = this.answered(this.partitions.target()).then((target) => {
      this.statementsUntil = isProvisional(target) ? performance.now() + provisionalMs : Infinity;
      return statementsFor(target, this.projection);
    });
    this.statementsUntil = Infinity;
    this.statements = made;
    made.catch(() => (this.statements = undefined));
    return made;
  }

  private async run(
    kind: Exclude<keyof Statements, 'target'>,
    batch: readonly Sent[],
    values: unknown[],
  ): Promise<number[]> {
    for (let tries = 0; tries < mostOpenings; tries++) {
      const statements = await this.current();
      const statement = { ...statements[kind], values };
      const rows = await this.sendIn(statements.target, statement);
      if (!rows) continue;
      if (rows.every(({ isClosed }) => !isClosed)) {
        // A stream that has fewer events than it had when it was read goes on in a partition that others have opened.
        const isBehind = rows.some(({ version }, i) => version < batch[i]!.expected);
        if (!isBehind || (await this.isNewest(statements.target))) return rows.map(({ version }) => version);
        this.statements = undefined;
        continue;
      }
      await this.answered(this.partitions.open()).catch((error: unknown) => {
        throw new PartitionClosed('The next partition of the log cannot be opened', { cause: error });
      });
      this.statements = undefined;
    }
    throw new PartitionClosed(`An append had positions in a closed partition of the log ${mostOpenings} times`);
  }

  /**
   * Sends a statement of appends to a partition. Unlike the pool's own query, this keeps the connection after a
   * refusal, since refusals are frequent under contention.
   *
   * @returns undefined where that partition is not the one that was opened last, so that nothing was written: the
   * database may be one that does not have it, as after a fail-over.
   */
  private async sendIn(target: AppendTarget, statement: QueryConfig): Promise<Answer[] | undefined> {
    try {
      const send = (client: Connection) => client.query<Answer>(this.inTime(statement));
      return (await withClient(this.pool, send, isRefusal)).rows;
    } catch (error) {
      if (!isStrange(error) || (await this.isNewest(target))) throw error;
      this.statements = undefined;
      return undefined;
    }
  }

  /** Tells whether no other partition was opened since. */
  private async isNewest({ table }: AppendTarget): Promise<boolean> {
    return (await this.answered(this.partitions.target())).table === table;
  }

  /** Gives what is known of the partitions, or rejects when the time is up, so that no append waits for ever. */
  private async answered<T>(known: Promise<T>): Promise<T> {
    const over = new AbortController();
    const late = delay(this.answerWithinMs, undefined, { signal: over.signal }).then(() => {
      throw new PartitionClosed('It is not known in time which partition of the log is open');
    });
    try {
      return await Promise.race([known, late]);
    } finally {
      late.catch(() => undefined);
      over.abort();
    }
  }

  /**
   * Sets the driver's time-out of one query, after which it gives the connection up. The driver's types know this
   * setting on a client only.
   */
  private readonly inTime = <Query extends QueryConfig>(query: Query): Query => ({
    ...query,
    query_timeout: this.answerWithinMs,
  });

  /**
   * Notifies the readers after the commit and never inside the transaction, where a NOTIFY would make appends commit
   * one at a time. The first append after a while notifies at once. Those that commit shortly after a NOTIFY are
   * covered by the next one, since a NOTIFY takes as long as an append, and wakes all readers. Its transaction does not
   * wait for the disk, nor for a standby, as the appends do: it has nothing that may not be lost.
   */
  private async announce(appends: readonly Sent[]): Promise<void> {
    for (const { events } of appends) for (const { type } of events) this.untold.add(type);
    if (this.announcing) return;
    this.announcing = true;
    while (this.untold.size > 0) {
      const types = [...this.untold].join(' ');
      this.untold = new Set();
      // A lost notification is covered by the readers' poll.
      await this.pool.query(this.inTime(notificationOf(types))).catch(() => undefined);
      await delay(notifyEveryMs);
    }
    this.announcing = false;
  }
}

/** The most octets that the types of a notification take: PostgreSQL sends fewer than 8,000. */
const mostOctets = 7_000;

/**
 * Notifies the readers of events of some types, or of any type where they are too many to be named. The setting is for
 * this transaction alone, and counts at its commit.
 */
const notificationOf = (types: string): QueryConfig => ({
  name: 'notify of events',
  text: `SELECT ${unwaited}, pg_notify('${eventsChannel}', $1)`,
  values: [Buffer.byteLength(types) <= mostOctets ? types : ''],
});

/** The messages of the driver for a connection that was never made. */
const noConnection = /^(timeout exceeded when trying to connect|Connection terminated due to connection timeout)$/;

/**
 * Tells whether an error proves that nothing was written: an error that the server reports, unless it is about its own
 * end or the connection's, or a connection that was never made.
 */
function isCertain(error: unknown): boolean {
  if (error instanceof PartitionClosed || error instanceof NotThePrimary) return true;
  if (error instanceof DatabaseError) return !/^(08|57P0[1245]|58|XX)/.test(error.code ?? '');
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  return syscall === 'connect' || code === 'ECONNREFUSED' || code === 'ENOTFOUND' || noConnection.test(message);
}

/**
 * Tells whether the database read the statement and refused its content, which may be due to one append only. Any other
 * error, such as a broken connection or a full disk, is given to every append of the statement.
 */
const isRefusal = (error: unknown): error is DatabaseError =>
  error instanceof DatabaseError && /^(21|22|23|40|54|P0)/.test(error.code ?? '');

/** Tells whether the table of a partition is not there, or not for the positions that were drawn. */
const isStrange = (error: unknown): boolean =>
  error instanceof DatabaseError && (error.code === '42P01' || (error.code === '23514' && !error.constraint));

/**
 * Tells whether another process was first, or both waited for each other. The next attempt sees what the other has
 * written.
 */
const isLostRace = ({ code, constraint }: DatabaseError): boolean =>
  /^events_(\d+_)?stream_version$/.test(constraint ?? '') || code === '40P01';

const violation = (stream: string, error: DatabaseError): Error =>
  /^(23505|23514)$/.test(error.code ?? '') && error.constraint
    ? new ConstraintViolation(stream, error.constraint, error.detail)
    : error;

/** Gives the columns of the appends of a statement, without their events. */
const appendColumnsOf = (batch: readonly Sent[]): unknown[][] => [
  batch.map((_, n) => n),
  batch.map(({ stream }) => stream),
  batch.map(({ expected }) => expected),
  batch.map(({ metadata }) => metadata),
  batch.map(({ row }) => row),
];

const eventColumnsOf = (events: Sent['events']): unknown[][] => [
  events.map(({ type }) => type),
  events.map(({ schemaVersion }) => schemaVersion),
  events.map(({ data }) => data),
  events.map(({ time }) => time),
];

/** Gives the columns of appends of one event each. */
const singleColumnsOf = (batch: readonly Sent[]): unknown[][] => [
  ...appendColumnsOf(batch),
  ...eventColumnsOf(batch.map(({ events }) => events[0]!)),
];

const columnsOf = (batch: readonly Sent[]): unknown[][] => {
  const events = batch.flatMap((append, n) => append.events.map((event, i) => ({ ...event, n, place: i + 1 })));
  return [
    ...appendColumnsOf(batch),
    events.map(({ n }) => n),
    events.map(({ place }) => place),
    ...eventColumnsOf(events),
  ];
};

/** The types of `appendColumnsOf` and of `eventColumnsOf`. */
const appendTypes = ['int', 'text', 'int', 'text', 'text'] as const;
const eventTypes = ['text', 'smallint', 'text', 'timestamptz'] as const;

interface Statement {
  readonly name: string;
  readonly text: string;
}

/** The statements of appends to one partition. */
type Statements = Readonly<Record<'one' | 'single' | 'many' | 'together', Statement>> & {
  readonly target: AppendTarget;
};

function statementsFor(target: AppendTarget, projection?: InlineProjection): Statements {
  // A prepared statement's name stands for one text on a connection, and stores with other projections may share the
  // pool. Partitions are indexed in their order, so that the newest and the oldest that is not say which are not.
  const name = `${projection ? ` with ${projection.table}` : ''} ${target.table} ${target.unindexed.at(-1)}`;
  return {
    target,
    one: { name: `append one${name}`, text: appendOne(target, projection) },
    single: { name: `append single${name}`, text: appendSingle(target, projection) },
    many: { name: `append many${name}`, text: appendMany(target, projection) },
    together: { name: `append together${name}`, text: appendMany(target, projection, true) },
  };
}

/** Gives the joins that find the newest event of a stream, and the columns that say what was found. */
function finding(stream: string, target: AppendTarget) {
  const { joins, columns } = newestOfStream(stream, target);
  return {
    joins,
    found: `coalesce(${columns.version}, 0) AS version,
      coalesce(${columns.hash}, '\\x${noHash.toString('hex')}') AS previous`,
  };
}

/**
 * Writes rows in an order that all processes share, so that two of them cannot deadlock.
 *
 * @param first what decides among rows with the same contended value, before their key.
 */
function upsert({ table, key, columns, contended = key }: InlineProjection, from: string, first?: string): string {
  const names = Object.keys(columns);
  const record = names.map((name) => `${name} ${columns[name]}`).join(', ');
  const update = names.filter((name) => name !== key).map((name) => `${name} = excluded.${name}`);
  return `, projected AS (
    INSERT INTO ${table} (${names.join(', ')})
    SELECT ${names.map((name) => `r.${name}`).join(', ')} ${from}, json_to_record(a.row::json) AS r(${record})
    WHERE a.row IS NOT NULL ORDER BY r.${contended}, ${first ? `${first}, ` : ''}r.${key}
    ON CONFLICT (${key}) DO UPDATE SET ${update.join(', ')}
  )`;
}

/** Draws the position here and not by the column's default, since the hash covers it. */
const insertInto = (
  table: string,
) => `INSERT INTO ${table} (position, stream, version, type, schema_version, data, metadata, time, previous, hash)
    OVERRIDING SYSTEM VALUE`;
const draw = `nextval('event_positions') AS position`;

/**
 * Tells that nothing was inserted of what was due, since the positions are above the bound. It asks what was inserted,
 * and never what was drawn: the positions must be drawn by the insertion, which first marks the append as in flight.
 */
const isClosed = (due: string) => `(${due} AND NOT EXISTS (SELECT FROM inserted)) AS "isClosed"`;

function appendOne(target: AppendTarget, projection?: InlineProjection): string {
  const { joins, found } = finding('$1', target);
  const row = projection ? upsert(projection, 'FROM inserted, (SELECT $8::text AS row) AS a') : '';
  return `WITH found AS MATERIALIZED (
    SELECT ${found} FROM (SELECT) AS one
      ${joins}
  ), event AS MATERIALIZED (
    SELECT ${draw}, $1::text AS stream, version + 1 AS version, $3::text AS type, $4::smallint AS schema_version,
      $5::text AS data, $6::text AS metadata, $7::timestamptz AS time, previous
    FROM found WHERE version = $2::int
  ), inserted AS (
    ${insertInto(target.table)}
    SELECT position, stream, version, type, schema_version, data::json, metadata::json, time, previous, ${eventHashSql()}
    FROM event WHERE position <= ${target.bound}
    RETURNING version
  )${row} SELECT version, ${isClosed('version = $2::int')} FROM found`;
}

/** Does what `appendMany` does, for appends of one event each: no event has another one of the statement before it. */
function appendSingle(target: AppendTarget, projection?: InlineProjection): string {
  const { joins, found } = finding('a.stream', target);
  return `WITH found AS MATERIALIZED (
    SELECT a.*, ${found}
    FROM ${rowsOf(...appendTypes, ...eventTypes)}
      AS a(n, stream, expected, metadata, row, type, schema_version, data, time)
      ${joins}
  ), appends AS (
    SELECT * FROM found WHERE version = expected
  ), events_in_order AS MATERIALIZED (
    SELECT ${draw}, ordered.* FROM (
      SELECT stream, version + 1 AS version, type, schema_version, data, metadata, time, previous
      FROM appends ORDER BY stream
    ) AS ordered
  ), inserted AS (
    ${insertInto(target.table)}
    SELECT position, stream, version, type, schema_version, data::json, metadata::json, time, previous, ${eventHashSql()}
    FROM events_in_order WHERE (SELECT max(position) FROM events_in_order) <= ${target.bound} ORDER BY position
    RETURNING stream
  )${projection ? upsert(projection, 'FROM inserted i JOIN appends a ON a.stream = i.stream') : ''} SELECT version, ${isClosed('EXISTS (SELECT FROM appends)')} FROM found ORDER BY n`;
}

/**
 * Inserts the events of all streams before the first row, in the order of their streams; `upsert` says why.
 *
 * @param isAllOrNone whether nothing is written where one stream has another version than it was expected to have.
 */
function appendMany(target: AppendTarget, projection?: InlineProjection, isAllOrNone = false): string {
  const { joins, found } = finding('a.stream', target);
  const from = 'FROM inserted i JOIN appends a ON a.stream = i.stream AND a.version + 1 = i.version';
  return `WITH RECURSIVE found AS MATERIALIZED (
    SELECT a.*, ${found}
    FROM ${rowsOf(...appendTypes)} AS a(n, stream, expected, metadata, row)
      ${joins}
  ), appends AS (
    SELECT * FROM found WHERE ${isAllOrNone ? '(SELECT bool_and(version = expected) FROM found)' : 'version = expected'}
  ), events_in_order AS MATERIALIZED (
    SELECT ${draw}, ordered.* FROM (
      SELECT a.stream, a.version + e.place AS version, e.type, e.schema_version, e.data, a.metadata, e.time, e.place, a.previous
      FROM ${rowsAfter(appendTypes.length, 'int', 'int', ...eventTypes)}
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
    ${insertInto(target.table)}
    SELECT position, stream, version, type, schema_version, data::json, metadata::json, time, previous, hash
    FROM chained WHERE (SELECT max(position) FROM events_in_order) <= ${target.bound} ORDER BY position
    RETURNING stream, version
  )${projection ? upsert(projection, from, isAllOrNone ? 'a.version DESC' : undefined) : ''} SELECT version, ${isClosed('EXISTS (SELECT FROM appends)')} FROM found ORDER BY n`;
}
