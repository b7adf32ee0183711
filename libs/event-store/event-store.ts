import { DatabaseError, type Pool } from 'pg';
import { UniqueViolation, WrongExpectedVersion } from './errors';
import type { Append, InlineProjection, RecordedEvent } from './event';
import { eventsChannel } from './event-log';

/** Appends that go in one statement at most. */
const batchLimit = 500;

interface Waiting {
  readonly append: Append;
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
  private announcing = false;
  private readonly statements: { one: string; many: string };

  constructor(
    private readonly pool: Pool,
    private readonly projection?: InlineProjection,
  ) {
    this.statements = { one: appendOne(projection), many: appendMany(projection) };
  }

  /**
   * Adds events to a stream, all or none, and upserts the projected row with them.
   *
   * @returns the version of the stream after it.
   * @throws {WrongExpectedVersion} the stream is elsewhere.
   * @throws {UniqueViolation} the row meets a unique index.
   * @throws {Error} of the connection: it is not known then whether the append happened; reading the stream tells.
   */
  append(append: Append): Promise<number> {
    if (append.events.length === 0) throw new Error(`An append to ${append.stream} without events.`);
    if (append.row && !this.projection) throw new Error('An append with a row needs a store with a projection.');
    return new Promise((resolve, reject) => {
      this.waiting.push({ append, resolve, reject });
      if (!this.sending) void this.send();
    });
  }

  /** The events of a stream in their order, from a version on; none when there is no such stream. */
  async readStream(stream: string, fromVersion = 1): Promise<RecordedEvent[]> {
    const { rows } = await this.pool.query<Omit<RecordedEvent, 'time'> & { time: Date }>({
      name: 'stream-read',
      text: `SELECT position::float8 AS position, stream, version, type, schema_version AS "schemaVersion", data,
               metadata, time FROM events WHERE stream = $1 AND version >= $2 ORDER BY version`,
      values: [stream, fromVersion],
    });
    return rows.map((row) => ({ ...row, time: row.time.toISOString() }));
  }

  /** One statement after the other; what comes meanwhile gathers for the next. */
  private async send(): Promise<void> {
    this.sending = true;
    while (this.waiting.length > 0) await this.write(this.takeBatch());
    this.sending = false;
  }

  /** One append a stream: a second one would only find that the first has moved it. */
  private takeBatch(): Waiting[] {
    const batch = new Map<string, Waiting>();
    const rest: Waiting[] = [];
    for (const entry of this.waiting) {
      const { stream } = entry.append;
      if (batch.size < batchLimit && !batch.has(stream)) batch.set(stream, entry);
      else rest.push(entry);
    }
    this.waiting = rest;
    return [...batch.values()];
  }

  /** Halves a batch that the database refuses until the one that is refused stands alone: the others go through. */
  private async write(batch: Waiting[]): Promise<void> {
    let written: Set<number>;
    try {
      written = await this.execute(batch.map(({ append }) => append));
    } catch (error) {
      if (batch.length > 1 && isRefusal(error)) {
        const half = batch.length >> 1;
        await this.write(batch.slice(0, half));
        return this.write(batch.slice(half));
      }
      for (const entry of batch) await this.refuse(entry, error);
      return;
    }
    if (written.size > 0) this.announce();
    for (const [index, entry] of batch.entries()) {
      const { expectedVersion, events } = entry.append;
      if (written.has(index)) entry.resolve(expectedVersion + events.length);
      else await this.refuse(entry);
    }
  }

  private async refuse({ append, reject }: Waiting, error?: unknown): Promise<void> {
    const violation = error instanceof DatabaseError && error.code === '23505' ? error.constraint : undefined;
    if (error && !violation) return reject(error);
    if (violation && violation !== 'events_stream_version')
      return reject(new UniqueViolation(append.stream, violation));
    try {
      const { rows } = await this.pool.query<{ version: number }>(
        'SELECT coalesce(max(version), 0) AS version FROM events WHERE stream = $1',
        [append.stream],
      );
      reject(new WrongExpectedVersion(append.stream, append.expectedVersion, rows[0]!.version));
    } catch (lost) {
      reject(lost);
    }
  }

