import { functionsIn, longest, ofName, slownessOf, textOf } from '../../test/support/bounded-time';
import { decodeReply, encodeQuery, isQueryable, unreachable, type QueryType } from './dns-message';

const types = { CNAME: 5, MX: 15, TXT: 16, OPT: 41 };
const header = 12;
/** A name as long as names can be, of four labels. */
const name = ['a', 'b', 'c'].map((letter) => letter.repeat(63)).join('.') + `.${'d'.repeat(61)}`;
const labels = (text: string): Buffer =>
  Buffer.concat([
    ...text.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')])),
    Buffer.from([0]),
  ]);
const pointerTo = (offset: number): Buffer => Buffer.from([0xc0 | (offset >> 8), offset & 255]);
const uint16 = (...numbers: number[]): Buffer => Buffer.from(numbers.flatMap((each) => [each >> 8, each & 255]));

function rr(type: keyof typeof types, data: Buffer, owner = pointerTo(header)): Buffer {
  return Buffer.concat([owner, uint16(types[type], 1, 0, 0, data.length), data]);
}

/** A reply to the question for the type at the name, with answers and one additional RR. */
function reply(type: 'MX' | 'TXT', answers: readonly Buffer[], additional?: Buffer): Buffer {
  return Buffer.concat([
    uint16(0, 0x8180, 1, answers.length, 0, additional ? 1 : 0),
    labels(name),
    uint16(types[type], 1),
    ...answers,
    ...(additional ? [additional] : []),
  ]);
}
const room = longest - header - 255 - 4;
/** Makes as many parts as a message of a length has room for. */
const many = (length: number, octets: number, make: (i: number) => Buffer): Buffer[] =>
  Array.from({ length: Math.floor((length * room) / longest / octets) }, (_, i) => make(i));

/** Where the first RR has its data, behind the question, a pointer to its owner and ten octets. */
const firstData = header + 255 + 4 + 12;
const text = (length: number, part: Buffer): Buffer =>
  rr('TXT', Buffer.concat(many(length - 12, part.length, () => part)));

/** Replies that are made to be slow, by the length of all. */
const replies: Record<string, { readonly type: 'MX' | 'TXT'; readonly of: (length: number) => Buffer }> = {
  'a TXT of empty strings': { type: 'TXT', of: (length) => reply('TXT', [text(length, Buffer.from([0]))]) },
  'a TXT of short strings': { type: 'TXT', of: (length) => reply('TXT', [text(length, Buffer.from([1, 32]))]) },
  'a TXT of long strings': { type: 'TXT', of: (length) => reply('TXT', [text(length, Buffer.alloc(256, 255))]) },
  'many TXT': {
    type: 'TXT',
    of: (length) =>
      reply(
        'TXT',
        many(length, 15, (i) => rr('TXT', Buffer.from([2, i >> 8, i & 255]))),
      ),
  },
  'the same TXT again and again': {
    type: 'TXT',
    of: (length) =>
      reply(
        'TXT',
        many(length, 14, () => rr('TXT', Buffer.from([1, 32]))),
      ),
  },
  'many MX to one long host of octets that are escaped': {
    type: 'MX',
    of: (length) =>
      reply('MX', [
        rr('MX', Buffer.concat([uint16(0), labels(name.replace(/[a-d]/g, '\x00'))])),
        ...many(length - 300, 16, (i) => rr('MX', Buffer.concat([uint16(i), pointerTo(firstData + 2)]))),
      ]),
  },
  'many CNAMEs of a name that differs in its last octet, and then a loop': {
    type: 'MX',
    of: (length) => {
      // Its owner is the root, which takes an octet less than a pointer.
      const other = rr('MX', Buffer.concat([uint16(10), labels(`${name.slice(0, -1)}e`)]), Buffer.from([0]));
      const owner = pointerTo(firstData - 1 + 2);
      const decoys = many(length - 300, 14, () => rr('CNAME', owner, owner));
      return reply('MX', [other, ...decoys, rr('CNAME', pointerTo(header))]);
    },
  },
  'an option after the other': {
    type: 'MX',
    of: (length) => {
      const options = Buffer.concat(many(length, 6, () => uint16(15, 2, 22)));
      return reply('MX', [], rr('OPT', options, Buffer.from([0])));
    },
  },
  'an extended error of zeros': {
    type: 'MX',
    of: (length) => {
      const text = Buffer.alloc(Math.floor((length * (room - 40)) / longest));
      const error = Buffer.concat([uint16(15, text.length + 3, 22), text, Buffer.from('!')]);
      return reply('MX', [], rr('OPT', error, Buffer.from([0])));
    },
  },
};

describe('a message is read in time linear in its length', () => {
  it('by every function that there is', () =>
    expect(['decodeReply', 'encodeQuery', 'isQueryable', 'unreachable']).toEqual(
      functionsIn(__dirname, (file) => file === 'dns-message.ts'),
    ));

  it.each(Object.keys(replies))('N1: %s', async (what) => {
    const { type, of } = replies[what]!;
    const reading = (length: number) => {
      const bytes = of(length);
      return { octets: bytes.length, run: () => decodeReply(bytes, name, type satisfies QueryType) };
    };
    expect(reading(longest).octets).toBeGreaterThan(longest - 400);
    expect(JSON.stringify(reading(longest).run())).not.toMatch(/cannot be read|another question|octets after/);
    expect(await slownessOf(reading)).toBeUndefined();
  });

  it('N1: so is a name that is asked for', async () => {
    const asked = { before: '', repeated: 'a-.', behind: '!' };
    const ask = ofName((each) => (isQueryable(each) ? encodeQuery(each, 'TXT') : unreachable(each)));
    expect(await slownessOf((length) => ask(asked, length))).toBeUndefined();
    const whole = textOf(asked, longest);
    expect(await slownessOf(() => ({ octets: longest, run: () => isQueryable(whole) }))).toBeUndefined();
  });
});
