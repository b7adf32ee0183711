import type { Client } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';

/** A row as PostgreSQL writes its values as text; null is NULL. */
export type TextRow = readonly (string | null)[];

/** Chunks of about this many bytes come from the server at once, and not many wait: memory stays flat, whatever the table. */
const readAhead = 256 * 1_024;
/** Of the binary format: signature, flags, and the length of an extension that there never was. */
const headerLength = 19;

/**
 * The rows of a query by `COPY … TO`, some at a time, as fast as the server gives them. Every column has to be `text` or `json`, or be
 * cast to it: the format is the binary one, in which those come as they are, with nothing to unescape.
 *
 * When it is left before its end, the connection is of no use any more: end it.
 *
 * @param client a connection for this alone, until the last row.
 */
export async function* copyOut(client: Client, query: string): AsyncGenerator<TextRow[], void> {
  const stream = client.query(copyTo(`COPY (${query}) TO STDOUT (FORMAT binary)`, { highWaterMark: readAhead }));
  let rest: Buffer = Buffer.alloc(0);
  let begun = false;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    if (!begun && bytes.length < headerLength) {
      rest = bytes;
      continue;
    }
    const { rows, end } = wholeRows(bytes, begun ? 0 : headerLength);
    begun = true;
    rest = bytes.subarray(end);
    if (rows.length > 0) yield rows;
  }
}

/** The rows that are there with their last byte, and where the first other one begins. */
function wholeRows(bytes: Buffer, start: number): { rows: TextRow[]; end: number } {
  const rows: TextRow[] = [];
  for (let end = start; ;) {
    if (end + 2 > bytes.length) return { rows, end };
    const columns = bytes.readInt16BE(end);
    // The trailer.
    if (columns === -1) return { rows, end: bytes.length };
    let at = end + 2;
    const row = new Array<string | null>(columns);
    for (let column = 0; column < columns; column++) {
      if (at + 4 > bytes.length) return { rows, end };
      const length = bytes.readInt32BE(at);
      at += 4;
      if (length === -1) {
        row[column] = null;
        continue;
      }
      if (at + length > bytes.length) return { rows, end };
      row[column] = bytes.toString('utf8', at, at + length);
      at += length;
    }
    rows.push(row);
    end = at;
  }
}

/**
 * Writes rows by `COPY … FROM`, in one statement: all of them or none.
 *
 * @param columns SQL, in the order of the values.
 */
export async function copyIn(
  client: Client,
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
