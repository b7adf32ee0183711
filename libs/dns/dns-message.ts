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

/** What a query can ask for: the numbers of the types (RFC 1035 section 3.2.2, RFC 3596). */
const types = { A: 1, CNAME: 5, SOA: 6, MX: 15, TXT: 16, AAAA: 28 };
export type QueryType = keyof typeof types;
const ns = 2;
const opt = 41;
const internet = 1;

/** CNAMEs followed in one answer; a longer chain is a loop. */
const chainLimit = 16;
/** Octets of the header (RFC 1035 section 4.1.1), which the question comes after. */
const headerLength = 12;
/** The highest bit of a label's length, and the next: a pointer to where the name goes on (RFC 1035 section 4.1.4). */
const pointer = 0xc0;
/** Pointers followed to one label. */
const pointerLimit = 16;

/** Bits of the octets 2 and 3 of the header (RFC 1035 section 4.1.1, RFC 4035 section 3). */
const response = 0x80;
const opcodeMask = 0x78;
const truncated = 0x02;
const recursionDesired = 0x01;
const authenticData = 0x20;
const checkingDisabled = 0x10;
const rcodeMask = 0x0f;
const rcodes = { noError: 0, servfail: 2, nxdomain: 3 };

/** OPT, for the root, with 1,232 octets, version 0, without flags and options (RFC 6891 section 6.1.2). */
const edns = Buffer.from([0, 0, opt, 1_232 >> 8, 1_232 & 255, 0, 0, 0, 0, 0, 0]);

/** The longest query: a name of 255 octets on the wire. */
const query = Buffer.alloc(headerLength + 255 + 4 + edns.length);
query[2] = recursionDesired;
query[5] = 1;
query[11] = 1;

/**
 * A query for one question, as the variable `dns` of a GET has it (RFC 8484 section 6), with ID 0 so that caches can share it
 * (section 4.1). The AD bit asks for the AD bit (RFC 6840 section 5.7), EDNS for Extended DNS Errors (RFC 8914 section 3).
 *
 * @param name that `isQueryable`.
 * @param unchecked with the CD bit: the resolver is to answer what does not validate as well (RFC 4035 section 3.2.2).
 */
export function encodeQuery(name: string, type: QueryType, { unchecked = false } = {}): string {
  query[3] = authenticData | (unchecked ? checkingDisabled : 0);
  // Into one buffer, and octet by octet: to ask is a great part of what a cycle costs.
  let length = headerLength;
  let at = headerLength + 1;
  for (let i = 0; i < name.length; i++, at++) {
    const octet = name.charCodeAt(i);
    if (octet === dot) {
      query[length] = at - length - 1;
      length = at;
    } else query[at] = octet;
  }
  query[length] = at - length - 1;
  query[at] = 0;
  query[at + 1] = 0;
  query[at + 2] = types[type];
  query[at + 3] = 0;
  query[at + 4] = internet;
  query.set(edns, at + 5);
  return query.toString('base64url', 0, at + 5 + edns.length);
}
const dot = 0x2e;

/** Whether a name can be asked for, as a hostname or what SPF leads to: the encoder validates nothing, and would send another name instead. */
export const isQueryable = (name: string): boolean =>
  name.length <= 253 && /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/i.test(name);

/** Where the data of an RR stands in a message. */
interface Rr {
  /** Offset of the owner's name. */
  readonly owner: number;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  /** Offsets of the first octet of the data, and of the one after the last. */
  readonly data: number;
  readonly end: number;
}

