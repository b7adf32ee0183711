import * as packet from 'dns-packet';
import fc from 'fast-check';
import { decodeReply, encodeQuery, isQueryable } from './dns-message';

const reply = (changes: Partial<packet.Packet>, rcode = 0): Buffer =>
  packet.encode({
    type: 'response',
    id: 0,
    flags: rcode,
    questions: [{ type: 'MX', name: 'mail.acme.com' }],
    ...changes,
  });
const mx = (name: string, exchange: string, preference = 10): packet.Answer => ({
  type: 'MX',
  name,
  data: { preference, exchange },
});
const read = (bytes: Buffer) => decodeReply(bytes, 'mail.acme.com', 'MX');
const soa = (ttl: number, minimum: number): packet.Answer => ({
  type: 'SOA',
  name: 'acme.com',
  ttl,
  data: { mname: 'ns.acme.com', rname: 'hostmaster.acme.com', serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
});

describe('what comes with a reply', () => {
  const opt = (changes: Partial<packet.OptAnswer>): packet.Answer => ({
    type: 'OPT',
    name: '.',
    udpPayloadSize: 1_232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
    ...changes,
  });
  // The types of @types/dns-packet lack option 15.
  const option = (data: Buffer) => ({ code: 15, data }) as unknown as packet.PacketOpt;
  const extendedError = (code: number, text = '') =>
    opt({ options: [option(Buffer.from([code >> 8, code & 255, ...Buffer.from(text)]))] });
  const evidence = (bytes: Buffer) => read(bytes).evidence;

  it('B2 the least of TTL and MINIMUM of the SOA says how long a negative answer is kept', () => {
    expect(evidence(reply({ authorities: [soa(300, 60)] }, 3))).toEqual({ authenticated: false, ttl: 60 });
    expect(evidence(reply({ authorities: [soa(30, 60)] }))).toEqual({ authenticated: false, ttl: 30 });
    expect(evidence(reply({}, 3))).toEqual({ authenticated: false });
  });
  it('H25 the least TTL on the way says how long records are kept', () => {
    const alias: packet.Answer = { type: 'CNAME', name: 'mail.acme.com', ttl: 40, data: 'a.net' };
    const answers = [alias, { ...mx('a.net', 'b.net'), ttl: 86_400 } as packet.Answer];
    expect(evidence(reply({ answers }))).toMatchObject({ ttl: 40 });
    expect(evidence(reply({ answers: answers.slice(0, 1), authorities: [soa(20, 20)] }))).toMatchObject({ ttl: 20 });
    const huge = { ...mx('mail.acme.com', 'b.net'), ttl: 0x8000_0001 } as packet.Answer;
    expect(evidence(reply({ answers: [huge] }))).toMatchObject({ ttl: 0 });
  });
  it('G3 G5 the AD bit says whether the resolver has validated it', () => {
    expect(evidence(reply({ flags: packet.AUTHENTIC_DATA }))).toMatchObject({ authenticated: true });
    expect(evidence(reply({}))).toMatchObject({ authenticated: false });
  });
  it.each([6, 7, 8, 9, 10])('G4 the extended error %i of a SERVFAIL is a validation that failed', (code) =>
    expect(read(reply({ additionals: [extendedError(code, 'no good')] }, 2))).toEqual({
      kind: 'servfail',
      evidence: { authenticated: false, bogus: true, extendedErrors: [{ code, text: 'no good' }] },
    }),
  );
  it('another extended error is given with the answer, and is no fault', () => {
    expect(evidence(reply({ additionals: [extendedError(22)] }, 2))).toEqual({
      authenticated: false,
      extendedErrors: [{ code: 22, text: '' }],
    });
    expect(evidence(reply({ additionals: [opt({ options: [option(Buffer.from([1]))] })] }))).toEqual({
      authenticated: false,
    });
  });
  it.each([4, 14, 15, 16, 17, 18])('what the extended error %i marks is no answer of the DNS', (code) => {
    for (const rcode of [0, 2, 3])
      expect(read(reply({ additionals: [extendedError(code)] }, rcode))).toEqual({
        kind: 'unreachable',
        reason: `the extended error ${code}`,
        evidence: { authenticated: false, extendedErrors: [{ code, text: '' }] },
      });
    const answers = [mx('mail.acme.com', 'walled.garden.net')];
    expect(read(reply({ answers, additionals: [extendedError(code)] })).kind).toBe('unreachable');
  });
  it.each([3, 19])(
    'the extended error %i marks what was once so: that a record is missing now, it does not say',
    (code) => {
      const additionals = [extendedError(code)];
      for (const rcode of [0, 3]) expect(read(reply({ additionals }, rcode)).kind).toBe('unreachable');
      expect(read(reply({ answers: [mx('mail.acme.com', 'mail.sendmux.ai')], additionals })).kind).toBe('records');
    },
  );
  it('an extended RCODE is no answer', () =>
    expect(read(reply({ additionals: [opt({ extendedRcode: 1 })] }))).toMatchObject({ kind: 'unreachable' }));
});

describe('a reply', () => {
  it('C1 C2 gives exchanges in lower case, without the trailing dot', () => {
    expect(read(reply({ answers: [mx('MAIL.acme.com', 'MAIL.Sendmux.AI')] }))).toMatchObject({
      kind: 'records',
      records: [{ preference: 10, exchange: 'mail.sendmux.ai' }],
      aliases: [],
    });
  });
  it('takes no record twice that differs in the case of a name or in its compression', () => {
    const twice = [mx('mail.acme.com', 'MX.acme.com'), mx('mail.acme.com', 'mx.acme.com')];
    expect(read(reply({ answers: twice }))).toMatchObject({ records: [{ preference: 10, exchange: 'mx.acme.com' }] });
    const compressed = Buffer.from([0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, 7, 0, 10, 2, 0x6d, 0x78, 0xc0, 12 + 5]);
    const bytes = Buffer.concat([reply({ answers: [mx('mail.acme.com', 'mx.acme.com')] }), compressed]);
    bytes.writeUInt16BE(2, 6);
    expect(read(bytes)).toMatchObject({ records: [{ preference: 10, exchange: 'mx.acme.com' }] });
  });
  it('C1 tells a dot inside a label from one between two', () => {
    const bytes = reply({ answers: [mx('mail.acme.com', 'a.net', 20), mx('mail.acme.com', 'mail.sendmux.ai')] });
    bytes[bytes.indexOf('\x04mail\x07sendmux')] = 'mail.sendmux'.length;
    bytes[bytes.indexOf('\x07sendmux')] = '.'.charCodeAt(0);
    expect(read(bytes)).toMatchObject({
      records: [{ exchange: 'a.net' }, { preference: 10, exchange: 'mail\\.sendmux.ai' }],
    });
  });
  it('C13 gives the root as an empty name', () =>
    expect(read(reply({ answers: [mx('mail.acme.com', '.', 0)] }))).toMatchObject({
      records: [{ preference: 0, exchange: '' }],
    }));
  it('B11 D25 E27 joins the strings of a TXT record with nothing between, and keeps records apart', () => {
    const questions: packet.Question[] = [{ type: 'TXT', name: 'x.acme.com' }];
    const answers: packet.Answer[] = [
      { type: 'TXT', name: 'x.acme.com', data: ['sendmux-verify=', 'team_abc123'] },
      { type: 'TXT', name: 'x.acme.com', data: [Buffer.from([0xc2, 0xa0])] },
    ];
    expect(decodeReply(reply({ questions, answers }), 'x.acme.com', 'TXT')).toMatchObject({
      records: ['sendmux-verify=team_abc123', '\u00c2\u00a0'],
    });
  });
  it('D9 keeps records apart that have the same text in other strings, and takes none of the same octets twice', () => {
    const txt = (...strings: string[]) => ({ type: 'TXT' as const, name: 'mail.acme.com', data: strings });
    const answers = [txt('v=spf1 -all'), txt('v=spf1', ' -all'), txt('v=spf1 -all')];
    expect(
      decodeReply(reply({ questions: [{ type: 'TXT', name: 'mail.acme.com' }], answers }), 'mail.acme.com', 'TXT'),
    ).toMatchObject({
      records: ['v=spf1 -all', 'v=spf1 -all'],
    });
  });

  it('reads thousands of records in milliseconds', () => {
    const answers = Array.from({ length: 4_000 }, (_, i) => ({
      type: 'A' as const,
      name: 'mail.acme.com',
      data: `10.0.${i >> 8}.${i & 255}`,
    }));
    const bytes = reply({ questions: [{ type: 'A', name: 'mail.acme.com' }], answers });
    const before = process.cpuUsage();
    expect(decodeReply(bytes, 'mail.acme.com', 'A')).toMatchObject({ kind: 'records' });
    // Measures CPU time, which other processes do not lengthen.
    expect(process.cpuUsage(before).user).toBeLessThan(2_000_000);
  });

  it('follows CNAMEs, and takes only what stands at their end', () => {
    const answers: packet.Answer[] = [
      { type: 'CNAME', name: 'mail.acme.com', data: 'a.net' },
      { type: 'CNAME', name: 'a.net', data: 'b.net' },
      mx('b.net', 'mail.sendmux.ai'),
      mx('other.net', 'evil.net'),
    ];
    expect(read(reply({ answers }))).toMatchObject({
      aliases: ['a.net', 'b.net'],
      records: [{ exchange: 'mail.sendmux.ai' }],
    });
  });
  it('gives the CNAME itself when it is asked for, wherever it leads', () => {
    const questions: packet.Question[] = [{ type: 'CNAME', name: 'mail.acme.com' }];
    const answers: packet.Answer[] = [
      { type: 'CNAME', name: 'mail.acme.com', data: 'A.net' },
      { type: 'CNAME', name: 'a.net', data: 'mail.acme.com' },
    ];
    expect(decodeReply(reply({ questions, answers }), 'mail.acme.com', 'CNAME')).toMatchObject({
      kind: 'records',
      records: ['a.net'],
      aliases: [],
    });
  });
  it('takes the SOA of a zone, and not that of the zone above', () => {
    const soa = { mname: 'NS.acme.com', rname: 'x.acme.com', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 60 };
    const read = (owner: string) => {
      const questions: packet.Question[] = [{ type: 'SOA', name: 'mail.acme.com' }];
      const record: packet.Answer = { type: 'SOA', name: owner, data: soa };
      const section = owner === 'mail.acme.com' ? { answers: [record] } : { authorities: [record] };
      return decodeReply(reply({ questions, ...section }), 'mail.acme.com', 'SOA');
    };
    expect(read('mail.acme.com')).toMatchObject({ records: [{ primary: 'ns.acme.com', minimum: 60 }] });
    expect(read('acme.com')).toMatchObject({ kind: 'nodata', aliases: [] });
  });
  it('takes no record of another class', () => {
    const chaos = { type: 'TXT', name: 'mail.acme.com', class: 'CH', data: 'here' } as const;
    const bytes = reply({ questions: [{ type: 'TXT', name: 'mail.acme.com' }], answers: [chaos] });
    expect(decodeReply(bytes, 'mail.acme.com', 'TXT')).toMatchObject({ kind: 'nodata', aliases: [] });
  });
  it('S2: names the DNAME that the queried name stands below, and no other', () => {
    const alias = (name: string, data: string) => ({ type: 'CNAME', name, data }) as const;
    const above = (name: string, data: string) => ({ type: 'DNAME', name, data }) as const;
    const synthesized = [above('ACME.com', 'acme.net'), alias('mail.acme.com', 'mail.acme.net')];
    const dname = { owner: 'acme.com', target: 'acme.net' };
    expect(read(reply({ answers: synthesized }))).toMatchObject({ kind: 'nodata', aliases: ['mail.acme.net'], dname });
    expect(read(reply({ answers: synthesized }, 3))).toMatchObject({ kind: 'nxdomain', dname });
    const further = [alias('mail.acme.com', 'a.b.net'), above('b.net', 'c.net'), alias('a.b.net', 'a.c.net')];
    expect(read(reply({ answers: further }))).not.toHaveProperty('dname');
    const asked: Partial<packet.Packet> = {
      questions: [{ type: 'CNAME', name: 'mail.acme.com' }],
      answers: synthesized,
    };
    expect(decodeReply(reply(asked), 'mail.acme.com', 'CNAME')).toMatchObject({ records: ['mail.acme.net'], dname });
  });
  it('shows records that a server gives beside a CNAME at the same name', () => {
    const answers: packet.Answer[] = [
      { type: 'CNAME', name: 'mail.acme.com', data: 'a.net' },
      { type: 'MX', name: 'mail.acme.com', data: { preference: 10, exchange: 'mail.sendmux.ai' } },
    ];
    const beside = [{ preference: 10, exchange: 'mail.sendmux.ai' }];
    expect(read(reply({ answers }))).toMatchObject({ kind: 'nodata', aliases: ['a.net'], beside });
  });
  it('takes a loop of CNAMEs for a failure, whatever the RCODE, and says which names form it', () => {
    const cname = (name: string, data: string, ttl: number): packet.Answer => ({ type: 'CNAME', name, data, ttl });
    const whole = [cname('Mail.acme.com', 'a.net', 60), cname('a.net', 'MAIL.acme.com', 40)];
    const behind = [cname('mail.acme.com', 'a.net', 60), cname('a.net', 'b.net', 50), cname('b.net', 'A.net', 40)];
    for (const rcode of [0, 2]) {
      const at = (answers: packet.Answer[]) => read(reply({ answers }, rcode));
      expect(at(whole)).toMatchObject({ kind: 'servfail', loop: ['mail.acme.com', 'a.net'], evidence: { ttl: 40 } });
      expect(at(behind)).toMatchObject({ kind: 'servfail', loop: ['a.net', 'b.net'] });
    }
    expect(read(reply({ answers: behind.slice(0, 2) }, 2))).not.toHaveProperty('loop');
  });
  it('does not follow more than sixteen CNAMEs', () => {
    const answers = Array.from({ length: 17 }, (_, i): packet.Answer => {
      const name = i === 0 ? 'mail.acme.com' : `a${i}.net`;
      return { type: 'CNAME', name, data: `a${i + 1}.net` };
    });
    expect(read(reply({ answers: answers.slice(1) }))).toMatchObject({ kind: 'nodata' });
    expect(read(reply({ answers }))).toEqual({ kind: 'unreachable', reason: 'more than 16 CNAMEs' });
  });
  it('a referral says nothing about the name', () => {
    const ns: packet.Answer = { type: 'NS', name: 'acme.com', ttl: 60, data: 'ns.acme.com' };
    expect(read(reply({ authorities: [ns] }))).toMatchObject({ kind: 'unreachable' });
    expect(read(reply({ authorities: [ns, soa(60, 60)] }))).toMatchObject({ kind: 'nodata' });
    const alias: packet.Answer = { type: 'CNAME', name: 'mail.acme.com', ttl: 40, data: 'a.net' };
    expect(read(reply({ answers: [alias], authorities: [ns] }))).toMatchObject({ kind: 'nodata', aliases: ['a.net'] });
  });
  it.each([
    [0, 'nodata'],
    [1, 'unreachable'],
    [2, 'servfail'],
    [3, 'nxdomain'],
    [4, 'unreachable'],
    [5, 'unreachable'],
    [9, 'unreachable'],
  ])('RCODE %d is %s', (rcode, kind) => expect(read(reply({}, rcode)).kind).toBe(kind));
  it.each<[string, Buffer]>([
    ['a query', packet.encode({ type: 'query', id: 0, questions: [{ type: 'MX', name: 'mail.acme.com' }] })],
    ['another id', reply({ id: 7 })],
    ['another name', reply({ questions: [{ type: 'MX', name: 'evil.com' }] })],
    ['another type', reply({ questions: [{ type: 'TXT', name: 'mail.acme.com' }] })],
    ['no question', reply({ questions: [] })],
    ['a truncated one', reply({ flags: packet.TRUNCATED_RESPONSE })],
    ['nothing', Buffer.alloc(0)],
    ['one with octets after its end', Buffer.concat([reply({}), Buffer.alloc(1)])],
    ['another class', reply({ questions: [{ type: 'MX', name: 'mail.acme.com', class: 'CH' }] })],
    ['another opcode', reply({ flags: 4 << 11 })],
  ])('%s does not count', (_what, bytes) => expect(read(bytes)).toMatchObject({ kind: 'unreachable' }));

  it('that is cut off anywhere never counts, and one that is changed never throws', () => {
    const whole = reply({ answers: [mx('mail.acme.com', 'mail.sendmux.ai')] });
    for (let length = 0; length < whole.length; length++)
      expect(read(whole.subarray(0, length)).kind).toBe('unreachable');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        (changes) => {
          const bytes = Buffer.from(whole);
          for (const [place, byte] of changes) bytes[place] = byte;
          return typeof read(bytes).kind === 'string';
        },
      ),
      { numRuns: 5_000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => read(Buffer.from(bytes)).kind !== 'records'));
  });

  /**
   * Generates a valid header with our own question, followed by arbitrary octets such as names that point at
   * themselves.
   */
  const hostile = fc
    .tuple(
      fc.tuple(fc.nat(0xffff), fc.nat(0xffff), fc.nat(0xffff)),
      fc.array(
        fc.oneof(
          // A pointer (RFC 1035 section 4.1.4) into the message, often at itself or in a ring.
          fc.nat(120).map((to) => [0xc0, to]),
          fc.constantFrom([0, 16, 0, 1], [0, 15, 0, 1], [0, 5, 0, 1], [0, 41, 4, 208]),
          fc.array(fc.nat(255), { minLength: 1, maxLength: 12 }),
        ),
        { maxLength: 30 },
      ),
    )
    .map(([counts, parts]) => {
      const head = reply({});
      counts.forEach((count, i) => head.writeUInt16BE(count, 6 + 2 * i));
      return Buffer.concat([head, Buffer.from(parts.flat())]);
    });
  it('a hostile message neither throws nor hangs', () => {
    fc.assert(
      fc.property(hostile, (bytes) => {
        const before = process.cpuUsage();
        const { kind } = read(bytes);
        return typeof kind === 'string' && process.cpuUsage(before).user < 5_000_000;
      }),
      { numRuns: 5_000 },
    );
    const loop = Buffer.concat([reply({}), Buffer.from([0xc0, 31, 0, 15, 0, 1, 0, 0, 0, 0, 0, 4, 0, 10, 0xc0, 31])]);
    loop.writeUInt16BE(65_535, 6);
    expect(read(loop).kind).toBe('unreachable');
  });
  it('no change of a few octets makes another record the expected one', () => {
    const questions: packet.Question[] = [{ type: 'TXT', name: 'mail.acme.com' }];
    const whole = reply({
      questions,
      answers: [{ type: 'TXT', name: 'mail.acme.com', data: 'of another, and of no use' }],
    });
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), (changes) => {
        const bytes = Buffer.from(whole);
        for (const [place, octet] of changes) bytes[place] = octet;
        const answer = decodeReply(bytes, 'mail.acme.com', 'TXT');
        return answer.kind !== 'records' || !answer.records.includes('sendmux-verify=team_abc123');
      }),
      { numRuns: 5_000 },
    );
  });
});

