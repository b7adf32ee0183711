import type { Client } from 'pg';
import { to as copyTo } from 'pg-copy-streams';

/** Bytes that come from the server at once, and not many chunks wait: memory stays flat, whatever the table. */
const readAhead = 256 * 1_024;
/** Of the binary format: signature, flags, and the length of an extension that there never was. */
const headerLength = 19;

/** Some rows as `COPY … (FORMAT binary)` gives them. */
export interface CopiedRows {
  readonly bytes: Buffer;
  /**
   * Where each row begins in `bytes`: with its first field. A field is its length in octets as a 32-bit big-endian number (-1: NULL)
   * and then its value.
   */
  readonly starts: readonly number[];
}

/**
 * The rows of a query, some at a time, as fast as the server gives them, and as the bytes that it sends: nothing is unescaped or
 * parsed that nobody looks at.
 *
 * When it is left before its end, the connection is of no use any more: end it.
 *
 * @param client a connection for this alone, until the last row.
 */
export async function* copyRows(client: Client, query: string): AsyncGenerator<CopiedRows, void> {
  const stream = client.query(copyTo(`COPY (${query}) TO STDOUT (FORMAT binary)`, { highWaterMark: readAhead }));
  let rest: Buffer = Buffer.alloc(0);
  let begun = false;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    if (!begun && bytes.length < headerLength) {
      rest = bytes;
      continue;
    }
    const { starts, end } = wholeRows(bytes, begun ? 0 : headerLength);
    begun = true;
    rest = bytes.subarray(end);
    if (starts.length > 0) yield { bytes, starts };
  }
}

/** The rows that are there with their last byte, and where the first other one begins. */
function wholeRows(bytes: Buffer, begin: number): { starts: number[]; end: number } {
  const starts: number[] = [];
  for (let end = begin; ;) {
    if (end + 2 > bytes.length) return { starts, end };
    const columns = bytes.readInt16BE(end);
    // The trailer.
    if (columns === -1) return { starts, end: bytes.length };
    let at = end + 2;
    for (let column = 0; column < columns; column++) {
      if (at + 4 > bytes.length) return { starts, end };
      at += 4 + Math.max(0, bytes.readInt32BE(at));
    }
    if (at > bytes.length) return { starts, end };
    starts.push(end + 2);
    end = at;
  }
}