/** How the data of an RR is read. TXT: a string with a character a byte. Each throws when it is not all there, or too much. */
const readers = {
  A: (bytes: Buffer, { data, end }: Rr): string => [...bytes.subarray(data, exactly(end, data + 4))].join('.'),
  /** Eight groups, none left out. */
  AAAA: (bytes: Buffer, { data, end }: Rr): string =>
    bytes
      .subarray(data, exactly(end, data + 16))
      .toString('hex')
      .match(/.{4}/g)!
      .join(':'),
  CNAME: (bytes: Buffer, { data, end }: Rr): string => (exactly(end, afterName(bytes, data)), nameAt(bytes, data)),
  MX: (bytes: Buffer, { data, end }: Rr): MxRecord => {
    exactly(end, afterName(bytes, data + 2));
    return { preference: bytes.readUInt16BE(data), exchange: nameAt(bytes, data + 2) };
  },
  SOA: (bytes: Buffer, { data, end }: Rr): SoaRecord => {
    const numbers = afterName(bytes, afterName(bytes, data));
    exactly(end, numbers + 20);
    return { primary: nameAt(bytes, data), minimum: bytes.readUInt32BE(numbers + 16) };
  },
  TXT: (bytes: Buffer, { data, end }: Rr): string => {
    let text = '';
    let at = data;
    while (at < end) {
      const next = at + 1 + bytes[at]!;
      if (next > end) throw new Error('a character-string that is cut off');
      text += bytes.toString('latin1', at + 1, next);
      at = next;
    }
    return text;
  },
};
export type RecordOf<Type extends QueryType> = ReturnType<(typeof readers)[Type]>;

function exactly(end: number, expected: number): number {
  if (end !== expected) throw new Error('data of another length');
  return end;
}

/** Reads a reply; what is not a whole, matching one is `unreachable`. Never throws. */
export function decodeReply<Type extends QueryType>(
  bytes: Buffer,
  name: string,
  type: Type,
): DnsAnswer<RecordOf<Type>> {
  try {
    return readReply(bytes, name, type);
  } catch (error) {
    return unreachable(`a message that cannot be read (${(error as Error).message})`);
  }
}

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

function readReply<Type extends QueryType>(bytes: Buffer, name: string, type: Type): DnsAnswer<RecordOf<Type>> {
  const flags = bytes.readUInt16BE(2);
  const [high, low] = [flags >> 8, flags & 255];
  const questions = bytes.readUInt16BE(4);
  if (!(high & response) || bytes.readUInt16BE(0) !== 0 || high & opcodeMask)
    return unreachable('not a reply to this query');
  if (questions !== 1) return unreachable('a reply to another question');
  const question = afterName(bytes, headerLength);
  const isOurs = bytes.readUInt16BE(question) === types[type] && bytes.readUInt16BE(question + 2) === internet;
  if (!isOurs || !isNamed(bytes, headerLength, name)) return unreachable('a reply to another question');
  if (high & truncated) return unreachable('a truncated message');
  let at = question + 4;
  const section = (count: number): Rr[] => {
    const rrs: Rr[] = [];
    while (rrs.length < count) {
      const rr = rrAt(bytes, at);
      rrs.push(rr);
      at = rr.end;
    }
    return rrs;
  };
  const all = section(bytes.readUInt16BE(6));
  const authorities = section(bytes.readUInt16BE(8));
  const additionals = section(bytes.readUInt16BE(10));
  if (at !== bytes.length) return unreachable('octets after the end of the message');

  const rcode = low & rcodeMask;
  const options = additionals.find((rr) => rr.type === opt);
  // The highest octet of what is the TTL of other RRs (RFC 6891 section 6.1.3).
  const extendedRcode = options ? options.ttl >>> 24 : 0;
  if (extendedRcode) return unreachable(`an extended RCODE (${extendedRcode * 16 + rcode})`);
  const extendedErrors = options ? extendedErrorsOf(bytes, options) : [];
  const evidence: Writable<DnsEvidence> = { authenticated: (low & authenticData) !== 0 };
  if (extendedErrors.length > 0) evidence.extendedErrors = extendedErrors;
  const saysNo = rcode !== rcodes.noError || all.length === 0;
  const own = extendedErrors.find(({ code }) => ownCodes.has(code) || (saysNo && staleCodes.has(code)));
  if (own) return { ...unreachable(`the extended error ${own.code}`), evidence };
  if (rcode === rcodes.servfail) {
    if (extendedErrors.some(({ code }) => bogusCodes.has(code))) evidence.bogus = true;
    return { kind: 'servfail', evidence };
  }
  if (rcode !== rcodes.noError && rcode !== rcodes.nxdomain) return unreachable(`RCODE ${rcodeName(rcode)}`);
  const soa = authorities.find((rr) => rr.type === types.SOA);
  // Name servers without an SOA, and nothing else: others are to be asked, and nobody has said no (RFC 2308 section 2.2).
  if (rcode === rcodes.noError && saysNo && !soa && authorities.some((rr) => rr.type === ns))
    return { ...unreachable('a referral'), evidence };

  const answers = all.filter((rr) => rr.class === internet);
  const aliases: string[] = [];
  let ttl = Infinity;
  let owner = headerLength;
  // Who asks for the CNAME itself is not led along it.
  while (type !== 'CNAME') {
    const alias = answers.find((rr) => rr.type === types.CNAME && isSameName(bytes, rr.owner, owner));
    if (!alias) break;
    owner = alias.data;
    ttl = Math.min(ttl, alias.ttl);
    aliases.push(readers.CNAME(bytes, alias));
    if (aliases.length > chainLimit) return unreachable('a loop of CNAMEs');
  }
  const found = distinct(
    bytes,
    answers.filter((rr) => rr.type === types[type] && isSameName(bytes, rr.owner, owner)),
  );
  const isPositive = rcode === rcodes.noError && found.length > 0;
  if (isPositive) for (const rr of found) ttl = Math.min(ttl, rr.ttl);
  else if (soa) ttl = Math.min(ttl, soa.ttl, readers.SOA(bytes, soa).minimum);
  if (ttl < Infinity) evidence.ttl = ttl;
  if (rcode === rcodes.nxdomain) return { kind: 'nxdomain', aliases, evidence };
  if (!isPositive) return { kind: 'nodata', aliases, evidence };
  const read = readers[type] as (bytes: Buffer, rr: Rr) => RecordOf<Type>;
  return { kind: 'records', records: found.map((rr) => read(bytes, rr)), aliases, evidence };
}

