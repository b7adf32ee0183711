import { isIPv4 } from 'node:net';
import { BadRequestException, Injectable } from '@nestjs/common';
import type { Answer, RecordType } from 'dns-packet';
import { z } from 'zod';
import { SandboxState } from './state';

const recordTypes = ['A', 'CNAME', 'MX', 'NS', 'TXT'] as const;
type ZoneType = (typeof recordTypes)[number];

/** Seconds. */
const ttl = 300;
const chainLimit = 16;

const textOrAlias = z.object({ name: z.string(), value: z.string() });
/** The entry of the domain's own MX has no name: it is that of its SPF record. */
const mailExchange = z.object({ name: z.string().optional(), priority: z.number(), target: z.string() });
const entry = z.union([mailExchange, textOrAlias]);
const entries = z.union([entry, z.array(entry)]);

/** The `dns_records` of the API, alone or inside a whole answer. A field may have an object with fields of its own. */
const dnsRecords = z.intersection(
  z.object({ mx: z.array(mailExchange), spf: textOrAlias }),
  z.record(z.string(), z.union([entries, z.record(z.string(), entries)])),
);
type Entry = z.infer<typeof entry>;
/** The records of a domain as the text of a zone file. */
const zoneFile = z.object({ zone_file: z.string() });
/** A name, a type, and the values of that type. */
type RecordSet = [string, string, string[]];

const isEntry = (given: object): given is Entry => 'value' in given || 'target' in given;
const entriesIn = (given: object): Entry[] =>
  isEntry(given) ? [given] : Object.values(given as Record<string, object>).flatMap(entriesIn);

export interface Resolved {
  /** SERVFAIL: the chain of CNAMEs is a loop or too long. */
  readonly rcode: 'NOERROR' | 'NXDOMAIN' | 'SERVFAIL';
  readonly answers: Answer[];
  /** The SOA record of a negative answer (RFC 2308 section 3). */
  readonly authorities: Answer[];
}

/** Keeps one editable zone for the whole DNS. */
@Injectable()
export class Zone {
  /**
   * @param platform gives the TXT records at a name that are there without being placed, and are not listed with those
   * that are.
   */
  constructor(
    private readonly state: SandboxState,
    private readonly platform: (name: string) => readonly string[] = () => [],
  ) {}

  all(): Record<string, Record<string, string[]>> {
    return this.state.data.zone;
  }

  values(name: string, type: string): readonly string[] {
    return this.state.data.zone[canonical(name)]?.[type] ?? [];
  }

  set(name: string, type: string, values: readonly string[]): void {
    const owner = canonical(name);
    if (!isName(owner)) throw new BadRequestException(`${name} is no name of the DNS.`);
    if (!recordTypes.includes(type as ZoneType))
      throw new BadRequestException(`${type} is not kept here: one of ${recordTypes.join(', ')}.`);
    for (const value of values) data(type as ZoneType, value);
    const rrsets = { ...this.state.data.zone[owner] };
    if (values.length > 0) rrsets[type] = [...values];
    else delete rrsets[type];
    if (rrsets.CNAME && (Object.keys(rrsets).length > 1 || rrsets.CNAME.length > 1))
      throw new BadRequestException(
        `A CNAME is alone at its name (RFC 1034 section 3.6.2): delete the rest of ${owner} first.`,
      );
    if (Object.keys(rrsets).length > 0) this.state.data.zone[owner] = rrsets;
    else delete this.state.data.zone[owner];
    this.state.changed();
  }

  removeName(name: string): void {
    delete this.state.data.zone[canonical(name)];
    this.state.changed();
  }

  /**
   * Places all records of a domain as the API returned them, instead of the present ones at these names. Gives the
   * placed records.
   */
  place(body: unknown): string[] {
    return this.each(body, (name, type, values) => this.set(name, type, values));
  }

  remove(body: unknown): string[] {
    return this.each(body, (name, type) => this.set(name, type, []));
  }

  /** Gives an authoritative answer, including the chain of CNAMEs. */
  resolve(name: string, type: RecordType): Resolved {
    const answers: Answer[] = [];
    let owner = canonical(name);
    for (let i = 0; i < chainLimit; i++) {
      const rrsets = this.at(owner);
      const values = rrsets?.[type] ?? [];
      answers.push(...values.map((value) => ({ name: owner, ttl, ...data(type as ZoneType, value) }) as Answer));
      const [alias] = rrsets?.CNAME ?? [];
      if (values.length > 0) return { rcode: 'NOERROR', answers, authorities: [] };
      if (!alias || type === 'CNAME') break;
      answers.push({ type: 'CNAME', name: owner, ttl, data: canonical(alias) });
      owner = canonical(alias);
      if (i === chainLimit - 1) return { rcode: 'SERVFAIL', answers: [], authorities: [] };
    }
    // A name with records only below it exists too (RFC 8020).
    const exists =
      this.at(owner) !== undefined || Object.keys(this.state.data.zone).some((key) => key.endsWith(`.${owner}`));
    return { rcode: exists ? 'NOERROR' : 'NXDOMAIN', answers, authorities: [soa(owner)] };
  }

