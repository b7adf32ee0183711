export interface MxRecord {
  readonly preference: number;
  /** Lower case, without the trailing dot; empty for the root (RFC 7505). */
  readonly exchange: string;
}

/** An SOA record, which exists at the top of a zone only (RFC 1035 section 3.3.13). */
export interface SoaRecord {
  /** Name of the primary server, lower case, without the trailing dot. */
  readonly primary: string;
  /** Seconds for which a negative answer may be cached, unless the record's TTL is lower (RFC 2308 section 4). */
  readonly minimum: number;
}

/** Further facts about an answer. */
export interface DnsEvidence {
  /**
   * Seconds for which the answer may still be cached. For records this is the least TTL of them and of the CNAMEs that
   * led to them; for a negative answer, the lesser of TTL and MINIMUM of the SOA (RFC 2308 section 5). Absent where the
   * answer has neither.
   */
  readonly ttl?: number;
  /** The AD bit: the resolver has validated the answer (RFC 4035 section 3.2.3). */
  readonly authenticated?: boolean;
  /** Extended DNS Errors (RFC 8914); absent when there are none. */
  readonly extendedErrors?: readonly ExtendedError[];
  /** Present on a SERVFAIL that is due to a failed DNSSEC validation. */
  readonly bogus?: true;
}

export interface ExtendedError {
  /** The INFO-CODE. */
  readonly code: number;
  readonly text: string;
}

/** A DNAME gives all names below its owner the names below its target instead (RFC 6672). */
export interface DnameRecord {
  readonly owner: string;
  readonly target: string;
}

/** A resolver's answer to one question. */
export type DnsAnswer<Record> = (
  | /** RRs of the queried type at the end of the chain of CNAMEs; `aliases` are the names in the chain. */
    { readonly kind: 'records'; readonly records: readonly Record[]; readonly aliases: readonly string[] }
    /** The name exists, without the queried type (RFC 2308 section 2.2). */
  | { readonly kind: 'nodata'; readonly aliases: readonly string[] }
  | { readonly kind: 'nxdomain'; readonly aliases: readonly string[] }
  /** `loop`: the names whose CNAMEs lead from one to the next and back to the first, where the answer shows them. */
  | { readonly kind: 'servfail'; readonly loop?: readonly string[] }
  /** A reply that does not count as an answer, or no reply. */
  | { readonly kind: 'unreachable'; readonly reason: string }
) & {
  readonly evidence?: DnsEvidence;
  /** The DNAME that the name stands below; present where the answer has it. */
  readonly dname?: DnameRecord;
  /** Records of the queried type that a broken server gives at the name itself, although it has a CNAME. */
  readonly beside?: readonly Record[];
};

export const unreachable = (reason: string) => ({ kind: 'unreachable', reason }) as const;

/** The types that a query can ask for, with their numbers (RFC 1035 section 3.2.2, RFC 3596). */
const types = { A: 1, NS: 2, CNAME: 5, SOA: 6, MX: 15, TXT: 16, AAAA: 28 };
export type QueryType = keyof typeof types;
const dname = 39;
const opt = 41;
const internet = 1;

/** The most CNAMEs that are followed in one answer. */
const chainLimit = 16;
/** Octets of the header (RFC 1035 section 4.1.1), after which the question begins. */
const headerLength = 12;
/**
 * The two highest bits of a label's length octet, which mark a pointer to the rest of the name (RFC 1035 section
 * 4.1.4).
 */
const pointer = 0xc0;
/** The most pointers that are followed to one label. */
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

/**
 * The OPT record of a query: owner root, 1,232 octets, version 0, without flags and options (RFC 6891 section 6.1.2).
 */
const edns = Buffer.from([0, 0, opt, 1_232 >> 8, 1_232 & 255, 0, 0, 0, 0, 0, 0]);

/** A buffer for the longest query, whose name has 255 octets on the wire. */
const query = Buffer.alloc(headerLength + 255 + 4 + edns.length);
query[2] = recursionDesired;
query[5] = 1;
query[11] = 1;

/**
 * Encodes a query for one question as the variable `dns` of a GET (RFC 8484 section 6), with ID 0 so that caches can
 * share it (section 4.1). The query sets the AD bit to get the AD bit of the answer (RFC 6840 section 5.7), and EDNS to
 * get Extended DNS Errors (RFC 8914 section 3).
 *
 * @param name that `isQueryable`.
 * @param unchecked sets the CD bit, so that the resolver also gives answers that do not validate (RFC 4035 section
 * 3.2.2).
 */
