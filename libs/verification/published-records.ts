import type { DnsAnswer, DohClient } from '@app/dns';
import {
  Answers,
  cnameChain,
  dnsPlan,
  followUps,
  namesToRead,
  openTraces,
  possibleZones,
  publishedIn,
  quorum,
  registrableDomain,
  rehearsalQuestions,
  type Answer,
  type NameToRead,
  type Published,
  type Question,
  type Rrs,
  type ToRead,
} from '@app/mail-records';
import { ask, everyResolver, follow } from './follow';
import { followPatienceMs } from './verifier';

/** The questions for a resolver. */
export type Questions = Pick<DohClient, 'mx' | 'txt' | 'cname' | 'soa' | 'ns' | 'a' | 'aaaa'>;

/** Thrown when the DNS could not be read completely. Nothing is concluded from a part of it. */
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

/** Reads the records of a zone for a plan. It never takes a missing answer for a missing record. */
export class PublishedRecords {
  /** @param resolvers independent of each other; each is asked every question. */
  constructor(private readonly resolvers: readonly Questions[]) {}

  /**
   * Gives the zone that holds the records of a name: the nearest name upwards with an SOA record, or the registrable
   * domain where no resolver can tell.
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
   * Gives the zone that holds the records of a name, with its name servers; undefined where no resolver tells them.
   *
   * Name servers are only told to people, so that one answer is enough.
   */
  async nameserversOf(name: string): Promise<{ zone: string; nameservers: readonly string[] } | undefined> {
    const zone = await this.zoneOf(name);
    const answers = await Promise.all(this.resolvers.map((resolver) => resolver.ns(zone)));
    const told = answers.find((answer) => answer.kind === 'records' && answer.aliases.length === 0);
    return told?.kind === 'records' ? { zone, nameservers: told.records } : undefined;
  }

  /**
   * Reads every record that affects a domain's own records.
   *
   * @param domain has no DKIM tokens and no team until it is added.
   * @throws {DnsUnanswered}
   */
  async of(domain: ToRead): Promise<Published> {
    const whole = { team: '', dkimZone: '', sesRegion: '', ...domain };
    const reads = namesToRead(domain);
    const answers = new Answers();
    await Promise.all(reads.map((read) => this.read(read, answers)));
    await follow(
      answers,
      () => openTraces(reads, answers),
      (question) => this.probe(question),
    );
    const patient = everyResolver(this.resolvers, followPatienceMs);
    await follow(answers, () => followUps(whole, answers), patient);
    const advised = (): Question[] => {
      const published = publishedIn(reads, answers);
      return rehearsalQuestions(whole, published, dnsPlan(whole, published));
    };
    await follow(answers, advised, patient);
    return publishedIn(reads, answers);
  }

  /**
   * Reads the MX records of a name, and nothing else.
   *
   * @throws {DnsUnanswered}
   */
  async mailHosts(name: string): Promise<Published> {
    const mx = await this.ask<Rrs['MX']>('MX', name, (resolver) => resolver.mx(name));
    return publishedIn([{ name, mx: true }], new Answers().set('MX', name, [mx]));
  }

  /**
   * Tells whether the name has an IPv4 or IPv6 address.
   *
   * @throws {DnsUnanswered}
   */
  async hasAddress(name: string): Promise<boolean> {
    // The address may differ between resolvers, so only its existence is compared.
    const some = (answer: DnsAnswer<string>): DnsAnswer<string> =>
      answer.kind === 'records' ? { ...answer, records: ['some'] } : answer;
    const answers = await Promise.all([
      this.ask('A', name, async (resolver) => some(await resolver.a(name))),
      this.ask('AAAA', name, async (resolver) => some(await resolver.aaaa(name))),
    ]);
    return answers.some(({ kind }) => kind === 'records');
  }

  /** Reads one name. What stands beside a CNAME, or where it leads, has to be readable only where that counts. */
  private async read({ name, mx = false, through = false }: NameToRead, answers: Answers): Promise<void> {
    const alias = await this.ask('CNAME', name, (resolver) => resolver.cname(name));
    answers.set('CNAME', name, [alias]);
    const target = alias.kind === 'records' ? alias.records[0] : undefined;
    const asked = async <Type extends 'TXT' | 'MX'>(type: Type, isNeeded: boolean): Promise<void> => {
      const question = (resolver: Questions) => ask(resolver, { type, name }) as Promise<Answer<Rrs[Type]>>;
      try {
        answers.set(type, name, [await this.ask<Rrs[Type]>(type, name, question)]);
      } catch (error) {
        const canDoWithout = target !== undefined && (!isNeeded || (await this.isLoop(name)));
        if (!canDoWithout) throw error;
        answers.set(type, name, [{ kind: 'nodata', aliases: [target], ...(alias.dname && { dname: alias.dname }) }]);
      }
    };
    await Promise.all([asked('TXT', through), ...(mx ? [asked('MX', false)] : [])]);
  }

  /** Asks for the answer of a wildcard. Where the name servers fail, the records count as stored. */
  private async probe({ type, name }: Question): Promise<readonly Answer<Rrs[keyof Rrs]>[]> {
    try {
      return [(await this.ask<unknown>(type, name, (resolver) => ask(resolver, { type, name }))) as Answer<never>];
    } catch (error) {
      if (error instanceof DnsUnanswered && error.reason === 'servfail') return [{ kind: 'servfail' }];
      throw error;
    }
  }

  /** Tells whether the CNAMEs from a name lead back to one of them, so that there is nothing to be read behind them. */
  private async isLoop(name: string): Promise<boolean> {
    const answers = new Answers();
    const open = (): Question[] => [cnameChain(name, answers).open ?? []].flat();
    await follow(answers, open, everyResolver(this.resolvers, followPatienceMs));
    return cnameChain(name, answers).loop !== undefined;
  }

  /** Asks all resolvers, and gives their answer when they agree. */
  private async ask<Rr>(
    type: string,
    name: string,
    question: (resolver: Questions) => Promise<DnsAnswer<Rr>>,
  ): Promise<DnsAnswer<Rr>> {
    const content = (answer: DnsAnswer<Rr>) =>
      JSON.stringify(answer.kind === 'records' ? answer.records.map((rr) => JSON.stringify(rr)).sort() : []);
    const agreed = quorum(await Promise.all(this.resolvers.map(question)), content);
    switch (agreed.kind) {
      case 'servfail':
      case 'unreachable':
      case 'disagreement':
        throw new DnsUnanswered(type, name, agreed.kind);
      default:
        return agreed;
    }
  }
}
