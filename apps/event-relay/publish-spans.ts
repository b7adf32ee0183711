import { asPublishedBy, type CloudEvent } from '@app/messaging';
import { isTracing, openTrace, originOf, type Span } from '@app/tracing';

/** Flags of a `traceparent` whose trace is recorded (W3C Trace Context, section 3.2.2.5.1). */
const recorded = /[13579bdf]$/;

/**
 * Sends events, each of a recorded trace within a span of its own, from the send to its acknowledgement; the consumers
 * go on from that span.
 *
 * @throws whatever `send` throws.
 */
export async function sendTraced(
  events: readonly CloudEvent[],
  topic: string,
  send: (events: readonly CloudEvent[]) => Promise<void>,
): Promise<void> {
  if (!isTracing()) return send(events);
  const spans: Span[] = [];
  const traced = events.map((event) => {
    const span = openPublish(event, topic);
    if (!span?.isSampled) return event;
    spans.push(span);
    return asPublishedBy(event, span.traceparent);
  });
  try {
    await send(traced);
  } catch (error) {
    for (const span of spans) span.fail(error);
    throw error;
  } finally {
    for (const span of spans) span.end();
  }
}

function openPublish({ headers, timestamp }: CloudEvent, topic: string): Span | undefined {
  const appendedBy = headers.ce_traceparent;
  if (!appendedBy || !recorded.test(appendedBy)) return undefined;
  return openTrace('publish', {
    kind: 'producer',
    attributes: {
      'messaging.system': 'kafka',
      'messaging.operation.type': 'send',
      'messaging.destination.name': topic,
      'messaging.message.id': headers.ce_id,
    },
    ...originOf(appendedBy, new Date(timestamp)),
  });
}
