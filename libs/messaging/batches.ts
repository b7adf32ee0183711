import type { CloudEvent } from './cloud-event';

/** Of one send. A broker takes about a megabyte of a partition at once. */
const largest = { events: 500, bytes: 400_000 };

/** How many of these, from the first on, one send should carry; at least one. */
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

/** In bytes, about: a header has its name and its text. */
function sizeOf({ key, value, headers }: CloudEvent): number {
  let bytes = key.length + Buffer.byteLength(value);
  for (const name in headers) bytes += name.length + Buffer.byteLength(headers[name]!);
  return bytes;
}