export function encodeQuery(name: string, type: QueryType, { unchecked = false } = {}): string {
  query[3] = authenticData | (unchecked ? checkingDisabled : 0);
  // The query is written into one buffer octet by octet, since encoding takes a large share of a cycle's CPU time.
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

/**
 * Tells whether a name can be asked for, be it a hostname or a name from an SPF record. The encoder validates nothing,
 * and would send a query for another name.
 */
export const isQueryable = (name: string): boolean =>
  name.length <= 253 && /^(?:[a-z0-9_-]{1,63}|\*)(?:\.(?:[a-z0-9_-]{1,63}|\*))*$/i.test(name);

/** The offsets of an RR in a message. */
interface Rr {
  /** Offset of the owner's name. */
  readonly owner: number;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  /** Offset of the first octet of the data; `end` is the offset after the last. */
  readonly data: number;
  readonly end: number;
}

/**
 * Readers of the data of an RR, by type. TXT gives a string with one character for each octet. Each reader throws when
 * the data are incomplete or too long.
 */
const readers = {
  A: (bytes: Buffer, { data, end }: Rr): string => [...bytes.subarray(data, exactly(end, data + 4))].join('.'),
  /** Writes all eight groups, without `::`. */
  AAAA: (bytes: Buffer, { data, end }: Rr): string =>
    bytes
      .subarray(data, exactly(end, data + 16))
      .toString('hex')
      .match(/.{4}/g)!
      .join(':'),
  CNAME: (bytes: Buffer, { data, end }: Rr): string => (exactly(end, afterName(bytes, data)), nameAt(bytes, data)),
  NS: (bytes: Buffer, { data, end }: Rr): string => (exactly(end, afterName(bytes, data)), nameAt(bytes, data)),
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

/** Reads a reply. A reply that is incomplete or does not match the question is `unreachable`. Never throws. */
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
  // The highest octet of the field that is the TTL of other RRs (RFC 6891 section 6.1.3).
  const extendedRcode = options ? options.ttl >>> 24 : 0;
  if (extendedRcode) return unreachable(`an extended RCODE (${extendedRcode * 16 + rcode})`);
  const extendedErrors = options ? extendedErrorsOf(bytes, options) : [];
  const evidence: Writable<DnsEvidence> = { authenticated: (low & authenticData) !== 0 };
  if (extendedErrors.length > 0) evidence.extendedErrors = extendedErrors;
  const saysNo = rcode !== rcodes.noError || all.length === 0;
  const own = extendedErrors.find(({ code }) => ownCodes.has(code) || (saysNo && staleCodes.has(code)));
  if (own) return { ...unreachable(`the extended error ${own.code}`), evidence };
  const answers = all.filter((rr) => rr.class === internet);
  // A query for the CNAME itself does not follow it.
  const { aliases, owner, ttl: chainTtl, loop } = type === 'CNAME' ? noChain : chainOf(bytes, name, answers);
  if (rcode === rcodes.servfail || (rcode === rcodes.noError && loop)) {
    if (extendedErrors.some(({ code }) => bogusCodes.has(code))) evidence.bogus = true;
    // Some resolvers say SERVFAIL at a loop, and others give the chain as if it were an answer.
    return loop ? { kind: 'servfail', loop, evidence: { ...evidence, ttl: chainTtl } } : { kind: 'servfail', evidence };
  }
  if (rcode !== rcodes.noError && rcode !== rcodes.nxdomain) return unreachable(`RCODE ${rcodeName(rcode)}`);
  const soa = authorities.find((rr) => rr.type === types.SOA);
  // NS records without an SOA are a referral to other servers, not a negative answer (RFC 2308 section 2.2).
  if (rcode === rcodes.noError && saysNo && !soa && authorities.some((rr) => rr.type === types.NS))
    return { ...unreachable('a referral'), evidence };

  if (aliases.length > chainLimit) return unreachable(`more than ${chainLimit} CNAMEs`);
  let ttl = chainTtl;
  const found = answers.filter((rr) => rr.type === types[type] && isSameName(bytes, rr.owner, owner));
  const isPositive = rcode === rcodes.noError && found.length > 0;
  if (isPositive) for (const rr of found) ttl = Math.min(ttl, rr.ttl);
  else if (soa) ttl = Math.min(ttl, soa.ttl, readers.SOA(bytes, soa).minimum);
  if (ttl < Infinity) evidence.ttl = ttl;
  const above = dnameAbove(bytes, name, answers);
  const beside =
    aliases.length === 0
      ? []
      : distinct(
          bytes,
          type,
          answers.filter((rr) => rr.type === types[type] && isSameName(bytes, rr.owner, headerLength)),
        );
  const more = {
    evidence,
    ...(above && { dname: above }),
    ...(beside.length > 0 && { beside }),
  };
  if (rcode === rcodes.nxdomain) return { kind: 'nxdomain', aliases, ...more };
  if (!isPositive) return { kind: 'nodata', aliases, ...more };
  return { kind: 'records', records: distinct(bytes, type, found), aliases, ...more };
}

interface Chain {
  readonly aliases: readonly string[];
  /** Offset of the name at its end. */
  readonly owner: number;
  /** The least TTL in it; infinite where it is empty. */
  readonly ttl: number;
  readonly loop?: readonly string[];
}
const noChain: Chain = { aliases: [], owner: headerLength, ttl: Infinity };

/** Follows the CNAMEs of an answer from the queried name, until there is none, they loop, or there are too many. */
function chainOf(bytes: Buffer, name: string, answers: readonly Rr[]): Chain {
  const aliases: string[] = [];
  let ttl = Infinity;
  let owner = headerLength;
  while (aliases.length <= chainLimit) {
    const alias = answers.find((rr) => rr.type === types.CNAME && isSameName(bytes, rr.owner, owner));
    if (!alias) break;
    owner = alias.data;
    ttl = Math.min(ttl, alias.ttl);
    const target = readers.CNAME(bytes, alias);
    const visited = [name.toLowerCase(), ...aliases];
    if (visited.includes(target)) return { aliases, owner, ttl, loop: visited.slice(visited.indexOf(target)) };
    aliases.push(target);
  }
  return { aliases, owner, ttl };
}

/** Finds the DNAME from which the CNAME of the queried name was synthesized (RFC 6672 section 3.1). */
function dnameAbove(bytes: Buffer, name: string, answers: readonly Rr[]): DnameRecord | undefined {
  const queried = name.toLowerCase();
  for (const rr of answers) {
    if (rr.type !== dname) continue;
    const owner = nameAt(bytes, rr.owner);
    if (queried.endsWith(`.${owner}`)) return { owner, target: nameAt(bytes, rr.data) };
  }
  return undefined;
}

const rcodeNames = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];
const rcodeName = (rcode: number): string => rcodeNames[rcode] ?? String(rcode);