  private at(owner: string): Readonly<Record<string, readonly string[]>> | undefined {
    const texts = this.platform(owner);
    return this.state.data.zone[owner] ?? (texts.length > 0 ? { TXT: texts } : undefined);
  }

  private each(body: unknown, act: (name: string, type: string, values: string[]) => void): string[] {
    const file = zoneFile.safeParse(body);
    const rrsets = file.success ? setsOfFile(file.data.zone_file) : this.setsOfAnswer(body);
    for (const [name, type, values] of rrsets) act(name, type, values);
    return rrsets.flatMap(([name, type, values]) => values.map((value) => `${name} ${type} ${value}`));
  }

  private setsOfAnswer(body: unknown): RecordSet[] {
    const inner = (body as { data?: { dns_records?: unknown }; dns_records?: unknown } | null) ?? {};
    const parsed = dnsRecords.safeParse(inner.data?.dns_records ?? inner.dns_records ?? inner);
    if (!parsed.success)
      throw new BadRequestException('Send the dns_records of a domain, or the whole answer of the API that has them.');
    const domain = parsed.data.spf.name;
    return entriesIn(parsed.data).map((each): RecordSet =>
      'target' in each
        ? [each.name ?? domain, 'MX', [`${each.priority} ${each.target}`]]
        : [each.name, each.name.includes('._domainkey.') ? 'CNAME' : 'TXT', [each.value]],
    );
  }
}

/**
 * Reads the record sets of a zone file as the API gives it for BIND: whole names, and one record a line (RFC 1035
 * section 5.1).
 */
function setsOfFile(text: string): RecordSet[] {
  const sets = new Map<string, RecordSet>();
  for (const line of text.split('\n').map((each) => each.trim())) {
    if (line === '' || line.startsWith(';') || line.startsWith('$')) continue;
    const match = /^(\S+)[ \t]+\d+[ \t]+IN[ \t]+([A-Z]+)[ \t]+(\S.*)$/.exec(line);
    if (!match) throw new BadRequestException(`Such a line is not read here: ${line.slice(0, 200)}`);
    const [owner, type, value] = [canonical(match[1]!), match[2]!, match[3]!];
    const set = sets.get(`${owner} ${type}`) ?? [owner, type, []];
    set[2].push(type === 'TXT' ? value : value.replace(/\.$/, ''));
    sets.set(`${owner} ${type}`, set);
  }
  if (sets.size === 0) throw new BadRequestException('The zone file has no records.');
  return [...sets.values()];
}

/**
 * Whether a name fits into a DNS message (RFC 1035 section 2.3.4), which the encoder does not check. Wildcards are not
 * supported.
 */
export const isName = (name: string): boolean =>
  name.length <= 253 && /^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/.test(canonical(name));

export const canonical = (name: string): string => name.toLowerCase().replace(/\.$/, '');

const soa = (name: string): Answer => ({
  type: 'SOA',
  name: name.split('.').slice(-2).join('.'),
  ttl,
  data: {
    mname: 'ns.sandbox',
    rname: 'hostmaster.sandbox',
    serial: 1,
    refresh: 3600,
    retry: 600,
    expire: 86_400,
    minimum: ttl,
  },
});

/**
 * Converts a value from presentation form to the form of the encoder. A TXT value is a list of quoted strings, or one
 * string without quotes.
 */
function data(type: ZoneType, value: string): { type: ZoneType; data: unknown } {
  if (type === 'MX') {
    const match = /^(\d{1,5}) (\S+)$/.exec(value);
    if (!match || Number(match[1]) > 65_535 || !(match[2] === '.' || isName(match[2]!)))
      throw new BadRequestException(`An MX value is a preference and a host, such as "10 mail.sendmux.ai": ${value}`);
    return { type, data: { preference: Number(match[1]), exchange: match[2] } };
  }
  if (type === 'A' && !isIPv4(value)) throw new BadRequestException(`An A value is an IPv4 address: ${value}`);
  if ((type === 'CNAME' || type === 'NS') && !isName(value))
    throw new BadRequestException(`The value of ${type} is a name: ${value}`);
  if (type !== 'TXT') return { type, data: value };
  const strings = /^"[^"]*"( "[^"]*")*$/.test(value)
    ? [...value.matchAll(/"([^"]*)"/g)].map((part) => part[1]!)
    : [value];
  const bytes = strings.flatMap((text) => chunks(Buffer.from(text)));
  return { type, data: bytes };
}

/** Splits bytes into character-strings of at most 255 octets (RFC 1035 section 3.3). */
function chunks(bytes: Buffer): Buffer[] {
  if (bytes.length <= 255) return [bytes];
  return [bytes.subarray(0, 255), ...chunks(bytes.subarray(255))];
}