const rcodeNames = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];
const rcodeName = (rcode: number): string => rcodeNames[rcode] ?? String(rcode);

/** RRs with the same data are one (RFC 2181 section 5). Two with the same text in other character-strings are two. */
function distinct(bytes: Buffer, rrs: readonly Rr[]): readonly Rr[] {
  if (rrs.length < 2) return rrs;
  const seen = new Map<string, Rr>();
  for (const rr of rrs) {
    const data = bytes.toString('latin1', rr.data, rr.end);
    if (!seen.has(data)) seen.set(data, rr);
  }
  return [...seen.values()];
}

/** @throws {Error} when it is not all there. */
function rrAt(bytes: Buffer, owner: number): Rr {
  const at = afterName(bytes, owner);
  const type = bytes.readUInt16BE(at);
  const ttl = bytes.readUInt32BE(at + 4);
  const data = at + 10;
  const end = data + bytes.readUInt16BE(at + 8);
  if (end > bytes.length) throw new Error('data that is cut off');
  // A TTL with the highest bit set is zero (RFC 2181 section 8); of OPT it is none.
  return {
    owner,
    type,
    class: bytes.readUInt16BE(at + 2),
    ttl: ttl > 0x7fff_ffff && type !== opt ? 0 : ttl,
    data,
    end,
  };
}

/** Offset of what comes after a name, which ends with the root or with a pointer. */
function afterName(bytes: Buffer, offset: number): number {
  for (let at = offset; ;) {
    const length = bytes.readUInt8(at);
    if (length >= pointer) return at + 2;
    if (length > 63) throw new Error('a label of an unknown kind');
    at += 1 + length;
    if (length === 0) return at;
  }
}

