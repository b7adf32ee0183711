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

/** What a resolver said to one question. */
export type DnsAnswer<Record> =
  /** RRs of the queried type at the end of the chain of CNAMEs; `aliases` are the names on the way. */
  | { readonly kind: 'records'; readonly records: readonly Record[]; readonly aliases: readonly string[] }
  /** The name exists, without the queried type (RFC 2308 section 2.2). */
  | { readonly kind: 'nodata'; readonly aliases: readonly string[] }
  | { readonly kind: 'nxdomain'; readonly aliases: readonly string[] }
  | { readonly kind: 'servfail' }
  /** No answer that counts. */
  | { readonly kind: 'unreachable'; readonly reason: string };

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

/** A query for one question, with ID 0 so that caches can share it (RFC 8484 section 4.1). */
export function encodeQuery(name: string, type: QueryType): Buffer {
  return packet.encode({ type: 'query', id: 0, flags: packet.RECURSION_DESIRED, questions: [{ type, name }] });
}

/** Whether a name can be asked for: the encoder validates nothing, and would send another name instead. */
export const isQueryable = (name: string): boolean =>
  name.length <= 253 && name.split('.').every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(label));

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
  if (rcode === 'SERVFAIL') return { kind: 'servfail' } as const;
  if (rcode !== 'NOERROR' && rcode !== 'NXDOMAIN') return unreachable(`RCODE ${rcode}`);

  const answers = (reply.answers ?? []).filter((rr) => 'class' in rr && rr.class === 'IN');
  const aliases: string[] = [];
  let owner = canonical(name);
  // Who asks for the CNAME itself is not led along it.
  while (type !== 'CNAME') {
    const alias = answers.find((rr) => rr.type === 'CNAME' && canonical(rr.name) === owner);
    if (alias?.type !== 'CNAME') break;
    owner = canonical(alias.data);
    aliases.push(owner);
    if (aliases.length > chainLimit) return unreachable('a loop of CNAMEs');
  }
  const read = readers[type] as (data: unknown) => ReturnType<(typeof readers)[Type]>;
  const records = answers.flatMap((rr) =>
    rr.type === type && canonical(rr.name) === owner ? [read((rr as { data: unknown }).data)] : [],
  );
  if (rcode === 'NXDOMAIN') return { kind: 'nxdomain', aliases } as const;
  if (records.length === 0) return { kind: 'nodata', aliases } as const;
  return { kind: 'records', records, aliases } as const;
}

/** Names compare without case and without the root's dot (RFC 4343). */
const canonical = (name: string): string => name.toLowerCase().replace(/\.$/, '');