describe('names in a message', () => {
  /** Builds an answer with the given owner and data by hand, since dns-packet encodes no pointers. */
  const answered = (owner: number[], data: number[], type = 15): Buffer => {
    const head = reply({});
    head.writeUInt16BE(1, 6);
    return Buffer.concat([
      head,
      Buffer.from([...owner, 0, type, 0, 1, 0, 0, 0, 60, data.length >> 8, data.length & 255, ...data]),
    ]);
  };
  const question = [0xc0, 12];
  const label = (text: string) => [Buffer.byteLength(text), ...Buffer.from(text)];

  it('are followed through pointers, in whatever case', () => {
    const acme = [0xc0, 12 + 5];
    expect(read(answered([...label('MAIL'), ...acme], [0, 10, ...label('MX'), ...acme]))).toMatchObject({
      records: [{ preference: 10, exchange: 'mx.acme.com' }],
    });
    expect(read(answered(acme, [0, 10, ...label('mx'), ...acme]))).toMatchObject({ kind: 'nodata' });
  });
  it('differ where only their labels do', () => {
    const one = answered([...label('mail.acme'), 0xc0, 12 + 10], [0, 10, ...question]);
    expect(read(one)).toMatchObject({ kind: 'nodata' });
    const header = [0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    const asked = Buffer.from([...header, ...label('mail.acme'), ...label('com'), 0, 0, 15, 0, 1]);
    expect(read(asked)).toEqual({ kind: 'unreachable', reason: 'a reply to another question' });
  });
  it.each<[string, number[]]>([
    ['at itself', [0xc0, 31]],
    ['forward', [0xc0, 40]],
    ['at its own label, for ever', [...label('a'), 0xc0, 31]],
    ['out of the message', [0xff, 0xff]],
    ['of an unknown kind', [0x80, 12]],
  ])('that point %s are refused', (_where, owner) =>
    expect(read(answered(owner, [0, 10, ...question])).kind).not.toBe('records'),
  );
  it('without end are refused in the data too', () =>
    // The data begins at octet 43, the name in it at 45.
    expect(read(answered(question, [0, 10, ...label('a'), 0xc0, 45]))).toEqual({
      kind: 'unreachable',
      reason: 'a message that cannot be read (a name of more than 255 octets)',
    }));
  it('have at most 255 octets, lengths and root included', () => {
    const long = (last: number) => [63, 63, 63, last].flatMap((length) => label('a'.repeat(length)));
    expect(read(answered(question, [0, 10, ...long(61), 0])).kind).toBe('records');
    expect(read(answered(question, [0, 10, ...long(62), 0])).kind).toBe('unreachable');
  });
  it('are shown as a master file has them', () =>
    expect(read(answered(question, [0, 10, ...label('a b.\\Ü'), 0]))).toMatchObject({
      records: [{ exchange: 'a\\032b\\.\\\\\\195\\156' }],
    }));
  it.each<[string, number, number[]]>([
    ['MX', 15, [0, 10, ...question, 0]],
    ['MX', 15, [0]],
    ['TXT', 16, [5, 65]],
    ['A', 1, [127, 0, 0]],
    ['AAAA', 28, [0, 0, 0, 1]],
    ['CNAME', 5, [...question, 0]],
    ['SOA', 6, [0, 0, 1, 2, 3, 4]],
  ])('%s data of another length is not read', (type, number, data) => {
    const bytes = answered(question, data, number);
    bytes[12 + 15 + 1] = number;
    expect(decodeReply(bytes, 'mail.acme.com', type as 'MX')).toMatchObject({ kind: 'unreachable' });
  });
});

/** Compares with another decoder, for messages that need no escapes. */
it('reads the records that dns-packet has written', () => {
  const name = fc
    .array(fc.stringMatching(/^[a-z0-9_-]{1,12}$/), { minLength: 1, maxLength: 5 })
    .map((labels) => labels.join('.'));
  const data = {
    A: fc.ipV4(),
    CNAME: name,
    MX: fc.record({ preference: fc.nat(65_535), exchange: name }),
    TXT: fc.array(fc.string({ minLength: 1, maxLength: 255, unit: 'grapheme-ascii' }), { minLength: 1, maxLength: 4 }),
  };
  const message = fc.constantFrom('A' as const, 'CNAME' as const, 'MX' as const, 'TXT' as const).chain((type) =>
    fc.record({
      type: fc.constant(type),
      records: fc.array(data[type] as fc.Arbitrary<unknown>, { minLength: 1, maxLength: 5 }),
    }),
  );
  fc.assert(
    fc.property(message, name, fc.nat(0x7fff_ffff), ({ type, records }, owner, ttl) => {
      const answers = records.map((data) => ({ type, name: owner, ttl, data }) as packet.Answer);
      const bytes = reply({ questions: [{ type, name: owner }], answers });
      const expected = records.map((data) => (Array.isArray(data) ? data.join('') : data));
      expect(decodeReply(bytes, owner, type)).toEqual({
        kind: 'records',
        records: expected,
        aliases: [],
        evidence: { authenticated: false, ttl },
      });
    }),
  );
});

describe('a query', () => {
  it('has the id 0 and asks for recursion', () =>
    expect(packet.decode(Buffer.from(encodeQuery('mail.acme.com', 'TXT'), 'base64url'))).toMatchObject({
      id: 0,
      flag_rd: true,
    }));
  it('a query reads as what is asked, whatever the name', () => {
    const label = fc.stringMatching(/^[A-Za-z0-9_-]{1,63}$/);
    const name = fc.array(label, { minLength: 1, maxLength: 20 }).map((labels) => labels.join('.'));
    const type = fc.constantFrom('MX', 'TXT', 'A', 'AAAA', 'CNAME', 'SOA');
    fc.assert(
      fc.property(name.filter(isQueryable), type, fc.boolean(), (name, type, unchecked) => {
        const bytes = Buffer.from(encodeQuery(name, type, { unchecked }), 'base64url');
        const query = packet.decode(bytes);
        expect(packet.decode.bytes).toBe(bytes.length);
        expect(query).toMatchObject({
          type: 'query',
          id: 0,
          flag_rd: true,
          flag_ad: true,
          flag_cd: unchecked,
          questions: [{ name, type, class: 'IN' }],
          answers: [],
          authorities: [],
          additionals: [{ type: 'OPT', udpPayloadSize: 1_232, flag_do: false, options: [] }],
        });
      }),
    );
  });
  it.each(['a..b', `${'a'.repeat(64)}.com`, '', 'a b.com', `${'abcdefghi.'.repeat(26)}com`, 'ä.de'])(
    'is not made for %p',
    (name) => expect(isQueryable(name)).toBe(false),
  );
  it('B22 is made for the names that we ask for, in any case', () => {
    for (const name of [
      'mail.acme.com',
      '-a.acme.com',
      '_sendmux.Mail.Acme.Com',
      '_dmarc.xn--mnchen-3ya.de',
      '_p.*.acme.com',
    ])
      expect(isQueryable(name)).toBe(true);
  });
});
