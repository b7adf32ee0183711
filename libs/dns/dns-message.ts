import * as packet from 'dns-packet';

export interface MxRecord {
  readonly preference: number;
  /** Lower case, without the trailing dot; empty for the root (RFC 7505). */
  readonly exchange: string;
}

/** Stands at the top of a zone, and nowhere else (RFC 1035 section 3.3.13). */
export interface SoaRecord {
  /** Name of the primary server, lower case, without the trailing dot. */
  readonly primary: string;
  /** Seconds that a negative answer may be kept for, with the TTL as its bound (RFC 2308 section 4). */
  readonly minimum: number;
}

/** What came with an answer. */
export interface DnsEvidence {
  /**
   * Seconds that the answer may still be cached: of records, the least TTL of them and of the CNAMEs on the way; of a
   * negative answer, the lesser of TTL and MINIMUM of the SOA (RFC 2308 section 5). Absent where the answer has neither.
   */
  readonly ttl?: number;
  /** The AD bit: the resolver has validated the answer (RFC 4035 section 3.2.3). */
  readonly authenticated?: boolean;
  /** Extended DNS Errors (RFC 8914); absent when there are none. */
  readonly extendedErrors?: readonly ExtendedError[];
  /** Of a SERVFAIL: it is the DNSSEC validation that failed. */
  readonly bogus?: true;
}

export interface ExtendedError {
  /** INFO-CODE. */
  readonly code: number;
  readonly text: string;
}

/** What a resolver said to one question. */
export type DnsAnswer<Record> = (
  | /** RRs of the queried type at the end of the chain of CNAMEs; `aliases` are the names on the way. */
    { readonly kind: 'records'; readonly records: readonly Record[]; readonly aliases: readonly string[] }
    /** The name exists, without the queried type (RFC 2308 section 2.2). */
  | { readonly kind: 'nodata'; readonly aliases: readonly string[] }
  | { readonly kind: 'nxdomain'; readonly aliases: readonly string[] }
  | { readonly kind: 'servfail' }
  /** No answer that counts. */
  | { readonly kind: 'unreachable'; readonly reason: string }
) & { readonly evidence?: DnsEvidence };

export const unreachable = (reason: string) => ({ kind: 'unreachable', reason }) as const;

/** What a query can ask for, and how the data of an RR is read. TXT: a string with a character a byte. */
export const readers = {
  MX: ({ preference = 0, exchange }: packet.MxData): MxRecord => ({ preference, exchange: canonical(exchange) }),
  TXT: (data: packet.TxtData): string =>
    (Array.isArray(data) ? data : [data]).map((part) => Buffer.from(part).toString('latin1')).join(''),
  A: (data: string): string => data,
  AAAA: (data: string): string => data,
  CNAME: (data: string): string => canonical(data),
  SOA: ({ mname, minimum = 0 }: packet.SoaData): SoaRecord => ({ primary: canonical(mname), minimum }),
};
export type QueryType = keyof typeof readers;

/** CNAMEs followed in one answer; a longer chain is a loop. */
const chainLimit = 16;

/**
 * A query for one question, with ID 0 so that caches can share it (RFC 8484 section 4.1). The AD bit asks for the AD bit (RFC
 * 6840 section 5.7), EDNS for Extended DNS Errors (RFC 8914 section 3).
 *
 * @param name that `isQueryable`.
 * @param unchecked with the CD bit: the resolver is to answer what does not validate as well (RFC 4035 section 3.2.2).
 */
export function encodeQuery(name: string, type: QueryType, { unchecked = false } = {}): Buffer {
  const ofRoot = (unchecked ? uncheckedRootQueries : rootQueries)[type];
  const query = Buffer.allocUnsafe(ofRoot.length + name.length + 1);
  ofRoot.copy(query, 0, 0, headerLength);
  let at = headerLength;
  for (const label of name.split('.')) {
    query[at] = label.length;
    at += 1 + query.write(label, at + 1, 'latin1');
  }
  ofRoot.copy(query, at, headerLength);
  return query;
}

