import { checkChain, eventHash, fromLine, LineRefused, microsecondsOf, noHash, type KeptEvent } from '@app/event-store';
import * as fc from 'fast-check';
import { toLine } from './cloud-event-line';

const kept = (data: string, more: Partial<KeptEvent> = {}): KeptEvent => {
  const event = {
    position: 7,
    stream: 'mdom_a',
    version: 1,
    type: 'DomainAdded',
    schemaVersion: 1,
    previous: noHash,
    data,
    time: '2026-11-01T10:00:00.084Z',
    metadata: '{"actor":"key_1","correlationId":"req_1"}',
    ...more,
  };
  return { ...event, hash: eventHash({ ...event, microseconds: microsecondsOf(event.time) }) };
};

it('is a CloudEvent in the JSON format, with all that its row has', () => {
  expect(JSON.parse(toLine(kept('{"name":"a.b"}'), 'rpl_1'))).toEqual({
    specversion: '1.0',
    id: 'mdom_a/1',
    source: '/sendmux-domains',
    type: 'com.sendmux.DomainAdded',
    dataschema: 'urn:sendmux:event:DomainAdded:1',
    datacontenttype: 'application/json',
    time: '2026-11-01T10:00:00.084Z',
    subject: 'mdom_a',
    partitionkey: 'mdom_a',
    sequence: '0000000000000007',
    streamversion: '1',
    actor: 'key_1',
    correlationid: 'req_1',
    replayid: 'rpl_1',
    metadata: '{"actor":"key_1","correlationId":"req_1"}',
    previoushash: '0'.repeat(64),
    hash: kept('{"name":"a.b"}').hash.toString('hex'),
    data: { name: 'a.b' },
  });
});

it('gives back every octet, however the JSON of the row is written', () => {
  const texts = [
    '{"a":1.0,"a":1e2, "b" : "\\u0041\\/"}',
    '{"x":",\\"data\\":","data":{"data":"}"}}',
    '{ "a": 12345678901234567890 }',
    '{\n  "a": "ä🙂\u2028"\r\n}',
  ];
  for (const data of texts) {
    const line = toLine(kept(data, { time: '2026-11-01T10:00:00.084001Z', metadata: '{"actor": "ä,\\"data\\":"}' }));
    expect(line).not.toMatch(/[\n\r]/);
    const read = fromLine(line);
    expect(read.data).toBe(data);
    expect(toLine(read)).toBe(line);
    checkChain()(read);
  }
  fc.assert(
    fc.property(fc.json(), fc.integer({ min: 1, max: 2 ** 31 - 1 }), (data, version) => {
      const event = kept(data, { version });
      expect(fromLine(toLine(event))).toEqual(event);
    }),
  );
});

it('names the epoch of a restored log, as on Kafka, and is the same event', () => {
  const epoch = { log: 'a1', number: 1_796_040_000, after: 2_047 };
  const event = kept('{"name":"a.b"}');
  const line = toLine({ ...event, epoch });
  expect(JSON.parse(line)).toMatchObject({
    id: 'mdom_a/1/1796040000',
    logid: 'a1',
    epoch: '1796040000',
    epochafter: '0000000000002047',
  });
  expect(fromLine(line)).toEqual(event);
  expect(() => fromLine(line.replace('mdom_a/1/1796040000', 'mdom_a/1'))).toThrow('its id is not mdom_a/1/1796040000');
});

it('is refused after any change', () => {
  const line = toLine(kept('{"name":"a.b","rate":1.0}'));
  const checked = (text: string) => () => checkChain()(fromLine(text));
  expect(checked(line)).not.toThrow();
  // Another program may read the line and write it again.
  expect(checked(JSON.stringify(JSON.parse(line)))).toThrow('mdom_a/1 is not what its hash says');
  const { data, ...rest } = JSON.parse(line) as Record<string, unknown>;
  expect(checked(JSON.stringify({ data, ...rest }))).toThrow(LineRefused);
  expect(checked(line.replace(/}$/, ',"data":{}}'))).toThrow('is not what its hash says');
  for (const [from, to] of [
    ['000000007', '000000008'],
    ['DomainAdded', 'DomainGone'],
    ['.084Z', '.085Z'],
    ['a.b', 'a.c'],
    ['\\"key_1', '\\"key_2'],
    ['"streamversion":"1"', '"streamversion":"2"'],
    ['"hash":"', '"hash":"0'],
    ['"previoushash":"0', '"previoushash":"1'],
    ['"specversion":"1.0"', '"specversion":"2.0"'],
    ['{', '['],
  ] as const)
    if (line.includes(from)) expect(checked(line.replace(from, to))).toThrow();
});
