import type { DnsAnswer } from '@app/dns';
import type { MxRr, Operation } from '@app/mail-records';
import type { Questions } from '@app/verification';

type Type = 'MX' | 'TXT' | 'CNAME' | 'DNAME' | 'SOA' | 'NS' | 'A' | 'AAAA';
/** Name → type → values, as operations write them; a wildcard's owner begins with `*.`. */
export type ZoneData = Readonly<Record<string, Partial<Record<Type, readonly string[]>>>>;

const isBelow = (name: string, owner: string): boolean => name.endsWith(`.${owner}`);
const parentOf = (name: string): string => name.slice(name.indexOf('.') + 1);

/** What resolvers make of a zone: wildcards (RFC 4592), CNAMEs (RFC 1034 section 3.6.2) and DNAMEs (RFC 6672). */
export class ZoneModel {
  constructor(readonly data: ZoneData) {}

  /** A resolver that has this zone, for all that asks one. */
  get resolver(): Questions {
    const ask =
      <Rr>(type: Type, read: (value: string) => Rr) =>
      (name: string): Promise<DnsAnswer<Rr>> =>
        Promise.resolve(this.resolve(type, name, read));
    const text = (value: string) => value;
    return {
      mx: ask('MX', readMx),
      txt: ask('TXT', text),
      cname: ask('CNAME', text),
      soa: ask('SOA', () => ({ primary: 'ns.acme.com', minimum: 60 })),
      ns: ask('NS', () => 'ns.acme.com'),
      a: ask('A', text),
      aaaa: ask('AAAA', text),
    };
  }

  /** The values that stand at a name itself. */
  stored = (type: Type, name: string): readonly string[] => this.data[name]?.[type] ?? [];

  private exists(name: string): boolean {
    return name in this.data || Object.keys(this.data).some((owner) => isBelow(owner, name));
  }

  private dnameAbove(name: string): { owner: string; target: string } | undefined {
    const owners = Object.keys(this.data).filter((owner) => this.data[owner]!.DNAME && isBelow(name, owner));
    const [owner] = owners.sort((a, b) => a.length - b.length);
    return owner === undefined ? undefined : { owner, target: this.data[owner]!.DNAME![0]! };
  }

  /** Gives the RRsets that answer for a name; undefined after NXDOMAIN. */
  private nodeAt(name: string): ZoneData[string] | undefined {
    if (this.exists(name)) return this.data[name] ?? {};
    let encloser = name;
    while (encloser.includes('.') && !this.exists(encloser)) encloser = parentOf(encloser);
    return this.data[`*.${encloser}`];
  }

  private resolve<Rr>(type: Type, name: string, read: (value: string) => Rr): DnsAnswer<Rr> {
    const aliases: string[] = [];
    const extra: { dname?: { owner: string; target: string }; beside?: Rr[] } = {};
    for (let owner = name; ;) {
      const above = this.dnameAbove(owner);
      if (above && owner === name) extra.dname = above;
      const renamed = above && owner.slice(0, -above.owner.length) + above.target;
      const node = renamed === undefined ? this.nodeAt(owner) : { CNAME: [renamed] };
      const records = (node?.[type] ?? []).map(read);
      const [alias] = type === 'CNAME' ? [] : (node?.CNAME ?? []);
      if (alias === undefined) {
        if (!node) return { kind: 'nxdomain', aliases, ...extra };
        return records.length > 0
          ? { kind: 'records', records, aliases, ...extra }
          : { kind: 'nodata', aliases, ...extra };
      }
      if (owner === name && records.length > 0) extra.beside = records;
      if (alias === name || aliases.includes(alias) || aliases.length > 16) return { kind: 'servfail' };
      aliases.push(alias);
      owner = alias;
    }
  }

  /**
   * Carries a plan out as a strict server would let it.
   *
   * @throws {Error} where an operation takes for stored what is not, or puts what cannot stand there.
   */
  after(operations: readonly Operation[]): ZoneModel {
    const data: Record<string, Partial<Record<Type, readonly string[]>>> = structuredClone(this.data);
    for (const { action, name, type, values, replaces } of operations) {
      const stored = data[name]?.[type] ?? [];
      const gone = action === 'delete' ? values : replaces;
      for (const value of action === 'keep' ? values : gone)
        if (!stored.includes(value)) throw new Error(`${action}: ${name} has no ${type} ${value}`);
      if (action === 'keep') continue;
      const written = action === 'delete' ? [] : values;
      const left = stored.filter((value) => !gone.includes(value));
      for (const value of written) if (left.includes(value)) throw new Error(`${name} has ${type} ${value} already`);
      if (written.length > 0 && this.dnameAbove(name)) throw new Error(`${name} stands below a DNAME`);
      const { [type]: _before, ...others } = data[name] ?? {};
      const node: ZoneData[string] =
        left.length + written.length > 0 ? { ...others, [type]: [...left, ...written] } : others;
      if (written.length > 0 && node.CNAME && Object.keys(node).length > 1)
        throw new Error(`${name} would have a CNAME and other records`);
      if (Object.keys(node).length > 0) data[name] = node;
      else delete data[name];
    }
    return new ZoneModel(data);
  }
}

function readMx(value: string): MxRr {
  const [preference, exchange] = value.split(' ') as [string, string];
  return { preference: Number(preference), exchange: exchange === '.' ? '' : exchange };
}