const edns: packet.OptAnswer = {
  ...{ type: 'OPT', name: '.', udpPayloadSize: 1_232, extendedRcode: 0, ednsVersion: 0, flags: 0 },
  ...{ flag_do: false, options: [] },
};
const extendedErrorOption = 15;

/** Octets of the header (RFC 1035 section 4.1.1); the name of the question comes next, of which the root is the last octet. */
const headerLength = 12;
/** Queries differ in their names alone, so the rest is encoded once. */
const encodedForRoot = (unchecked: boolean) => {
  const flags = packet.RECURSION_DESIRED | packet.AUTHENTIC_DATA | (unchecked ? packet.CHECKING_DISABLED : 0);
  const query = (type: QueryType) =>
    packet.encode({ type: 'query', id: 0, flags, questions: [{ type, name: '.' }], additionals: [edns] });
  const types = Object.keys(readers) as QueryType[];
  return Object.fromEntries(types.map((type) => [type, query(type)])) as Record<QueryType, Buffer>;
};
const rootQueries = encodedForRoot(false);
const uncheckedRootQueries = encodedForRoot(true);

/** Whether a name can be asked for, as a hostname or what SPF leads to: the encoder validates nothing, and would send another name instead. */
export const isQueryable = (name: string): boolean =>
  name.length <= 253 && /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/i.test(name);

/** Reads a reply; what is not a whole, matching one is `unreachable`. Never throws. */
export function decodeReply<Type extends QueryType>(
  bytes: Buffer,
  name: string,
  type: Type,
): DnsAnswer<ReturnType<(typeof readers)[Type]>> {
  try {
    return readReply(bytes, name, type);
  } catch (error) {
    return unreachable(`a message that cannot be read (${(error as Error).message})`);
  }
}

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

function readReply<Type extends QueryType>(bytes: Buffer, name: string, type: Type) {
  const reply = packet.decode(bytes);
  if (packet.decode.bytes !== bytes.length) return unreachable('octets after the end of the message');
  const [question] = reply.questions ?? [];
  // Both are there, and @types/dns-packet names neither: the rest of the four bits of the RCODE, and the opcode.
  const { rcode, opcode } = reply as unknown as { rcode: string; opcode: string };
  if (reply.type !== 'response' || reply.id !== 0 || opcode !== 'QUERY')
    return unreachable('not a reply to this query');
  if (
    reply.questions?.length !== 1 ||
    !question ||
    canonical(question.name) !== canonical(name) ||
    question.type !== type ||
    question.class !== 'IN'
  )
    return unreachable('a reply to another question');
  if (reply.flag_tc) return unreachable('a truncated message');
  const opt = reply.additionals?.find((rr) => rr.type === 'OPT');
  if (opt?.extendedRcode) return unreachable(`an extended RCODE (${opt.extendedRcode} << 4, ${rcode})`);
  const extendedErrors = opt ? extendedErrorsOf(opt) : [];
  const evidence: Writable<DnsEvidence> = { authenticated: reply.flag_ad === true };
  if (extendedErrors.length > 0) evidence.extendedErrors = extendedErrors;
  const saysNo = rcode !== 'NOERROR' || reply.answers?.length === 0;
  const own = extendedErrors.find(({ code }) => ownCodes.has(code) || (saysNo && staleCodes.has(code)));
  if (own) return { ...unreachable(`the extended error ${own.code}`), evidence } as const;
  if (rcode === 'SERVFAIL') {
    if (extendedErrors.some(({ code }) => bogusCodes.has(code))) evidence.bogus = true;
    return { kind: 'servfail', evidence } as const;
  }
  if (rcode !== 'NOERROR' && rcode !== 'NXDOMAIN') return unreachable(`RCODE ${rcode}`);
  // Name servers without an SOA, and nothing else: others are to be asked, and nobody has said no (RFC 2308 section 2.2).
  const isReferral = (reply.authorities ?? []).some((rr) => rr.type === 'NS');
  if (rcode === 'NOERROR' && saysNo && isReferral && !reply.authorities?.some((rr) => rr.type === 'SOA'))
    return { ...unreachable('a referral'), evidence } as const;
  if (type === 'MX' && bytes.includes('.')) escapeDots(bytes, reply.answers ?? []);

  const answers = (reply.answers ?? []).filter((rr) => 'class' in rr && rr.class === 'IN');
  const aliases: string[] = [];
  const ttls: number[] = [];
  let owner = canonical(name);
  // Who asks for the CNAME itself is not led along it.
  while (type !== 'CNAME') {
    const alias = answers.find((rr) => rr.type === 'CNAME' && canonical(rr.name) === owner);
    if (alias?.type !== 'CNAME') break;
    owner = canonical(alias.data);
    ttls.push(ttlOf(alias));
    aliases.push(owner);
    if (aliases.length > chainLimit) return unreachable('a loop of CNAMEs');
  }
  const read = readers[type] as (data: unknown) => ReturnType<(typeof readers)[Type]>;
  const found = answers.filter((rr) => rr.type === type && canonical(rr.name) === owner);
  const isPositive = rcode === 'NOERROR' && found.length > 0;
  for (const rr of isPositive ? found : []) ttls.push(ttlOf(rr as { ttl?: number }));
  const soa = isPositive ? undefined : reply.authorities?.find((rr) => rr.type === 'SOA');
  if (soa?.type === 'SOA') ttls.push(Math.min(ttlOf(soa), soa.data.minimum ?? 0));
  if (ttls.length > 0) evidence.ttl = Math.min(...ttls);
  if (rcode === 'NXDOMAIN') return { kind: 'nxdomain', aliases, evidence } as const;
  if (!isPositive) return { kind: 'nodata', aliases, evidence } as const;
  const records = found.map((rr) => read((rr as { data: unknown }).data));
  return { kind: 'records', records, aliases, evidence } as const;
}

