import {
  Answers,
  haveSameTokens,
  followUps,
  judge,
  ownership,
  questionsOf,
  type Answer,
  type Assessment,
  type DkimAnswer,
  type Expected,
  type Finding,
  type Requirement,
} from '@app/mail-records';
import type { SesIdentity, SesShards, SesStatuses } from '@app/ses';
import { span } from '@app/tracing';
import { ask, everyResolver, follow, type Resolver } from './follow';

/** A look's answers and its assessment. */
export interface Look {
  readonly answers: Answers;
  /** The answer of SES about the DKIM records. */
  readonly dkim: DkimAnswer;
  /** The identity that SES has for the domain; null when SES was not asked or gave no answer. */
  readonly identity: SesIdentity | null;
  /** Since when at the latest SES has its answer, where it is that of the list of all identities. */
  readonly listedAt?: Date;
  readonly assessment: Assessment;
}

/** What SES has said, or why it has said nothing. */
type SesAnswer = SesIdentity | 'unavailable' | 'identity_missing' | { readonly listedAt: Date };

/** The domain that is looked at. */
export interface LookedAt extends Expected {
  /** The shard of SES that has its identity; the default one when absent. */
  readonly sesShard?: string | undefined;
}

/** Asks the resolvers and SES about a domain, and passes the answers to `judge`. It decides nothing itself. */
export class Verifier {
  /**
   * @param resolvers independent of each other; each is asked every question.
   * @param required what a domain needs to be verified, besides what every domain needs.
   * @param list what the list of all identities has; used where SES itself gives no answer.
   */
  constructor(
    private readonly resolvers: readonly Resolver[],
    private readonly ses: Pick<SesShards, 'get'>,
    private readonly required: readonly Requirement[] = [],
    private readonly list?: Pick<SesStatuses, 'verifiedSince'>,
  ) {}

  /**
   * Makes one look. It asks each resolver the questions of all checks and SES one question, all at once, and then what
   * the answers lead to, such as an SPF record that includes ours by way of another name. Never throws: a check that
   * cannot be asked is `indeterminate`.
   *
   * @param dkim the answer of SES, where the caller has it already.
   */
  async check(domain: LookedAt, dkim?: DkimAnswer): Promise<Assessment> {
    return dkim ? judge(domain, await this.dns(domain), dkim, this.required) : (await this.look(domain)).assessment;
  }

  /** Makes the same look, and gives all answers for an explanation. Never throws. */
  async look(domain: LookedAt): Promise<Look> {
    const [answers, identity] = await Promise.all([this.dns(domain), this.identity(domain)]);
    const dkim = typeof identity === 'string' ? identity : 'listedAt' in identity ? 'success' : identity.status;
    const judged = judge(domain, answers, dkim, this.required);
    if (typeof identity === 'string') return { answers, dkim, identity: null, assessment: judged };
    if ('listedAt' in identity) return { answers, dkim, identity: null, ...identity, assessment: judged };
    const { mailFrom, standing } = identity;
    const assessment = {
      ...judged,
      ...(mailFrom && { sesMailFromStatus: mailFrom.status }),
      ...(standing && { sesIdentity: standing }),
    };
    return { answers, dkim, identity, assessment };
  }

  /**
   * Looks for the ownership records of a name, and for nothing else. Gives a finding for each of some teams, in their
   * order, all by the same answers. Never throws.
   */
  async ownership(name: string, teams: readonly string[]): Promise<Finding[]> {
    const of = (team: string): Expected => ({ name, team, dkimTokens: [], dkimZone: '', sesRegion: '' });
    const answers = new Answers();
    for (const question of ownership.questions(of('')))
      answers.set(
        question.type,
        question.name,
        await Promise.all(this.resolvers.map((resolver) => ask(resolver, question))),
      );
    return teams.map((team) => ownership.judge(of(team), answers));
  }

  /** Asks within one span, since a look has some dozens of questions. */
  private dns(domain: Expected): Promise<Answers> {
    const questions = questionsOf(domain);
    const attributes = {
      'network.protocol.name': 'doh',
      'sendmux.questions': questions.length,
      'sendmux.resolvers': this.resolvers.length,
    };
    return span('ask the resolvers', { kind: 'client', attributes }, () => this.askAll(domain, questions));
  }

  private async askAll(domain: Expected, questions: ReturnType<typeof questionsOf>): Promise<Answers> {
    const said = await Promise.all(
      this.resolvers.map((resolver) => Promise.all(questions.map((question) => ask(resolver, question)))),
    );
    const answers = new Answers();
    for (const [i, { type, name }] of questions.entries())
      answers.set(
        type,
        name,
        said.map((each) => each[i] as Answer<never>),
      );
    await follow(answers, () => followUps(domain, answers), everyResolver(this.resolvers, followPatienceMs));
    return answers;
  }

  private async identity(domain: LookedAt): Promise<SesAnswer> {
    try {
      const call = { signal: AbortSignal.timeout(sesPatienceMs), priority: 'check' as const };
      const identity = await this.ses.get(domain.name, call, domain.sesShard);
      // An identity that signs with other keys says nothing about the records that the customer has to place.
      return identity && haveSameTokens(domain.dkimTokens, identity.tokens) ? identity : 'identity_missing';
    } catch {
      // Whatever the error was, SES gave no answer. A bad status of the list may have been mended since.
      const listedAt = await this.list?.verifiedSince(domain.name, domain.sesShard).catch(() => null);
      return listedAt ? { listedAt } : 'unavailable';
    }
  }
}

/** Milliseconds that a customer's request waits for its turn at SES and for the answer. */
const sesPatienceMs = 10_000;
/** Milliseconds for which one look follows what the answers lead to. */
export const followPatienceMs = 10_000;
