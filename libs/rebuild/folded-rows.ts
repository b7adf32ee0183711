import type { PersonalDataKeys } from '@app/commands';
import type { TextRow } from '@app/database';
import { eventsByStream, type InlineProjection, type ProjectedRow, type StreamRange } from '@app/event-store';
import type { Client } from 'pg';
import type { Projection } from './projections';

export interface FoldedRows {
  /** Rows in the order of their streams, each as PostgreSQL reads it, in the order of the table's columns. */
  readonly rows: TextRow[];
  /** How many events were read for these rows, and for the stream that follows them. */
  readonly events: number;
}

/**
 * Yields the rows that follow from the log, in groups.
 *
 * @param asStored writes `jsonb` as the database gives it back, to be compared with rows of the table.
 * @throws {Error} on a stream that the model cannot read, since a missing row would not be noticed.
 */
export async function* foldedRows(
  client: Client,
  { table, prefix, folder }: Projection,
  keys: PersonalDataKeys,
  range: Omit<StreamRange, 'prefix'> = {},
  { asStored = false } = {},
): AsyncGenerator<FoldedRows, void> {
  const text = textRow(table, asStored ? storedJson : JSON.stringify);
  const fold = folder(keys);
  for await (const events of eventsByStream(client, { ...range, prefix })) {
    yield { rows: (await fold.take(events)).map(text), events: events.length };
  }
  const row = fold.end();
  if (row) yield { rows: [text(row)], events: 0 };
}

/** Writes a row as PostgreSQL writes it as text, but for `jsonb`, which `jsonb` writes. */
function textRow({ columns }: InlineProjection, jsonb: (value: unknown) => string): (row: ProjectedRow) => TextRow {
  const writers = Object.entries(columns).map(([name, type]) => [name, writerOf(type, jsonb)] as const);
  return (row) =>
    writers.map(([name, write]) => {
      const value = row[name];
      return value === null ? null : write(value);
    });
}

function writerOf(type: string, jsonb: (value: unknown) => string): (value: unknown) => string {
  if (type === 'json') return (value) => JSON.stringify(value);
  if (type === 'jsonb') return jsonb;
  if (type === 'timestamptz') return (value) => postgresTime(value as string);
  return String;
}

/** Writes a value as PostgreSQL writes `jsonb`: the shorter keys first, and keys of one length by their octets. */
function storedJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(storedJson).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value)
    .filter(([, each]) => each !== undefined)
    .sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1));
  return `{${entries.map(([key, each]) => `${JSON.stringify(key)}: ${storedJson(each)}`).join(', ')}}`;
}

/** Converts `2026-03-01T10:00:00.500Z` to `2026-03-01 10:00:00.5+00`. */
function postgresTime(iso: string): string {
  let end = iso.length - 1;
  while (iso[end - 1] === '0') end--;
  if (iso[end - 1] === '.') end--;
  // The trailing zeros of a time without a fraction belong to its seconds, and stay.
  return `${iso.slice(0, 10)} ${iso.slice(11, Math.max(end, 19))}+00`;
}
