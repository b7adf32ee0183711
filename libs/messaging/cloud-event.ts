import {
  dataSchema,
  eventId,
  eventSource,
  sequenceOf,
  type Epoch,
  type EventMetadata,
  type RecordedEvent,
} from '@app/event-store';
import { knownTraceparent } from '@app/tracing';
import { CannotBeHandled } from './ordered-dispatch';

const typePrefix = 'com.sendmux.';
/** The longest accepted header, in characters. */
const longest = 500;

export interface CloudEvent {
  /** The domain's id, so that all events of a domain share a partition and keep their order. */
  readonly key: string;
  /** The event's data as JSON. */
  readonly value: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The event's own time, in milliseconds since the Unix epoch. */
  readonly timestamp: number;
}

/** A message from a topic. Its content is not trusted, since other programs may write to the topic. */
export interface ReceivedMessage {
  readonly partition: number;
  readonly offset: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** Header values by name; of a repeated name, the last value. */
  readonly headers: Readonly<Record<string, string>>;
}

/** An event as a transport delivers it. */
export interface DeliveredEvent extends RecordedEvent {
  /**
   * `rpl_…`: the id of the replay that published the event again; absent when the event is delivered for the first
   * time.
   */
  readonly replayId?: string;
  /**
   * The span that has published the event, as W3C `traceparent`; absent on the log, and where that was not traced. The
   * span that has appended it is in the metadata.
   */
  readonly publishedBy?: string;
}

/** The header of a record with the span that has published it, which clients of Kafka that trace read and write. */
const publishedByHeader = 'traceparent';

/**
 * Gives the context attributes of an event: CloudEvents 1.0, with the extensions sequence, partitioning and distributed
 * tracing.
 */
export function attributesOf(
  event: Omit<RecordedEvent, 'data' | 'metadata'>,
  metadata: EventMetadata,
  replayId?: string,
): Record<string, string> {
  const { stream, version, type, schemaVersion, time, position, epoch } = event;
  return {
    specversion: '1.0',
    id: eventId(event),
    source: eventSource,
    type: typePrefix + type,
    dataschema: dataSchema(type, schemaVersion),
    time,
    subject: stream,
    partitionkey: stream,
    sequence: sequenceOf(position),
    streamversion: String(version),
    ...(epoch && { logid: epoch.log, epoch: String(epoch.number), epochafter: sequenceOf(epoch.after) }),
    actor: metadata.actor,
    correlationid: metadata.correlationId,
    ...(metadata.causationId && { causationid: metadata.causationId }),
    ...(metadata.requestId && { requestid: metadata.requestId }),
    ...(metadata.traceparent && { traceparent: metadata.traceparent }),
    ...(replayId && { replayid: replayId }),
  };
}

/** Writes an event as a Kafka message: CloudEvents 1.0, Kafka protocol binding, binary content mode. */
export function toCloudEvent({ replayId, ...event }: DeliveredEvent): CloudEvent {
  const attributes = Object.entries(attributesOf(event, event.metadata, replayId));
  return {
    key: event.stream,
    value: JSON.stringify(event.data),
    timestamp: Date.parse(event.time),
    headers: {
      'content-type': 'application/json',
      ...Object.fromEntries(attributes.map(([name, value]) => [`ce_${name}`, value])),
    },
  };
}

/** Gives the message with the span that publishes it, which is that of one hop and no attribute of the event. */
export const asPublishedBy = (message: CloudEvent, traceparent: string): CloudEvent => ({
  ...message,
  headers: { ...message.headers, [publishedByHeader]: traceparent },
});

/** Reads only the event type of a message; undefined when it is not one of our events. */
export function eventTypeOf({ headers }: Pick<ReceivedMessage, 'headers'>): string | undefined {
  const type = headers.ce_type;
  return type?.startsWith(typePrefix) ? type.slice(typePrefix.length) : undefined;
}

/**
 * Reads an event from a message that `toCloudEvent` has written.
 *
 * @throws {CannotBeHandled} naming what is wrong with the message.
 */
export function fromCloudEvent(message: Pick<ReceivedMessage, 'headers' | 'value'>): DeliveredEvent {
  const { headers, value } = message;
  const header = (name: string): string => {
    const text = headers[name];
    // Other programs may write to the topic, so text that we would not have written must not become an id or a type
    // here.
    if (text && (text.length > longest || !/^[\x20-\x7e]*$/.test(text)))
      throw new CannotBeHandled(`The header ${name} is longer than ${longest} characters, or not plain ASCII.`);
    if (!text) throw new CannotBeHandled(`The message has no header ${name}: it is no event of this product.`);
    return text;
  };
  const count = (name: string): number => {
    const text = header(name);
    if (!/^\d{1,16}$/.test(text)) throw new CannotBeHandled(`The header ${name} is no number: ${text}`);
    return Number(text);
  };
  if (header('ce_specversion') !== '1.0')
    throw new CannotBeHandled(`The header ce_specversion is ${headers.ce_specversion}, not 1.0.`);
  const type = eventTypeOf(message);
  if (!type) throw new CannotBeHandled(`The header ce_type does not begin with ${typePrefix}: ${header('ce_type')}`);
  const [stream, version] = [header('ce_subject'), count('ce_streamversion')];
  const epoch: Epoch | undefined =
    headers.ce_epoch === undefined
      ? undefined
      : { log: header('ce_logid'), number: count('ce_epoch'), after: count('ce_epochafter') };
  const id = eventId({ stream, version, ...(epoch && { epoch }) });
  if (header('ce_id') !== id) throw new CannotBeHandled(`The header ce_id is not ${id}: ${headers.ce_id}`);
  const schemaVersion = Number(header('ce_dataschema').slice(dataSchema(type, 0).length - 1));
  if (headers.ce_dataschema !== dataSchema(type, schemaVersion) || !(schemaVersion >= 1))
    throw new CannotBeHandled(`The header ce_dataschema names no schema of ${type}: ${headers.ce_dataschema}`);
  const time = header('ce_time');
  // What is no traceparent is left out: an event is handled, whatever is wrong with its trace.
  const traceparent = knownTraceparent(headers.ce_traceparent);
  const publishedBy = knownTraceparent(headers[publishedByHeader]);
  if (Number.isNaN(Date.parse(time))) throw new CannotBeHandled(`The header ce_time is no time: ${time}`);
  return {
    stream,
    version,
    type,
    schemaVersion,
    time,
    position: count('ce_sequence'),
    ...(epoch && { epoch }),
    data: json(value),
    metadata: {
      actor: header('ce_actor'),
      correlationId: header('ce_correlationid'),
      ...(headers.ce_causationid && { causationId: header('ce_causationid') }),
      ...(headers.ce_requestid && { requestId: header('ce_requestid') }),
      ...(traceparent && { traceparent }),
    },
    ...(publishedBy && { publishedBy }),
    ...(headers.ce_replayid && { replayId: header('ce_replayid') }),
  };
}

function json(value: Buffer | null): unknown {
  if (value === null) throw new CannotBeHandled('The message has no value.');
  let data: unknown;
  try {
    data = JSON.parse(value.toString('utf8'));
  } catch (error) {
    throw new CannotBeHandled('The value is not JSON.', { cause: error });
  }
  if (typeof data !== 'object' || data === null || Array.isArray(data))
    throw new CannotBeHandled('The value is no JSON object.');
  return data;
}