/** Offset of the label at an offset, through pointers. Each leads back (RFC 1035 section 4.1.4: to a prior occurrence). */
function labelAt(bytes: Buffer, offset: number): number {
  let at = offset;
  for (let pointers = 0; bytes.readUInt8(at) >= pointer; pointers++) {
    const to = bytes.readUInt16BE(at) & 0x3fff;
    if (to >= at || pointers === pointerLimit) throw new Error('a pointer that leads nowhere');
    at = to;
  }
  if (bytes[at]! > 63) throw new Error('a label of an unknown kind');
  return at;
}

/**
 * Names compare without case (RFC 4343), label by label.
 *
 * @param other has been read, so that it has an end.
 */
function isSameName(bytes: Buffer, one: number, other: number): boolean {
  for (let [a, b] = [one, other]; ;) {
    a = labelAt(bytes, a);
    b = labelAt(bytes, b);
    if (a === b) return true;
    const length = bytes[a]!;
    if (bytes[b] !== length) return false;
    if (length === 0) return true;
    for (let i = 1; i <= length; i++)
      if (lowerCase(bytes.readUInt8(a + i)) !== lowerCase(bytes.readUInt8(b + i))) return false;
    a += 1 + length;
    b += 1 + length;
  }
}

/** Whether a name that `isQueryable` stands there, in whatever case. */
function isNamed(bytes: Buffer, offset: number, name: string): boolean {
  for (let [at, i] = [offset, 0]; ; i++) {
    at = labelAt(bytes, at);
    const next = at + 1 + bytes[at]!;
    if (next === at + 1) return i === name.length + 1;
    for (at++; at < next; at++, i++) {
      const octet = bytes[at];
      if (octet === undefined || octet === dot || lowerCase(octet) !== lowerCase(name.charCodeAt(i))) return false;
    }
    if (i < name.length && name.charCodeAt(i) !== dot) return false;
  }
}

const lowerCase = (octet: number): number => (octet >= 65 && octet <= 90 ? octet + 32 : octet);

/** Lower case, without the trailing dot; empty for the root. What is no plain character of a label is escaped (RFC 1035 section 5.1). */
function nameAt(bytes: Buffer, offset: number): string {
  let name = '';
  let octets = 1;
  for (let at = offset; ;) {
    at = labelAt(bytes, at);
    const length = bytes[at]!;
    if (length === 0) return name;
    if ((octets += 1 + length) > 255) throw new Error('a name of more than 255 octets');
    if (at + 1 + length > bytes.length) throw new Error('a name that is cut off');
    const label = bytes.toString('latin1', at + 1, at + 1 + length);
    name += (name && '.') + (isPlain.test(label) ? label : label.replace(notPlain, escape)).toLowerCase();
    at += 1 + length;
  }
}

const isPlain = /^[\w-]+$/;
const notPlain = /[^!-~]|[.\\]/g;
const escape = (char: string): string =>
  char === '.' || char === '\\' ? `\\${char}` : `\\${char.charCodeAt(0).toString().padStart(3, '0')}`;

/** INFO-CODEs of an answer that is the resolver's own doing: forged, not ready, blocked, censored, filtered, prohibited (RFC 8914 section 4). */
const ownCodes = new Set([4, 14, 15, 16, 17, 18]);
/** INFO-CODEs of an answer that was kept beyond its time, because nobody gives a new one (RFC 8767). */
const staleCodes = new Set([3, 19]);

/** INFO-CODEs of a validation that failed: bogus, expired, not yet valid, no key, no signature (RFC 8914 section 4). */
const bogusCodes = new Set([6, 7, 8, 9, 10]);

const extendedErrorOption = 15;

function extendedErrorsOf(bytes: Buffer, { data, end }: Rr): ExtendedError[] {
  const errors: ExtendedError[] = [];
  for (let at = data; at < end;) {
    const length = bytes.readUInt16BE(at + 2);
    const next = at + 4 + length;
    if (next > end) throw new Error('an option that is cut off');
    if (bytes.readUInt16BE(at) === extendedErrorOption && length >= 2)
      errors.push({ code: bytes.readUInt16BE(at + 4), text: bytes.toString('utf8', at + 6, next).replace(/\0+$/, '') });
    at = next;
  }
  return errors;
}
