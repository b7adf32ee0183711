import type { RecordedEvent } from '@app/event-store';
import * as fc from 'fast-check';
import { asPublishedBy, eventTypeOf, fromCloudEvent, toCloudEvent } from './cloud-event';
import { CannotBeHandled } from './ordered-dispatch';

const event: RecordedEvent = {
  position: 42,
  stream: 'mdom_cl0',
  version: 3,
  type: 'DomainAdded',
  schemaVersion: 1,
  data: { name: 'mail.acme.com', team: 'team_1', deadline: '2026-11-01T00:00:30.000Z' },
  time: '2026-11-01T00:00:00.000Z',
  metadata: { actor: 'key_1', correlationId: 'req_1', causationId: 'mdom_cl0/2', requestId: 'req_1' },
};

/** Makes a message as a consumer of the topic receives it. */
const received = ({ headers, value }: ReturnType<typeof toCloudEvent>) => ({ headers, value: Buffer.from(value) });

it('is the message that docs/subscribe.md describes', () => {
  expect(toCloudEvent(event)).toEqual({
    key: 'mdom_cl0',
    value: '{"name":"mail.acme.com","team":"team_1","deadline":"2026-11-01T00:00:30.000Z"}',
    timestamp: Date.UTC(2026, 10, 1),
    headers: {
      'content-type': 'application/json',
      ce_specversion: '1.0',
      ce_id: 'mdom_cl0/3',
      ce_source: '/sendmux-domains',
      ce_type: 'com.sendmux.DomainAdded',
      ce_dataschema: 'urn:sendmux:event:DomainAdded:1',
      ce_time: '2026-11-01T00:00:00.000Z',
      ce_subject: 'mdom_cl0',
      ce_partitionkey: 'mdom_cl0',
      ce_sequence: '0000000000000042',
      ce_streamversion: '3',
      ce_actor: 'key_1',
      ce_correlationid: 'req_1',
      ce_causationid: 'mdom_cl0/2',
      ce_requestid: 'req_1',
    },
  });
});

const appendedBy = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const publishedBy = '00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01';

describe('the trace of an event', () => {
  const traced = { ...event, metadata: { ...event.metadata, traceparent: appendedBy } };

  it('is an attribute, and the span that publishes it is a header of the message alone', () => {
    const message = asPublishedBy(toCloudEvent(traced), publishedBy);
    expect(message.headers).toEqual({
      ...toCloudEvent(event).headers,
      ce_traceparent: appendedBy,
      traceparent: publishedBy,
    });
    expect(fromCloudEvent(received(message))).toEqual({ ...traced, publishedBy });
  });

  it.each(['', 'none', `${appendedBy} `, 'ä'.repeat(40), 'x'.repeat(10_000)])(
    'is left out where it is %j, and the event is read',
    (text) => {
      const { headers, value } = received(toCloudEvent(event));
      const message = { headers: { ...headers, ce_traceparent: text, traceparent: text }, value };
      expect(fromCloudEvent(message)).toEqual(event);
    },
  );
});

it('is read as it was recorded, whatever it contains', () => {
  const word = fc.stringMatching(/^[\w.:-]{1,40}$/);
  const recorded = fc
    .record({
      position: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      stream: word,
      version: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      type: fc.stringMatching(/^[A-Z]\w{0,30}$/),
      schemaVersion: fc.integer({ min: 1, max: 99 }),
      data: fc.dictionary(fc.string(), fc.jsonValue()),
      time: fc
        .date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true })
        .map((at) => at.toISOString()),
      metadata: fc.record(
        { actor: word, correlationId: word, causationId: word, requestId: word, traceparent: fc.constant(appendedBy) },
        { requiredKeys: ['actor', 'correlationId'] },
      ),
    })
    // The store returns an event after a round trip through JSON.
    .map((each) => JSON.parse(JSON.stringify(each)) as RecordedEvent);
  fc.assert(
    fc.property(recorded, (given) => {
      const message = received(toCloudEvent(given));
      expect(fromCloudEvent(message)).toEqual(given);
      expect(eventTypeOf(message)).toBe(given.type);
    }),
  );
});

const good = received(toCloudEvent(event));
const withHeader = (name: string, value: string) => ({ ...good, headers: { ...good.headers, [name]: value } });

it.each([
  ['no headers', { ...good, headers: {} }, 'no header ce_specversion'],
  ['another version of CloudEvents', withHeader('ce_specversion', '0.3'), 'ce_specversion is 0.3'],
  ['an event of somebody else', withHeader('ce_type', 'com.example.Thing'), 'does not begin with com.sendmux.'],
  ['an id that is not its own', withHeader('ce_id', 'mdom_cl0/4'), 'ce_id is not mdom_cl0/3'],
  ['a schema of another event', withHeader('ce_dataschema', 'urn:sendmux:event:DomainDeleted:1'), 'names no schema of'],
  [
    'a schema version that is none',
    withHeader('ce_dataschema', 'urn:sendmux:event:DomainAdded:x'),
    'names no schema of',
  ],
  ['a sequence that is no number', withHeader('ce_sequence', '-1'), 'ce_sequence is no number'],
  ['a time that is none', withHeader('ce_time', 'yesterday'), 'ce_time is no time'],
  ['no value', { ...good, value: null }, 'has no value'],
  ['bad JSON', { ...good, value: Buffer.from('{"name":') }, 'is not JSON'],
  ['JSON that is no object', { ...good, value: Buffer.from('[1]') }, 'is no JSON object'],
])('refuses %s, and says why', (_, message, why) => {
  expect(() => fromCloudEvent(message)).toThrow(CannotBeHandled);
  expect(() => fromCloudEvent(message)).toThrow(why);
});
