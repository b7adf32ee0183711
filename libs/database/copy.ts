import { from as copyFrom } from 'pg-copy-streams';
import type { Connection } from './connections';
import { copyRows } from './copy-rows';

/** A row with its values as PostgreSQL writes them as text; null is NULL. */
export type TextRow = readonly (string | null)[];

/**
 * Yields the rows of a query in groups by `COPY … TO`. Every column has to be `text` or `json`, or be cast to it: the
 * binary format gives those unescaped.
 *
 * A caller that stops before the end must end the connection, which cannot be used any more.
 *
 * @param client a connection that nothing else uses until the last row.
 */
export async function* copyOut(client: Connection, query: string): AsyncGenerator<TextRow[], void> {
  for await (const { bytes, starts } of copyRows(client, query)) yield starts.map((start) => textsAt(bytes, start));
}

function textsAt(bytes: Buffer, start: number): TextRow {
  const row = new Array<string | null>(bytes.readInt16BE(start - 2));
  for (let column = 0, at = start; column < row.length; column++) {
    const length = bytes.readInt32BE(at);
    at += 4;
    row[column] = length === -1 ? null : bytes.toString('utf8', at, at + length);
    at += Math.max(0, length);
  }
  return row;
}

/**
 * Writes rows by `COPY … FROM` in one statement: all of them or none.
 *
 * @param columns SQL, in the order of the values.
 */
export async function copyIn(
  client: Connection,
  table: string,
  columns: readonly string[],
  rows: Iterable<TextRow>,
): Promise<void> {
  const stream = client.query(copyFrom(`COPY ${table} (${columns.join(', ')}) FROM STDIN`));
  await new Promise<void>((resolve, reject) => {
    stream.on('error', reject).on('finish', resolve);
    let text = '';
    for (const row of rows) text += `${row.map((value) => (value === null ? '\\N' : escaped(value))).join('\t')}\n`;
    stream.end(text);
  });
}

const special: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const escaped = (value: string): string =>
  /[\\\n\r\t]/.test(value) ? value.replace(/[\\\n\r\t]/g, (found) => special[found]!) : value;
