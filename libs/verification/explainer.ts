import { setTimeout as delay } from 'node:timers/promises';
import type { DnsAnswer, DohClient } from '@app/dns';
import {
  clueQuestions,
  explain,
  registrableDomain,
  spfWalk,
  type Answer,
  type Clues,
  type DnsAnswers,
  type Expected,
  type Explained,
  type MxRr,
  type ResolverEvidence,
  type SesExplanation,
  type SpfWalk,
  type TxtRr,
} from '@app/mail-domain';
import type { Look } from './verifier';

type Questions = Pick<DohClient, 'mx' | 'txt' | 'cname'>;

export interface ExplainedCheck extends Explained {
  readonly resolvers: readonly (ResolverEvidence & {
    /** Host and path of the resolver's URL. */
    readonly resolver: string;
  })[];
}

/** Asks what else is in the DNS, once a customer wants to know why. Nothing that it finds changes a verdict. */
export class Explainer {
  /**
   * @param resolvers each question goes to the first, and to the next only when it gives no answer.
   * @param names of the resolvers that were asked for the look, in its order.
   * @param patienceMs how long a customer waits for what only explains.
   */
  constructor(
    private readonly resolvers: readonly Questions[],
    private readonly names: readonly string[],
    private readonly patienceMs = 3_000,
  ) {}

  /**
   * Never throws: what cannot be asked in time explains nothing.
   *
   * @param ses null when SES gave no answer.
   */
  async explain(
    domain: Expected,
    { assessment, answers }: Pick<Look, 'assessment' | 'answers'>,
    ses: SesExplanation | null,
  ): Promise<ExplainedCheck[]> {
    const clues = new FoundClues(this.resolvers, this.patienceMs);
    const { txt, mx, cname } = clueQuestions(domain, assessment.findings);
    const isSpfRight = assessment.findings.some(({ check, outcome }) => check === 'spf' && outcome === 'pass');
    const [spf] = await Promise.all([
      isSpfRight ? clues.followSpf(answers) : undefined,
      ...txt.map((name) => clues.askTxt(name)),
      ...mx.map((name) => clues.askMx(name)),
      ...cname.map((name) => clues.askCname(name)),
    ]);
    clues.stop();
    return explain(domain, { assessment, answers, clues, spf, ses }).map((explained) => ({
      ...explained,
      resolvers: explained.resolvers.map((evidence, i) => ({ resolver: this.names[i] ?? '', ...evidence })),
    }));
  }
}

class FoundClues implements Clues {
  readonly txt = new Map<string, readonly TxtRr[]>();
  readonly mx = new Map<string, readonly MxRr[]>();
  readonly cname = new Map<string, readonly string[]>();
  readonly nxdomain = new Set<string>();
  private readonly over = new AbortController();
  private readonly late: Promise<undefined>;

  constructor(
    private readonly resolvers: readonly Questions[],
    patienceMs: number,
  ) {
    this.late = delay(patienceMs, undefined, { signal: this.over.signal }).catch(() => undefined);
  }

  askTxt = (name: string) => this.keep(this.txt, name, (resolver) => resolver.txt(name));
  askMx = (name: string) => this.keep(this.mx, name, (resolver) => resolver.mx(name));
  askCname = (name: string) => this.keep(this.cname, name, (resolver) => resolver.cname(name));

  /** Where the domain's SPF record leads, as far as a receiver reads and time allows. */
  async followSpf({ spf, spfTargets }: DnsAnswers): Promise<SpfWalk | undefined> {
    const targets = new Map<string, readonly Answer<TxtRr>[]>(spfTargets);
    for (;;) {
      const walk = spfWalk(spf, targets);
      const next = walk?.open[0];
      const said = next === undefined ? undefined : await this.askTxt(next);
      if (next !== undefined && said) targets.set(next, [said]);
      else {
        const absent = [...(walk?.targets ?? [])].filter(([, target]) => target.kind === 'none' && target.isNxdomain);
        await Promise.all(absent.map(([name]) => this.askTxt(registrableDomain(name))));
        return walk;
      }
    }
  }

  /** Nothing is waited for any more. */
  stop(): void {
    this.over.abort();
  }

  private async keep<Rr>(
    into: Map<string, readonly Rr[]>,
    name: string,
    question: (resolver: Questions) => Promise<DnsAnswer<Rr>>,
  ): Promise<DnsAnswer<Rr> | undefined> {
    const said = await Promise.race([this.first(question), this.late]);
    if (said?.kind === 'nxdomain') this.nxdomain.add(name);
    if (said?.kind === 'records') into.set(name, said.records);
    if (said?.kind === 'nodata' || said?.kind === 'nxdomain') into.set(name, []);
    return said;
  }

  private async first<Rr>(
    question: (resolver: Questions) => Promise<DnsAnswer<Rr>>,
  ): Promise<DnsAnswer<Rr> | undefined> {
    let answer: DnsAnswer<Rr> | undefined;
    for (const resolver of this.resolvers) {
      answer = await question(resolver);
      if (answer.kind !== 'unreachable' && answer.kind !== 'servfail') break;
    }
    return answer;
  }
}
