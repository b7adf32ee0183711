import { to as copyTo } from 'pg-copy-streams';
import type { Connection } from './connections';

/** Bytes that are read ahead from the server. The bound keeps memory flat, whatever the size of the table. */
const readAhead = 256 * 1_024;
/** The length of the header of COPY's binary format, in octets: signature, flags, and an empty extension. */
const headerLength = 19;

/** Some rows in the format that `COPY … (FORMAT binary)` gives. */
export interface CopiedRows {
  readonly bytes: Buffer;
  /**
   * The offset of the first field of each row in `bytes`. A field is its length in octets as a 32-bit big-endian number
   * (-1: NULL), followed by its value.
   */
  readonly starts: readonly number[];
}

/**
 * Yields the rows of a query in groups, as fast as the server sends them and as the bytes that it sends. Nothing is
 * unescaped or parsed unless the caller does it.
 *
 * A caller that stops before the end must end the connection, which cannot be used any more.
 *
 * @param client a connection that nothing else uses until the last row.
 */
export async function* copyRows(client: Connection, query: string): AsyncGenerator<CopiedRows, void> {
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

/**
 * Gives the offsets of the rows that are complete in `bytes`, and the offset at which the first incomplete row begins.
 */
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
