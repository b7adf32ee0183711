import type { DnsAnswer, DohClient } from '@app/dns';
import {
  possibleZones,
  registrableDomain,
  spfQuestion,
  wildcardProbe,
  type MxRr,
  type Published,
  type PublishedName,
  type TxtRr,
} from '@app/mail-domain';

/** What a resolver is asked. */
export type Questions = Pick<DohClient, 'mx' | 'txt' | 'cname' | 'soa' | 'a' | 'aaaa'>;

/** The DNS could not be read whole. Nothing is concluded from the part that could. */
export class DnsUnanswered extends Error {
  override readonly name = 'DnsUnanswered';
  constructor(
    readonly type: string,
    readonly at: string,
    readonly reason: 'unreachable' | 'servfail' | 'disagreement',
  ) {
    super(`${type} at ${at}: ${reason}`);
  }
}

const nothing: DnsAnswer<never> = { kind: 'nodata', aliases: [] };
const recordsOf = <Rr>(answer: DnsAnswer<Rr>): readonly Rr[] => (answer.kind === 'records' ? answer.records : []);

/** Reads what stands in a zone now, to plan from. A missing answer is never read as a missing record. */
export class PublishedRecords {
  /** @param resolvers independent of each other; each is asked every question. */
  constructor(private readonly resolvers: readonly Questions[]) {}

  /**
   * The zone that holds the records of a name: the nearest name upwards with an SOA record, or the registrable domain where
   * no resolver can tell.
   */
  async zoneOf(name: string): Promise<string> {
    for (const candidate of possibleZones(name)) {
      const answers = await Promise.all(this.resolvers.map((resolver) => resolver.soa(candidate)));
      if (answers.some((answer) => answer.kind === 'records' && answer.aliases.length === 0)) return candidate;
      if (answers.every((answer) => answer.kind === 'unreachable' || answer.kind === 'servfail')) break;
    }
    return registrableDomain(name);
  }

  /**
   * All that bears on a domain's own records.
   *
   * @param dkimTokens of the domain; empty before it is added.
   * @throws {DnsUnanswered}
   */
  async of(name: string, dkimTokens: readonly string[]): Promise<Published> {
    const parents = possibleZones(name).slice(1);
    const [domain, verification, dmarc, dkim, inherited, beside, below] = await Promise.all([
      this.at(name, { mx: true }),
      this.at(`_sendmux.${name}`),
      this.at(`_dmarc.${name}`, { through: true }),
      Promise.all(dkimTokens.map((token) => this.at(`${token}._domainkey.${name}`))),
      Promise.all(parents.map((parent) => this.at(`_dmarc.${parent}`, { through: true }))),
      parents[0] === undefined ? undefined : this.at(`${wildcardProbe}.${parents[0]}`, { mx: true }),
      this.at(`${wildcardProbe}.${name}`),
    ]);
    return {
      domain,
      spfTargets: await this.spfTargets(domain.txt),
      verification,
      dmarc,
      dkim: dkimTokens.map((token, i) => ({ token, ...dkim[i]! })),
      inheritedDmarc: inherited.flatMap(({ txt }) => txt),
      wildcards: { beside, below },
    };
  }

  /**
   * Whether the name has an IPv4 or IPv6 address.
   *
   * @throws {DnsUnanswered}
   */
  async hasAddress(name: string): Promise<boolean> {
    // Which address it is may differ from resolver to resolver: only whether there is one is compared.
    const some = (answer: DnsAnswer<string>): DnsAnswer<string> =>
      answer.kind === 'records' ? { ...answer, records: ['some'] } : answer;
    const answers = await Promise.all([
      this.ask('A', name, async (resolver) => some(await resolver.a(name))),
      this.ask('AAAA', name, async (resolver) => some(await resolver.aaaa(name))),
    ]);
    return answers.some(({ kind }) => kind === 'records');
  }

  /** TXT at the names that decide about the SPF record. One that nobody tells of is as good as one without our includes. */
  private async spfTargets(txt: readonly TxtRr[]): Promise<Map<string, readonly DnsAnswer<TxtRr>[]>> {
    const spf: readonly DnsAnswer<TxtRr>[] = [{ kind: 'records', records: txt, aliases: [] }];
    const spfTargets = new Map<string, readonly DnsAnswer<TxtRr>[]>();
    for (;;) {
      const name = spfQuestion({ spf, spfTargets });
      if (name === undefined) return spfTargets;
      spfTargets.set(name, await Promise.all(this.resolvers.map((resolver) => resolver.txt(name))));
    }
  }

  /** @param through what a CNAME leads to counts as well, and has to be readable. */
  private async at(name: string, { mx = false, through = false } = {}): Promise<PublishedName> {
    const alias = await this.ask('CNAME', name, (resolver) => resolver.cname(name));
    const cname = recordsOf(alias)[0] ?? null;
    const look = cname === null || through;
    const [txt, exchanges] = await Promise.all([
      look ? this.ask<TxtRr>('TXT', name, (resolver) => resolver.txt(name)) : nothing,
      look && mx ? this.ask<MxRr>('MX', name, (resolver) => resolver.mx(name)) : nothing,
    ]);
    return { exists: alias.kind !== 'nxdomain', cname, txt: recordsOf(txt), mx: recordsOf(exchanges) };
  }

  /** One answer out of several: those that were given, when they are the same. */
  private async ask<Rr>(
    type: string,
    name: string,
    question: (resolver: Questions) => Promise<DnsAnswer<Rr>>,
  ): Promise<DnsAnswer<Rr>> {
    const answers = await Promise.all(this.resolvers.map(question));
    const given = answers.filter(({ kind }) => kind !== 'unreachable' && kind !== 'servfail');
    const [first, ...others] = given;
    if (!first) {
      const servfail = answers.length > 1 && answers.every(({ kind }) => kind === 'servfail');
      throw new DnsUnanswered(type, name, servfail ? 'servfail' : 'unreachable');
    }
    const content = (answer: DnsAnswer<Rr>) =>
      JSON.stringify(answer.kind === 'records' ? answer.records.map((rr) => JSON.stringify(rr)).sort() : []);
    if (others.some((answer) => content(answer) !== content(first)))
      throw new DnsUnanswered(type, name, 'disagreement');
    return first;
  }
}
