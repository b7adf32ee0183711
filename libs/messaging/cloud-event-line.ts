import type { Epoch, EventMetadata, KeptEvent } from '@app/event-store';
import { attributesOf } from './cloud-event';

/**
 * Writes an event as a line of text: CloudEvents 1.0, JSON event format. Beside the attributes that it has on Kafka the
 * line has the other columns of its row: `metadata`, `previoushash` and `hash`. `data` comes last and is the text of
 * the row, octet by octet, since the hash is over that text. Data with line breaks are written as `data_base64`.
 */
export function toLine(event: KeptEvent & { readonly epoch?: Epoch }, replayId?: string): string {
  const attributes = JSON.stringify({
    ...attributesOf(event, JSON.parse(event.metadata) as EventMetadata, replayId),
    datacontenttype: 'application/json',
    metadata: event.metadata,
    previoushash: event.previous.toString('hex'),
    hash: event.hash.toString('hex'),
  });
  const data = /[\n\r]/.test(event.data)
    ? `"data_base64":"${Buffer.from(event.data).toString('base64')}"`
    : `"data":${event.data}`;
  return `${attributes.slice(0, -1)},${data}}`;
}