/**
 * Reads RRs of one RRset. Duplicates, which have the same data (RFC 2181 section 5), are left out: names are the same
 * however they are compressed and whatever their case (RFC 1035 section 4.1.4, RFC 4343). Two TXT records with the same
 * text but other character-strings are different.
 */
function distinct<Type extends QueryType>(bytes: Buffer, type: Type, rrs: readonly Rr[]): RecordOf<Type>[] {
  const read = readers[type] as (bytes: Buffer, rr: Rr) => RecordOf<Type>;
  if (rrs.length === 1) return [read(bytes, rrs[0]!)];
  const records = new Map<string, RecordOf<Type>>();
  for (const rr of rrs) {
    const record = read(bytes, rr);
    const data = type === 'TXT' ? bytes.toString('latin1', rr.data, rr.end) : JSON.stringify(record);
    if (!records.has(data)) records.set(data, record);
  }
  return [...records.values()];
}

/** @throws {Error} when the RR is incomplete. */
function rrAt(bytes: Buffer, owner: number): Rr {
  const at = afterName(bytes, owner);
  const type = bytes.readUInt16BE(at);
  const ttl = bytes.readUInt32BE(at + 4);
  const data = at + 10;
  const end = data + bytes.readUInt16BE(at + 8);
  if (end > bytes.length) throw new Error('data that is cut off');
  // A TTL with the highest bit set is zero (RFC 2181 section 8). The field of an OPT record is not a TTL, and keeps its
  // bits.
  return {
    owner,
    type,
    class: bytes.readUInt16BE(at + 2),
    ttl: ttl > 0x7fff_ffff && type !== opt ? 0 : ttl,
    data,
    end,
  };
}

/** Gives the offset after a name, which ends with the root or with a pointer. */
function afterName(bytes: Buffer, offset: number): number {
  for (let at = offset; ;) {
    const length = bytes.readUInt8(at);
    if (length >= pointer) return at + 2;
    if (length > 63) throw new Error('a label of an unknown kind');
    at += 1 + length;
    if (length === 0) return at;
  }
}

/**
 * Gives the offset of the label at an offset, following pointers. Each points backwards (RFC 1035 section 4.1.4: to a
 * prior occurrence).
 */
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
 * Compares two names label by label, ignoring case (RFC 4343).
 *
 * @param other is a name that has been read before, so that it is known to end.
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

/**
 * Tells whether the name at an offset is the given one, ignoring case.
 *
 * @param name that `isQueryable`.
 */
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

/**
 * Reads a name in lower case, without the trailing dot; empty for the root. Characters that are special in a label are
 * escaped (RFC 1035 section 5.1).
 */
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

/**
 * INFO-CODEs of answers that the resolver made itself: forged, not ready, blocked, censored, filtered, prohibited (RFC
 * 8914 section 4).
 */
const ownCodes = new Set([4, 14, 15, 16, 17, 18]);
/**
 * INFO-CODEs of a stale answer, which the resolver kept beyond its TTL because the servers gave no new one (RFC 8767).
 */
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
    if (bytes.readUInt16BE(at) === extendedErrorOption && length >= 2) {
      let end = next;
      while (end > at + 6 && bytes[end - 1] === 0) end--;
      errors.push({ code: bytes.readUInt16BE(at + 4), text: bytes.toString('utf8', at + 6, end) });
    }
    at = next;
  }
  return errors;
}