const mxType = 15;
/** @types/dns-packet does not name it. */
const { name: names } = packet as unknown as {
  name: { decode: { (bytes: Buffer, offset: number, options: { mail: boolean }): string; bytes: number } };
};

/**
 * Escapes the dots inside of labels in the exchanges of a whole message (RFC 1035 section 5.1): `decode` joins labels with dots, so
 * that the one label `mail.sendmux` would look like the two of ours.
 */
function escapeDots(bytes: Buffer, answers: readonly packet.Answer[]): void {
  const nameAt = (offset: number): string => names.decode(bytes, offset, { mail: true });
  const behindName = (offset: number): number => (nameAt(offset), offset + names.decode.bytes);
  let offset = behindName(12) + 4;
  for (const rr of answers) {
    offset = behindName(offset);
    if (rr.type === 'MX' && bytes.readUInt16BE(offset) === mxType) rr.data.exchange = nameAt(offset + 12);
    offset += 10 + bytes.readUInt16BE(offset + 8);
  }
}

/** One with the highest bit set is zero (RFC 2181 section 8). */
const ttlOf = ({ ttl = 0 }: { readonly ttl?: number }): number => (ttl > 0x7fff_ffff ? 0 : ttl);

/** INFO-CODEs of an answer that is the resolver's own doing: forged, not ready, blocked, censored, filtered, prohibited (RFC 8914 section 4). */
const ownCodes = new Set([4, 14, 15, 16, 17, 18]);
/** INFO-CODEs of an answer that was kept beyond its time, because nobody gives a new one (RFC 8767). */
const staleCodes = new Set([3, 19]);

/** INFO-CODEs of a validation that failed: bogus, expired, not yet valid, no key, no signature (RFC 8914 section 4). */
const bogusCodes = new Set([6, 7, 8, 9, 10]);

const extendedErrorsOf = ({ options }: packet.OptAnswer): ExtendedError[] =>
  options.flatMap((option) => {
    const { code, data } = option as { code: number; data?: Buffer };
    return code === extendedErrorOption && data && data.length >= 2
      ? [{ code: data.readUInt16BE(0), text: data.toString('utf8', 2).replace(/\0+$/, '') }]
      : [];
  });

/** Names compare without case and without the root's dot (RFC 4343). */
const canonical = (name: string): string => (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase();
