import fc from 'fast-check';
import { decodeReply, encodeQuery, isQueryable, type DnsAnswer, type QueryType } from '../../libs/dns/dns-message';
import { ask, casesOf, describeJudged, expectOnlyMeant } from '../support/judges';

interface Reply {
  readonly name: readonly string[];
  readonly type: QueryType;
  readonly rcode: 'NOERROR' | 'NXDOMAIN' | 'SERVFAIL' | 'REFUSED';
  readonly authenticated: boolean;
  readonly answer: readonly Rrset[];
  readonly authority: readonly Rrset[];
  /** The Extended DNS Errors (RFC 8914); null for a message without EDNS. */
  readonly errors: readonly { code: number; text: string }[] | null;
}
interface Rrset {
  readonly name: readonly string[];
  readonly type: string;
  readonly ttl: number;
  readonly values: readonly unknown[];
}
type Read =
  | { readonly error: string }
  | {
      readonly error: undefined;
      readonly rcode: string;
      readonly records: readonly unknown[];
      readonly aliases: readonly string[];
      readonly ttl: number;
      readonly authenticated: boolean;
      readonly errors: readonly { code: number; text: string }[];
    };
const read = (messages: readonly Buffer[]) =>
  ask<Read>(
    'dns.py',
    messages.map((bytes) => ({ message: bytes.toString('base64') })),
  );
const written = (replies: readonly Reply[]) =>
  ask<string>(
    'dns.py',
    replies.map((reply) => ({ reply })),
  ).map((text) => Buffer.from(text, 'base64'));

describeJudged('DNS messages, judged by dnspython', () => {
  it('ask for what we mean', () => {
    const queries = casesOf(fc.tuple(queryName, queryType, fc.boolean()), 2_000);
    const said = ask<object>(
      'dns.py',
      queries.map(([name, type, unchecked]) => ({
        query: Buffer.from(encodeQuery(name, type, { unchecked }), 'base64url').toString('base64'),
      })),
    );
    const judged = queries.map(([name, type, unchecked], i) => ({
      ours: {
        id: 0,
        flags: unchecked ? 'RD AD CD' : 'RD AD',
        name: name.toLowerCase(),
        type,
        edns: [0, 1_232, 0, 0],
        rrs: 0,
      },
      theirs: said[i],
    }));
    expectOnlyMeant('DNS queries, dnspython', judged.length, judged.filter(differ));
  });

  it('are read as they were written, whatever octets a name or a text has', () => {
    const replies = casesOf(reply, 3_000);
    const messages = written(replies);
    const said = read(messages);
    const judged = replies.map((asked, i) => ({
      asked,
      ours: comparable(decodeReply(messages[i]!, asked.name.join('.'), asked.type), asked),
      theirs: theirsOf(said[i]!, asked),
    }));
    expectOnlyMeant('DNS replies, dnspython', judged.length, judged.filter(differ));
  });

  it('say nothing to us, when octets are damaged, that they do not say to others', () => {
    const replies = casesOf(fc.tuple(reply, damage), 3_000);
    const messages = written(replies.map(([asked]) => asked)).map((bytes, i) => replies[i]![1](bytes));
    const said = read(messages);
    const judged = replies.flatMap(([asked], i) => {
      const answer = decodeReply(messages[i]!, asked.name.join('.'), asked.type);
      // To refuse what others can still read is safe: another resolver is asked.
      if (answer.kind === 'unreachable' || answer.kind === 'servfail') return [];
      return {
        message: messages[i]!.toString('hex'),
        asked,
        ours: comparable(answer, asked),
        theirs: theirsOf(said[i]!, asked),
      };
    });
    expectOnlyMeant('DNS replies with damage, dnspython', replies.length, judged.filter(differ), [
      {
        reason:
          'The text of an extended error that is no UTF-8 is read as far as it can be: it explains, and decides nothing.',
        is: ({ theirs }) => 'error' in theirs && /codec can't decode byte/.test(theirs.error),
      },
    ]);
  });
});

const differ = ({ ours, theirs }: { ours: unknown; theirs: unknown }): boolean =>
  JSON.stringify(ours) !== JSON.stringify(theirs);

const sorted = (values: readonly unknown[]): unknown[] => values.map((value) => JSON.stringify(value)).sort();

/** Without an SOA, dnspython has a TTL of its own; the order of records says nothing. */
function comparable(answer: DnsAnswer<unknown>, { authority }: Reply) {
  const { evidence } = answer;
  const isNegative = answer.kind === 'nodata' || answer.kind === 'nxdomain';
  return {
    kind: answer.kind,
    records: answer.kind === 'records' ? sorted(answer.records) : [],
    aliases: 'aliases' in answer ? answer.aliases : [],
    ttl: 'aliases' in answer && !(isNegative && authority.length === 0) ? evidence?.ttl : undefined,
    authenticated: answer.kind === 'unreachable' ? undefined : evidence?.authenticated,
    errors: answer.kind === 'unreachable' ? [] : (evidence?.extendedErrors ?? []),
  };
}

function theirsOf(said: Read, asked: Reply): ReturnType<typeof comparable> | { error: string } {
  if (said.error !== undefined) return { error: said.error };
  const { rcode, records, aliases, ttl, authenticated, errors } = said;
  const evidence = { ttl, authenticated, ...(errors.length > 0 && { extendedErrors: errors }) };
  if (rcode === 'SERVFAIL') return comparable({ kind: 'servfail', evidence }, asked);
  if (rcode === 'NXDOMAIN') return comparable({ kind: 'nxdomain', aliases, evidence }, asked);
  if (rcode !== 'NOERROR') return comparable({ kind: 'unreachable', reason: rcode }, asked);
  return comparable(
    records.length > 0 ? { kind: 'records', records, aliases, evidence } : { kind: 'nodata', aliases, evidence },
    asked,
  );
}

