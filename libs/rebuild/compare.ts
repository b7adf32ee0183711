import { copyOut, openPool, type TextRow } from '@app/database';
import { bringArchived, sortsByBytes } from '@app/event-store';
import { MailboxKeys } from '@app/mailbox-keys';
import type { KeyRing } from '@app/secret-keys';
import { connect } from './connection';
import { foldedRows } from './folded-rows';
import { projectionOf, type ProjectionName } from './projections';

/** A value as PostgreSQL writes it as text; null is NULL. */
type Value = string | null;

export interface Difference {
  /** The key of the row, which is the name of its stream. */
  readonly id: string;
  /**
   * `missing`: the row follows from the log but is not in the table. `unknown`: the table has a row that the log does
   * not give.
   */
  readonly kind: 'missing' | 'unknown' | 'different';
  /** The columns that differ, for a row that both have. */
  readonly columns: readonly { readonly column: string; readonly table: Value; readonly log: Value }[];
}

export interface Comparison {
  /** The number of rows that follow from the log. */
  readonly rows: number;
  readonly events: number;
  readonly differences: number;
}

export interface CompareOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (events: number) => void;
  /** Opens the keys of mailboxes; needed where their addresses are encrypted. */
  readonly keyRing?: KeyRing | undefined;
}

/**
 * Compares the rows that follow from the log with the live table, and writes nothing. Both are read in one snapshot, in
 * which an append and its row are either both visible or neither, so concurrent changes are no differences.
 *
 * @param tell is called with each difference, in the order of the keys.
 * @throws the reason of the signal, when it is aborted.
 */
export async function compare(
  url: string,
  name: ProjectionName,
  tell: (difference: Difference) => void,
  { signal, onProgress, keyRing }: CompareOptions = {},
): Promise<Comparison> {
  const projection = projectionOf(name);
  const { table, key, columns } = projection.table;
  const names = Object.keys(columns);
  const keyAt = names.indexOf(key);
  const [log, live] = [await connect(url), await connect(url)];
  const pool = openPool(url, 1);
  try {
    const bytewise = !(await sortsByBytes(log));
    await bringArchived(log, projection.prefix);
    await log.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { rows: exported } = await log.query<{ snapshot: string }>('SELECT pg_export_snapshot() AS snapshot');
    await live.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await live.query(`SET TRANSACTION SNAPSHOT '${exported[0]!.snapshot}'`);
    const values = names.map((column) => `${column}::text`).join(', ');
    const tableRows = new Cursor(
      copyOut(live, `SELECT ${values} FROM ${table} ORDER BY ${table}.${key}${bytewise ? ' COLLATE "C"' : ''}`),
    );
    const found = { rows: 0, events: 0, differences: 0 };
    const differs = (difference: Difference) => {
      found.differences++;
      tell(difference);
    };
    const unknown = (row: TextRow) => differs({ id: row[keyAt]!, kind: 'unknown', columns: [] });
    const keys = new MailboxKeys(pool, keyRing);
    for await (const folded of foldedRows(log, projection, keys, { bytewise }, { asStored: true })) {
      signal?.throwIfAborted();
      for (const row of folded.rows) {
        found.rows++;
        const id = row[keyAt]!;
        let other = await tableRows.row();
        for (; other && other[keyAt]! < id; other = await tableRows.row()) {
          unknown(other);
          tableRows.next();
        }
        if (other?.[keyAt] !== id) {
          differs({ id, kind: 'missing', columns: [] });
          continue;
        }
        tableRows.next();
        const different = names.flatMap((column, i) =>
          row[i] === other[i] ? [] : [{ column, table: other[i]!, log: row[i]! }],
        );
        if (different.length > 0) differs({ id, kind: 'different', columns: different });
      }
      found.events += folded.events;
      onProgress?.(found.events);
    }
    for (let row = await tableRows.row(); row; row = await tableRows.row()) {
      unknown(row);
      tableRows.next();
    }
    return found;
  } finally {
    await Promise.all([log.end(), live.end(), pool.end()]);
  }
}

/** Folds all streams of the projection and discards the rows, to measure what a rebuild costs without the table. */
export async function foldAll(
  url: string,
  name: ProjectionName,
  keyRing?: KeyRing,
): Promise<Omit<Comparison, 'differences'>> {
  const client = await connect(url);
  const pool = openPool(url, 1);
  try {
    await bringArchived(client, projectionOf(name).prefix);
    const read = { rows: 0, events: 0 };
    for await (const { rows, events } of foldedRows(client, projectionOf(name), new MailboxKeys(pool, keyRing))) {
      read.rows += rows.length;
      read.events += events;
    }
    return read;
  } finally {
    await Promise.all([client.end(), pool.end()]);
  }
}

/** Gives rows one at a time from a generator of groups of rows. */
class Cursor {
  private rows: readonly TextRow[] = [];
  private at = 0;

  constructor(private readonly source: AsyncGenerator<TextRow[], void>) {}

  /** Gives the current row; undefined after the last one. */
  async row(): Promise<TextRow | undefined> {
    while (this.at >= this.rows.length) {
      const { value, done } = await this.source.next();
      if (done) return undefined;
      [this.rows, this.at] = [value, 0];
    }
    return this.rows[this.at];
  }

  next(): void {
    this.at++;
  }
}