  /** Indexes of the appends that were written; the others were stale. */
  private async execute(appends: Append[]): Promise<Set<number>> {
    const [first] = appends;
    if (first && appends.length === 1 && first.events.length === 1) {
      const [event] = first.events;
      const { rowCount } = await this.pool.query({
        name: 'append-one',
        text: this.statements.one,
        values: [
          ...[first.stream, first.expectedVersion, event!.type, event!.schemaVersion, JSON.stringify(event!.data)],
          ...[JSON.stringify(first.metadata), event!.time, ...(this.projection ? [rowOf(first)] : [])],
        ],
      });
      return new Set(rowCount ? [0] : []);
    }
    const events = appends.flatMap((append, index) =>
      append.events.map((event, offset) => ({ index, offset: offset + 1, event })),
    );
    const { rows } = await this.pool.query<{ n: number }>({
      name: 'append-many',
      text: this.statements.many,
      values: [
        appends.map((_, index) => index),
        appends.map(({ stream }) => stream),
        appends.map(({ expectedVersion }) => expectedVersion),
        appends.map(({ metadata }) => JSON.stringify(metadata)),
        appends.map(rowOf),
        events.map(({ index }) => index),
        events.map(({ offset }) => offset),
        events.map(({ event }) => event.type),
        events.map(({ event }) => event.schemaVersion),
        events.map(({ event }) => JSON.stringify(event.data)),
        events.map(({ event }) => event.time),
      ],
    });
    return new Set(rows.map(({ n }) => n));
  }

  /**
   * Wakes the readers, after the commit and never inside it: a NOTIFY in the append's transaction would let appends
   * commit only one after the other.
   */
  private announce(): void {
    if (this.announcing) return;
    this.announcing = true;
    this.pool
      .query(`NOTIFY ${eventsChannel}`)
      // A wake-up that is lost is made good by the readers' poll.
      .catch(() => undefined)
      .finally(() => (this.announcing = false));
  }
}

const rowOf = ({ row }: Append): string | null => (row ? JSON.stringify(row) : null);

/** The database looked at the statement and refused it; a statement whose connection broke may have been carried out. */
const isRefusal = (error: unknown): boolean =>
  error instanceof DatabaseError && error.code !== undefined && !/^(08|53|57|58|XX)/.test(error.code);

const versionOf = (stream: string) =>
  `coalesce((SELECT version FROM events WHERE stream = ${stream} ORDER BY version DESC LIMIT 1), 0)`;

function upsert({ table, key, columns }: InlineProjection, from: string): string {
  const names = Object.keys(columns);
  const record = names.map((name) => `${name} ${columns[name]}`).join(', ');
  const update = names.filter((name) => name !== key).map((name) => `${name} = excluded.${name}`);
  return `, projected AS (
    INSERT INTO ${table} (${names.join(', ')})
    SELECT ${names.map((name) => `r.${name}`).join(', ')} ${from}, json_to_record(a.row::json) AS r(${record})
    WHERE a.row IS NOT NULL ORDER BY r.${key}
    ON CONFLICT (${key}) DO UPDATE SET ${update.join(', ')}
  )`;
}

function appendOne(projection?: InlineProjection): string {
  const row = projection ? upsert(projection, 'FROM inserted, (SELECT $8::text AS row) AS a') : '';
  return `WITH inserted AS (
    INSERT INTO events (stream, version, type, schema_version, data, metadata, time)
    SELECT $1, $2::int + 1, $3, $4::smallint, $5::json, $6::json, $7::timestamptz WHERE ${versionOf('$1')} = $2::int
    RETURNING version
  )${row} SELECT version FROM inserted`;
}

/** Rows are locked in the order of their streams, events first: two processes cannot wait for each other. */
function appendMany(projection?: InlineProjection): string {
  const from = 'FROM inserted i JOIN appends a ON a.stream = i.stream AND a.expected + 1 = i.version';
  return `WITH appends AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::text[], $3::int[], $4::text[], $5::text[]) AS a(n, stream, expected, metadata, row)
    WHERE ${versionOf('a.stream')} = expected
  ), inserted AS (
    INSERT INTO events (stream, version, type, schema_version, data, metadata, time)
    SELECT a.stream, a.expected + e.place, e.type, e.schema_version, e.data::json, a.metadata::json, e.time
    FROM unnest($6::int[], $7::int[], $8::text[], $9::smallint[], $10::text[], $11::timestamptz[])
      AS e(n, place, type, schema_version, data, time) JOIN appends a USING (n)
    ORDER BY a.stream, e.place
    RETURNING stream, version
  )${projection ? upsert(projection, from) : ''} SELECT n FROM appends`;
}