const queryType = fc.constantFrom<QueryType>('A', 'AAAA', 'CNAME', 'MX', 'NS', 'SOA', 'TXT');
const plainLabel = fc.stringMatching(/^[A-Za-z0-9_-]{1,12}$/);
const queryName = fc
  .array(fc.stringMatching(/^[A-Za-z0-9_-]{1,63}$/), { minLength: 1, maxLength: 12 })
  .map((labels) => labels.join('.'))
  .filter(isQueryable);
const octets = (maxLength: number, minLength = 0) =>
  fc.uint8Array({ minLength, maxLength }).map((bytes) => Buffer.from(bytes).toString('latin1'));
const anyLabel = fc.oneof({ weight: 3, arbitrary: plainLabel }, { weight: 1, arbitrary: octets(20, 1) });
const anyName = fc.oneof(
  { weight: 6, arbitrary: fc.array(anyLabel, { maxLength: 5 }) },
  // Compressed in many ways, and the same but for case.
  { weight: 4, arbitrary: fc.constantFrom(['mail', 'acme', 'com'], ['Mail', 'ACME', 'com'], ['acme', 'com'], []) },
);
const ttl = fc.oneof(fc.constantFrom(0, 1, 300, 0x7fff_ffff), fc.nat(0x7fff_ffff));
const values: Record<QueryType, fc.Arbitrary<unknown>> = {
  A: fc.ipV4(),
  AAAA: fc.ipV6(),
  CNAME: anyName,
  MX: fc.record({ preference: fc.oneof(fc.constant(10), fc.nat(65_535)), exchange: anyName }),
  NS: anyName,
  SOA: fc.record({ primary: fc.array(plainLabel, { minLength: 1, maxLength: 3 }), minimum: fc.nat(0x7fff_ffff) }),
  TXT: fc.array(octets(255), { minLength: 1, maxLength: 4 }),
};
const single: readonly QueryType[] = ['CNAME', 'SOA'];
/** INFO-CODEs that are not a resolver's own doing, and are no failed validation. */
const errors = fc.option(
  fc.array(fc.record({ code: fc.constantFrom(0, 1, 2, 5, 11, 12, 13, 20, 21, 22, 23, 24), text: fc.string() }), {
    maxLength: 2,
  }),
);

const reply: fc.Arbitrary<Reply> = queryType.chain((type) =>
  fc
    .record({
      name: fc.array(plainLabel, { minLength: 1, maxLength: 4 }),
      chain: fc.uniqueArray(fc.array(plainLabel, { minLength: 1, maxLength: 3 }), { maxLength: 4, selector: String }),
      values: fc.array(values[type], { maxLength: single.includes(type) ? 1 : 5 }),
      others: fc.array(fc.record({ name: fc.array(anyLabel, { minLength: 5, maxLength: 6 }), value: values.TXT }), {
        maxLength: 2,
      }),
      ttls: fc.array(ttl, { minLength: 7, maxLength: 7 }),
      rcode: fc.constantFrom<Reply['rcode']>('NOERROR', 'NOERROR', 'NOERROR', 'NXDOMAIN', 'SERVFAIL', 'REFUSED'),
      soa: fc.option(values.SOA),
      authenticated: fc.boolean(),
      errors,
    })
    .map(({ name, chain, values, others, ttls, rcode, soa, authenticated, errors }) => {
      const hops =
        type === 'CNAME'
          ? [name]
          : [name, ...chain.filter((each) => String(each).toLowerCase() !== String(name).toLowerCase())];
      const aliases = hops.slice(1).map((to, i) => ({ name: hops[i]!, type: 'CNAME', ttl: ttls[i]!, values: [to] }));
      const found =
        rcode === 'NOERROR' && values.length > 0 ? [{ name: hops.at(-1)!, type, ttl: ttls[5]!, values }] : [];
      const unasked = others.map(({ name, value }) => ({ name, type: 'TXT', ttl: ttls[6]!, values: [value] }));
      const answer = rcode === 'NOERROR' || rcode === 'NXDOMAIN' ? [...aliases, ...unasked, ...found] : [];
      const authority = soa === null ? [] : [{ name: [], type: 'SOA', ttl: ttls[6]!, values: [soa] }];
      return { name, type, rcode, authenticated, answer, authority, errors };
    }),
);

type Damage = (bytes: Buffer) => Buffer;
const damage: fc.Arbitrary<Damage> = fc
  .array(
    fc.oneof(
      fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(255)).map(([at, octet]): Damage => (bytes) => {
        const changed = Buffer.from(bytes);
        changed[Math.floor(at * (bytes.length - 1))] = octet;
        return changed;
      }),
      fc.double({ min: 0, max: 1, noNaN: true }).map(
        (part): Damage =>
          (bytes) =>
            bytes.subarray(0, Math.ceil(part * bytes.length)),
      ),
      fc.uint8Array({ maxLength: 3 }).map(
        (more): Damage =>
          (bytes) =>
            Buffer.concat([bytes, more]),
      ),
    ),
    { minLength: 1, maxLength: 3 },
  )
  .map((steps) => (bytes) => steps.reduce((changed, step) => step(changed), bytes));
