import type { CloudEvent } from './cloud-event';

/** The largest batch of one send. A broker takes about a megabyte for one partition at once. */
const largest = { events: 500, bytes: 400_000 };

/** Counts the items, from the first on, that one send should carry; at least one. */
export function batchLength<Item>(items: Iterable<Item>, eventOf: (item: Item) => CloudEvent): number {
  let bytes = 0;
  let length = 0;
  for (const item of items) {
    bytes += sizeOf(eventOf(item));
    if (length === largest.events || (length > 0 && bytes > largest.bytes)) break;
    length++;
  }
  return length;
}

/** Estimates the size of a message in bytes, headers included. */
function sizeOf({ key, value, headers }: CloudEvent): number {
  let bytes = key.length + Buffer.byteLength(value);
  for (const name in headers) bytes += name.length + Buffer.byteLength(headers[name]!);
  return bytes;
}
